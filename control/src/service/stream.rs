//! Server-side streams: a task that writes into a bounded channel.

use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Code, Response, Status};

use super::Answer;
use crate::fault::Fault;

/// Messages that wait for a slow reader; then the writer waits too. One place more is for the last
/// word.
const BUFFERED: usize = 8;

/// How long a reader may take nothing of a stream of the data plane, which holds one of few slots
/// there; then the stream ends.
const READER_LIMIT: Duration = Duration::from_secs(10);

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where a task writes its answers.
pub(super) type Sink<T> = mpsc::Sender<Result<T, Status>>;

/// Runs `write` in a task of its own; the stream ends when it returns. It should return when the
/// sink is closed, as the reader has gone then.
pub(super) fn spawn<T, F>(write: impl FnOnce(Sink<T>) -> F) -> Answer<Answers<T>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sink, answers) = mpsc::channel(BUFFERED + 1);
    tokio::spawn(write(sink));
    Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
}

/// Passes a stream of the data plane on, each message turned by `turn`. A reader that is cut off is
/// told so: it must not take what it has for all that there is.
pub(super) async fn forward<S, T>(
    mut from: tonic::Streaming<S>,
    sink: Sink<T>,
    turn: impl Fn(S) -> T,
) {
    let Ok(last) = sink.clone().reserve_owned().await else { return };
    loop {
        match from.message().await {
            Ok(None) => return,
            Ok(Some(message)) => match sink.send_timeout(Ok(turn(message)), READER_LIMIT).await {
                Ok(()) => {}
                Err(SendTimeoutError::Closed(_)) => return,
                Err(SendTimeoutError::Timeout(_)) => {
                    last.send(Err(too_slow().into()));
                    return;
                }
            },
            Err(status) => {
                last.send(Err(super::southbound(status).into()));
                return;
            }
        }
    }
}

fn too_slow() -> Fault {
    let message = format!("the listing is not whole: nothing of it was read for {READER_LIMIT:?}");
    Fault::new(Code::Aborted, "READER_TOO_SLOW", message).fix("ask again, and read as it comes")
}
