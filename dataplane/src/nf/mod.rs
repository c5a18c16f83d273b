//! Network functions: what an instance does with packets besides routing them.

mod chain;
pub mod connection;
mod figures;
pub mod firewall;
pub mod ids;
#[cfg(test)]
mod laws;
mod life;
mod numbered;
pub mod schema;

pub use chain::{Chain, ChainConfig, ChainError, FUNCTIONS_MAX, FlowState, FunctionConfig};
pub(crate) use chain::{During, Refused, Shown, kept};
pub use life::REPLICAS_OF_A_LIFE;
