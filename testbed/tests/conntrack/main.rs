//! The kernel's own connection tracking as a network function: entries that are taken from the
//! kernel of one network namespace and put into that of another, by the agent `weir-nf-conntrack`.
//!
//! All need root and fail without it. Each makes its own namespaces and removes them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and tell")]

mod agent;
mod conversations;
mod death;
mod figures;
mod led;
mod moves;
mod network;
mod relay;
mod round_trip;
mod selective;
mod switch;
