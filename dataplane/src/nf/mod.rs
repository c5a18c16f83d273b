//! Network functions: what an instance does with packets besides routing them.

mod chain;
pub mod connection;
pub mod firewall;
mod function;
pub mod ids;
#[cfg(test)]
mod laws;
mod log;
mod numbered;
pub mod schema;
mod southbound;
mod timestamp;
mod totals;

pub use chain::{Chain, ChainConfig, ChainError, FUNCTIONS_MAX, FunctionConfig};
pub use function::FlowState;
pub(crate) use function::{Refused, Shown};
pub use timestamp::Timestamp;
