//! Protocol MARK in every interleaving of a small node, and in random ones of a larger.
//!
//! The machines are those that are shipped; `model` is the node around them, `reduce` says which
//! interleavings are left out because they show nothing new.

#![expect(clippy::print_stdout, reason = "a search says how much it has seen")]

mod ends;
mod every_order;
mod explore;
mod faults;
mod model;
mod node;
mod reduce;
mod scope;
mod walk;
