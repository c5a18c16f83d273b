//! What a scale operation sees of the data plane, told at each change.

use std::time::Duration;

use tonic::{Status, Streaming};
use weir_api::dataplane::v1::WatchNodeResponse;

use super::{Southbound, observed};
use crate::scaling::machine::Observed;

/// Follows the instances and the moves of one operation.
#[derive(Debug)]
pub struct View {
    southbound: Southbound,
    prefix: String,
    stream: Option<Streaming<WatchNodeResponse>>,
}

impl View {
    /// Follows moves whose request ids begin with `prefix`.
    pub fn new(southbound: Southbound, prefix: &str) -> Self {
        Self { southbound, prefix: prefix.to_owned(), stream: None }
    }

    /// What there is when something changes; when nothing is told within `limit`, what there is
    /// then. May be dropped while it waits, and loses nothing by that.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn next(&mut self, limit: Duration) -> Result<Observed, Status> {
        match tokio::time::timeout(limit, self.told()).await {
            Ok(told) => told,
            Err(_elapsed) => self.southbound.observe().await,
        }
    }

    /// The newest of what the data plane has told, at least one message.
    async fn told(&mut self) -> Result<Observed, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.southbound.watch(&self.prefix).await?),
        };
        let mut newest = stream.message().await;
        while matches!(newest, Ok(Some(_))) {
            tokio::select! {
                biased;
                newer = stream.message() => newest = newer,
                () = std::future::ready(()) => break,
            }
        }
        match newest {
            Ok(Some(told)) => Ok(observed(told.incarnation, &told.instances, &told.moves)),
            ended => {
                self.stream = None;
                Err(ended.err().unwrap_or_else(|| Status::unavailable("the data plane stops")))
            }
        }
    }
}
