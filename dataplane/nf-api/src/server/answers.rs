//! Streams of answers that end with an error when their reader is too slow.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::status;

/// Answers that wait for their reader; then the writer waits too.
const BACKLOG: usize = 2;

/// Where a task writes answers.
#[derive(Debug)]
pub(super) struct Sink<T> {
    to: mpsc::Sender<T>,
    limit: Duration,
    failure: Arc<OnceLock<Status>>,
}

/// What a reader gets of them: an answer that it did not wait for is never taken for the end.
#[derive(Debug)]
pub struct Answers<T> {
    from: mpsc::Receiver<T>,
    failure: Arc<OnceLock<Status>>,
    ended: bool,
}

/// The reader is gone or too slow: nothing more is to be written.
#[derive(Debug)]
pub(super) struct Over;

/// A stream whose reader may take nothing for `limit`.
pub(super) fn answers<T>(limit: Duration) -> (Sink<T>, Answers<T>) {
    let (to, from) = mpsc::channel(BACKLOG);
    let failure = Arc::<OnceLock<Status>>::default();
    (Sink { to, limit, failure: Arc::clone(&failure) }, Answers { from, failure, ended: false })
}

impl<T> Sink<T> {
    /// Waits for room and writes an answer.
    pub(super) async fn send(&self, answer: T) -> Result<(), Over> {
        use mpsc::error::SendTimeoutError;
        self.to.send_timeout(answer, self.limit).await.map_err(|error| {
            if let SendTimeoutError::Timeout(_) = error {
                let what = format!("nothing of the answer was read for {:?}", self.limit);
                self.fail(status::too_slow(&what));
            }
            Over
        })
    }

    /// What the stream ends with, when all that was written is read.
    pub(super) fn fail(&self, failure: Status) {
        // The first counts.
        let _set = self.failure.set(failure);
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(answer) = ready!(self.from.poll_recv(context)) {
            return Poll::Ready(Some(Ok(answer)));
        }
        self.ended = true;
        Poll::Ready(self.failure.get().cloned().map(Err))
    }
}
