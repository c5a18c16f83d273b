//! The packet side of the Weir router: ports, workers, steering, switch instances.
//!
//! A packet's way reads top down: [`worker`] polls a [`port`], [`packet`] parses, [`steering`]
//! finds the owner, an [`instance`] keeps the flow, and the worker transmits. [`node`] is what the
//! API changes, `agent` serves it and `driver` runs the threads. [`nf`] holds the network functions.

#![forbid(unsafe_code)]

mod address_map;
pub mod agent;
pub mod boot;
pub mod config;
pub mod counters;
pub mod driver;
pub mod icmp_error;
pub mod instance;
pub mod local;
mod moves;
pub mod neighbour;
pub mod nf;
pub mod node;
pub mod packet;
pub mod policy;
pub mod port;
pub mod route_table;
pub mod share;
pub mod steering;
mod sync;
pub mod token_bucket;
pub mod worker;
