//! Weir side by side with others, over veth.

mod cable;
/// CPU time of forwarding, beside the kernel's own.
pub mod forward;
