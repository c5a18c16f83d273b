//! Sharing in every interleaving of a small node, and in random ones of a larger.
//!
//! The machines are those that are shipped; `model` is the node around them, `seen` what it is
//! checked for: among it that what the operations gave back is linearizable (`linear`).

#![expect(clippy::print_stdout, reason = "a search says how much it has seen")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod defects;
mod every_order;
mod explore;
mod faults;
mod linear;
mod model;
mod node;
mod scope;
mod seen;
mod store;
mod walk;
