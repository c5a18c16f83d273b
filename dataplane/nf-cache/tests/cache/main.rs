//! The proxy from outside: what clients, origins and peers see of it.

mod cli;
mod client;
mod conformance;
mod copies;
mod death;
mod destinations;
mod lies;
mod limits;
mod log;
mod moves;
mod namespaces;
mod network;
mod origin;
mod process;
mod proxy;
mod running;
mod shapes;
mod sidecar;
