//! Network functions: what they know of flows, and what they make of packets. No I/O, no clock.

pub mod connection;
pub mod firewall;
pub mod ids;
mod wire;
