//! The southbound API of network functions in processes of their own, `weir.nf.v1`.
//!
//! [`server`] serves anything that implements `weir_state_transfer::southbound::Southbound`, and
//! [`client`] asks such a process. [`conformance`] tells whether a process, in whatever language it
//! is written, keeps the rules that moves, copies and shares rely on.
#![forbid(unsafe_code)]

mod batch;
pub mod client;
pub mod conformance;
mod convert;
mod counters;
mod description;
pub mod server;
mod status;

pub use convert::{scope_message, scope_of};
pub use description::{Description, Kind, Malformed};
