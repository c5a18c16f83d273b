//! Weir side by side with others, over veth.

mod cable;
mod cost;
/// CPU time of forwarding, beside the kernel's own.
pub mod forward;
