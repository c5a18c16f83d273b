//! Network functions: what an instance does with packets besides routing them.

pub mod connection;
pub mod firewall;
pub mod ids;
pub mod wire;
