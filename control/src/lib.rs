//! The Weir sidecar and its command line.
//!
//! [`sidecar`] is the running thing: it samples loads, drives scale operations and converges to
//! the desired state. Around it: [`service`] serves the northbound API, [`listen`] lets callers
//! in, [`southbound`] reaches the data plane, [`store`] remembers. [`scaling`] and
//! [`state_manager`] are the logic, without I/O or clock.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod fault;
pub mod filters;
pub mod listen;
pub mod pki;
pub mod scaling;
pub mod service;
pub mod sidecar;
pub mod southbound;
pub mod state_manager;
pub mod store;
