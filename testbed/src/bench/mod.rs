//! Weir side by side with others, and what its network functions cost.

mod cable;
/// CPU time of forwarding, beside the kernel's own.
pub mod forward;
mod quartiles;
/// Getting and putting the state of a flow.
pub mod state;
