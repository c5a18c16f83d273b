//! A caching HTTP proxy as a network function in a process of its own.
//!
//! Clients ask it for `http` URLs in absolute form and it answers from its store where RFC 9111 lets
//! it. Its state can be moved, copied and shared over `weir.nf.v1`: cached objects are multi-flow
//! state, statistics all-flows, idle client connections per-flow.
//!
//! ```text
//! clients ── connection ── proxy ── upstream ── origins
//!                            │
//!                          cache    store, statistics, subscriptions: one thread, no lock
//!                            │
//! peers ── weir.nf.v1 ───── desk    between two steps of the proxy
//! ```
#![forbid(unsafe_code)]

mod cache;
mod clock;
mod connection;
mod kinds;
mod proxy;
mod refusals;
mod run;
mod settings;
mod statistics;
mod store;

pub use kinds::{CONNECTION, OBJECT, STATISTICS};
pub use run::{RunError, run};
pub use settings::{Limits, Settings, SettingsError};
pub use statistics::{Figure, Statistics};
