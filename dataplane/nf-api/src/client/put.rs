//! What is put, message by message.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;
use tonic::Status;
use weir_api::nf::v1 as api;
use weir_api::refusal::cut;
use weir_state_transfer::chunk::Scope;

use super::{CallError, Client};
use crate::batch::Batch;
use crate::convert::SAID_MAX;

/// What has become of what was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Chunks that were taken in, from the first on.
    pub taken: u64,
    /// Why the next one was not, if one was refused. What follows it was not looked at.
    pub refusal: Option<Refusal>,
}

/// Why a chunk is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What programs match on.
    pub reason: api::RefusalReason,
    /// The same for people, in 1 KiB at most.
    pub message: String,
}

pub(super) async fn run(
    client: &Client,
    scope: Scope,
    chunks: impl Stream<Item = Vec<u8>> + Send + 'static,
) -> Result<Put, CallError> {
    let (mut api, refuse_older) = (client.api(), client.refuse_older);
    let sent = Arc::<AtomicU64>::default();
    let messages = Messages {
        chunks: Box::pin(chunks),
        batch: Batch::default(),
        ended: false,
        refuse_older,
        sent: Arc::clone(&sent),
    };
    let answer = async move {
        match scope {
            Scope::PerFlow => api.put_per_flow(messages).await,
            Scope::MultiFlow => api.put_multi_flow(messages).await,
            Scope::AllFlows => api.put_all_flows(messages).await,
        }
    };
    let answer = while_it_goes_on(client, answer, &sent).await?;
    let api::PutResponse { taken, refusal } = answer.into_inner();
    let refusal = refusal.map(|refusal| {
        let (reason, message) = (refusal.reason(), cut(&refusal.message, SAID_MAX));
        Refusal { reason, message }
    });
    Ok(Put { taken, refusal })
}

/// The answer, as long as messages leave, or the network function answers other calls: many chunks
/// leave in a moment, and may take it long.
async fn while_it_goes_on<T>(
    client: &Client,
    answer: impl Future<Output = Result<T, Status>>,
    sent: &AtomicU64,
) -> Result<T, CallError> {
    let limit = client.limit;
    let mut answer = std::pin::pin!(answer);
    let mut before = None;
    loop {
        let now = sent.load(Ordering::Relaxed);
        let is_silent = before.replace(now) == Some(now);
        let answered = if is_silent {
            tokio::select! {
                answered = &mut answer => Some(answered),
                alive = client.describe() => match alive {
                    Err(CallError::Late { .. }) => return Err(CallError::Late { call: "put", limit }),
                    alive => alive.map(|_| None)?,
                },
            }
        } else {
            None
        };
        let answered = match answered {
            None => tokio::time::timeout(limit, &mut answer).await.ok(),
            answered => answered,
        };
        if let Some(answered) = answered {
            return answered.map_err(|status| CallError::of(&status));
        }
    }
}

/// Chunks as messages, which are counted when the connection takes them.
struct Messages {
    chunks: Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>,
    batch: Batch,
    ended: bool,
    refuse_older: bool,
    sent: Arc<AtomicU64>,
}

impl Messages {
    fn poll_chunks(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Vec<u8>>>> {
        while !self.ended {
            match self.chunks.as_mut().poll_next(context) {
                Poll::Ready(Some(chunk)) => {
                    if let Some(full) = self.batch.push(chunk) {
                        return Poll::Ready(Some(full));
                    }
                }
                Poll::Ready(None) => self.ended = true,
                // What there is need not wait for more.
                Poll::Pending => {
                    let some = self.batch.rest();
                    return if some.is_some() { Poll::Ready(some) } else { Poll::Pending };
                }
            }
        }
        Poll::Ready(self.batch.rest())
    }
}

impl Stream for Messages {
    type Item = api::PutRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunks = ready!(self.poll_chunks(context));
        self.sent.fetch_add(1, Ordering::Relaxed);
        let refuse_older = self.refuse_older;
        Poll::Ready(chunks.map(|chunks| api::PutRequest { chunks, refuse_older }))
    }
}
