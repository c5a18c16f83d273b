//! The sidecar against a fake data plane: its logic, its server and its command line.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bounds;
mod cli;
mod cli_refused;
mod cli_shown;
mod client;
mod deaths;
mod in_use;
mod lead;
mod lead_failures;
mod lead_holds;
mod limits;
mod listing;
mod lives;
mod notify;
mod planner;
mod process;
mod progress;
mod readers;
mod refused;
mod scaling;
mod server;
mod share;
mod spoilt;
mod state;
mod store;
mod support;
mod tls;
mod transfer;
mod transfer_faults;
mod transfer_refused;
mod uncertain;
