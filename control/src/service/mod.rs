//! The northbound API `weir.v1`: one file a noun, and the server around them.

mod convert;
mod counters;
mod flows;
mod instances;
mod moves;
mod nfs;
mod policies;
mod ports;
mod routes;
mod scale;
mod server;
mod state;
mod stats;
mod status;
mod stream;
mod transfer;
mod workers;

use std::sync::Arc;

use tonic::{Request, Response, Status};

pub use self::server::{ServeError, Server, serve};
pub(crate) use self::state::{goes_on, refusal_message, state_message};
use crate::{fault::Fault, sidecar::Sidecar};

/// Implements all services of `weir.v1`.
#[derive(Debug, Clone)]
pub struct Api {
    sidecar: Arc<Sidecar>,
}

impl Api {
    /// The API of this sidecar.
    pub fn new(sidecar: Arc<Sidecar>) -> Self {
        Self { sidecar }
    }
}

/// What a method of a service returns.
type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(outcome: Result<T, Fault>) -> Answer<T> {
    outcome.map(Response::new).map_err(Status::from)
}

/// Splits off the message of a request; nothing here needs its metadata.
fn message<T>(request: Request<T>) -> T {
    request.into_inner()
}

/// A fault of the data plane as it is passed on.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn southbound(status: Status) -> Fault {
    Fault::from_dataplane(&status)
}
