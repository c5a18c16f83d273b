//! Network functions: what an instance does with packets besides routing them.

pub mod assets;
mod chain;
pub mod connection;
mod figures;
pub mod firewall;
mod function;
mod idle;
pub mod ids;
#[cfg(test)]
pub(crate) mod laws;
mod life;
mod log;
mod multi_flow;
pub mod nat;
mod numbered;
mod origin;
mod record;
pub mod schema;
mod share;
mod side;
mod southbound;
mod timestamp;
mod totals;

pub(crate) use chain::{Caught, During, kept};
pub use chain::{Chain, ChainConfig, ChainError, FUNCTIONS_MAX, FunctionConfig};
pub use function::FlowState;
pub(crate) use function::{Passing, Refused};
pub use life::REPLICAS_OF_A_LIFE;
pub use multi_flow::MultiFlow;
pub(crate) use multi_flow::{LeftBehind, MultiFlowCursor};
pub use record::{Log, Record};
pub use share::{Answer, Group, Operation, Piece};
pub(crate) use share::{Concern, Shared, Sharing, Update};
pub use side::{Both, Side};
pub use timestamp::Timestamp;
