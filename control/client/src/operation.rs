//! Operations as their callers follow them.

use std::time::Duration;

use tonic::Streaming;
use weir_api::dataplane::v1::SharePhase;
use weir_api::v1::{
    CopyResponse, MoveResponse, ShareResponse, StateOperation, StateOperationState,
};

use crate::Error;

/// A message that has an operation.
pub trait Progress {
    /// The operation.
    fn operation(self) -> Option<StateOperation>;
}

impl Progress for MoveResponse {
    fn operation(self) -> Option<StateOperation> {
        self.operation
    }
}

impl Progress for CopyResponse {
    fn operation(self) -> Option<StateOperation> {
        self.operation
    }
}

impl Progress for ShareResponse {
    fn operation(self) -> Option<StateOperation> {
        self.operation
    }
}

/// A move, a copy or a share that goes on.
#[derive(Debug)]
pub struct Operation<T> {
    stream: Streaming<T>,
    last: Option<StateOperation>,
}

/// What an operation that is done has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its number.
    pub id: u64,
    /// Flows that a move between two instances has moved.
    pub flows: u64,
    /// Chunks that were put, and their bytes.
    pub chunks: u64,
    /// See `chunks`.
    pub bytes: u64,
    /// Rounds of a copy.
    pub rounds: u64,
    /// Pieces of state that stay at the source, as the filter names only some of what they are
    /// about, which is to be copied or shared; or as they have changed there since they were moved.
    pub left_behind: u64,
    /// What the first 64 of them are about.
    pub left_behind_ids: Vec<String>,
    /// Flows that finish at the source, because they are in use there; of a copy, in its last round.
    pub in_use: u64,
    /// How long it took.
    pub took: Duration,
}

impl Operation<ShareResponse> {
    /// Waits until all instances share.
    ///
    /// # Errors
    /// [`Error::Ended`] when it has ended before, and as [`Self::next`].
    pub async fn in_force(&mut self) -> Result<StateOperation, Error> {
        while let Some(seen) = self.next().await? {
            if seen.share.as_ref().is_some_and(|share| share.phase() == SharePhase::Steady) {
                return Ok(seen);
            }
        }
        match self.last.take() {
            Some(last) => Err(Error::Ended(Box::new(last))),
            None => Err(Error::broken("the stream has no operation")),
        }
    }
}

impl<T: Progress> Operation<T> {
    pub(crate) fn new(stream: Streaming<T>) -> Self {
        Self { stream, last: None }
    }

    /// How far it has come, when that has changed; none when it has ended. It may be dropped while it
    /// waits.
    ///
    /// # Errors
    /// When the sidecar is not reached; the operation may go on.
    pub async fn next(&mut self) -> Result<Option<StateOperation>, Error> {
        let message = self.stream.message().await.map_err(Error::of)?;
        let Some(seen) = message.and_then(Progress::operation) else { return Ok(None) };
        self.last = Some(seen.clone());
        Ok(Some(seen))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`Error::Ended`] when it has ended otherwise than done, and as [`Self::next`].
    pub async fn outcome(mut self) -> Result<Outcome, Error> {
        while self.next().await?.is_some() {}
        let last = self.last.ok_or_else(|| Error::broken("the stream has no operation"))?;
        match last.state() {
            StateOperationState::Done => Ok(Outcome {
                id: last.id,
                flows: last.flows,
                chunks: last.chunks,
                bytes: last.bytes,
                rounds: last.rounds,
                left_behind: last.left_behind,
                left_behind_ids: last.left_behind_ids,
                in_use: last.in_use,
                took: Duration::from_nanos(last.elapsed_ns),
            }),
            StateOperationState::Running | StateOperationState::Undoing => {
                Err(Error::broken("the stream ends before the operation"))
            }
            _ => Err(Error::Ended(Box::new(last))),
        }
    }
}
