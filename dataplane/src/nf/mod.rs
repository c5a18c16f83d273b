//! Network functions: what an instance does with packets besides routing them.

mod chain;
pub mod connection;
pub mod firewall;
mod flow_state;
pub mod ids;
#[cfg(test)]
mod laws;
pub mod nat;
mod numbered;
pub mod schema;

pub use chain::{Chain, ChainConfig, ChainError, FUNCTIONS_MAX, FunctionConfig};
pub(crate) use chain::{Refused, Shown};
pub use flow_state::FlowState;
