//! What a scale operation sees of the data plane, told at each change.

use std::time::Duration;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};
use weir_api::dataplane::v1::WatchNodeResponse;

use super::{REQUEST_LIMIT, Southbound, observed};
use crate::scaling::machine::Observed;

/// Messages that one look takes at most: of a data plane that always has another the last of these
/// is as good.
const TAKEN_MAX: usize = 16;

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

    /// What there is when something has changed since the last look; when nothing is told within
    /// `limit`, what there is then. A change may be told after the answer to the request that made
    /// it, so what is seen need not be [`complete`](Observed::complete).
    ///
    /// # Errors
    /// As the data plane says, UNAVAILABLE, or DEADLINE_EXCEEDED when it does not answer.
    pub async fn changed(&mut self, limit: Duration) -> Result<Observed, Status> {
        match tokio::time::timeout(limit, self.told()).await {
            Ok(told) => told.map(|told| observed(&told, false)),
            Err(_elapsed) => self.now().await,
        }
    }

    /// What there is, [`complete`](Observed::complete).
    ///
    /// # Errors
    /// As [`Self::changed`].
    pub async fn now(&mut self) -> Result<Observed, Status> {
        // A new stream begins with what there is; what an old one has yet to tell is older.
        self.stream = None;
        match tokio::time::timeout(REQUEST_LIMIT, self.told()).await {
            Ok(told) => told.map(|told| observed(&told, true)),
            Err(_elapsed) => {
                let message = format!("no answer within {REQUEST_LIMIT:?}");
                Err(Status::deadline_exceeded(message))
            }
        }
    }

    /// The newest of what the data plane has told, at least one message. It may be dropped while
    /// it waits: it takes no message before it returns.
    async fn told(&mut self) -> Result<WatchNodeResponse, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.southbound.watch(&self.prefix).await?),
        };
        let newest = newest(stream).await;
        let newest = newest.unwrap_or_else(|| Err(Status::unavailable("the data plane stops")));
        if newest.is_err() {
            self.stream = None;
        }
        newest
    }
}

/// The newest of what a stream has, at least one message. It may be dropped while it waits.
async fn newest<T>(
    stream: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
) -> Option<Result<T, Status>> {
    let mut newest = stream.next().await;
    for _ in 1..TAKEN_MAX {
        if !matches!(newest, Some(Ok(_))) {
            break;
        }
        tokio::select! {
            biased;
            newer = stream.next() => newest = newer,
            () = std::future::ready(()) => break,
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_always_has_more_is_not_read_for_ever() {
        let mut endless = tokio_stream::iter((0..).map(Ok));
        assert_eq!(newest(&mut endless).await.unwrap().unwrap(), TAKEN_MAX - 1);
        let last = Err(Status::unavailable("over"));
        let mut ends = tokio_stream::iter([Ok(1), Ok(2), last, Ok(3)]);
        assert!(newest(&mut ends).await.unwrap().is_err());
        assert!(newest(&mut ends).await.is_none(), "it is over, whatever it told before");
    }
}
