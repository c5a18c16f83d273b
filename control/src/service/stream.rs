//! Server-side streams: a task that writes into a bounded channel.

use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Response, Status};

use super::Answer;

/// Messages that wait for a slow reader; then the writer waits too.
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
    let (sink, answers) = mpsc::channel(BUFFERED);
    tokio::spawn(write(sink));
    Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
}

/// Passes a stream of the data plane on, each message turned by `turn`.
pub(super) async fn forward<S, T>(
    mut from: tonic::Streaming<S>,
    sink: Sink<T>,
    turn: impl Fn(S) -> T,
) {
    loop {
        let sent = match from.message().await {
            Ok(None) => return,
            Ok(Some(message)) => sink.send_timeout(Ok(turn(message)), READER_LIMIT).await.is_ok(),
            Err(status) => {
                // The stream ends with this error, or the reader has gone.
                let _ = sink.send(Err(super::southbound(status).into())).await;
                false
            }
        };
        if !sent {
            return;
        }
    }
}
