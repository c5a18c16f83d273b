//! What a control application asks of a Weir sidecar.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod connect;
mod error;
mod operation;
mod request;

use std::time::Duration;

use tonic::transport::Channel;
use weir_api::v1::{
    CancelStateOperationRequest, ChangeShareRequest, CopyResponse, ListStateOperationsRequest,
    MoveResponse, NotifyResponse, ShareResponse, StateEvent, StateOperation, notify_response,
    state_service_client::StateServiceClient,
};

pub use connect::{ConnectError, TlsFiles, tls_channel, unix_channel};
pub use error::{Error, Refused};
pub use operation::{Operation, Outcome};
pub use request::{Copy, Guarantee, Move, Notify, Scope, Share, ShareMode, request_id};
/// What the API says of an operation, and why one has failed.
pub use weir_api::v1::{StateFailure, StateOperationState};

/// The largest message that is accepted, in bytes.
const MESSAGE_MAX: usize = 16 << 20;
/// How long the sidecar may take to begin what it is asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A sidecar. Cloning is cheap; all clones share a connection.
#[derive(Clone, Debug)]
pub struct Client {
    api: StateServiceClient<Channel>,
}

impl Client {
    /// Connects to the Unix socket of a sidecar, by default `/run/weir/control.sock`.
    ///
    /// # Errors
    /// When nobody serves it, or does not let this process in.
    pub async fn unix(socket: &std::path::Path) -> Result<Self, ConnectError> {
        Ok(Self::over(unix_channel(socket).await?))
    }

    /// Connects to the TCP address of a sidecar, as `HOST:PORT`, with certificates on both sides.
    ///
    /// # Errors
    /// When it is not reached, or one side does not accept the certificate of the other.
    pub async fn tls(address: &str, files: &TlsFiles) -> Result<Self, ConnectError> {
        Ok(Self::over(tls_channel(address, files).await?))
    }

    /// A sidecar over a connection that is there already.
    pub fn over(channel: Channel) -> Self {
        let api = StateServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        Self { api }
    }

    /// Begins a move: the owner of state changes, from an end to another. It goes on when the
    /// operation is dropped.
    ///
    /// # Errors
    /// When it is refused, or the sidecar is not reached: see [`Error`].
    pub async fn begin_move(&self, asked: &Move) -> Result<Operation<MoveResponse>, Error> {
        let (mut api, request) = (self.api.clone(), asked.request()?);
        Ok(Operation::new(begun(api.r#move(request)).await?))
    }

    /// Moves state and waits for the end.
    ///
    /// # Errors
    /// As those of [`Self::begin_move`], and [`Error::Ended`] when it has ended otherwise than done.
    pub async fn move_state(&self, asked: &Move) -> Result<Outcome, Error> {
        self.begin_move(asked).await?.outcome().await
    }

    /// Begins a copy: state is merged with that of another end. A copy that repeats ends when the
    /// operation is dropped.
    ///
    /// # Errors
    /// As those of [`Self::begin_move`].
    pub async fn begin_copy(&self, asked: &Copy) -> Result<Operation<CopyResponse>, Error> {
        let (mut api, request) = (self.api.clone(), asked.request()?);
        Ok(Operation::new(begun(api.copy(request)).await?))
    }

    /// Copies state and waits for the end.
    ///
    /// # Errors
    /// As those of [`Self::move_state`].
    pub async fn copy(&self, asked: &Copy) -> Result<Outcome, Error> {
        self.begin_copy(asked).await?.outcome().await
    }

    /// Begins a share: instances act on the same state from the time when it is
    /// [in force](Operation::in_force). It goes on when the operation is dropped.
    ///
    /// # Errors
    /// As those of [`Self::begin_move`].
    pub async fn begin_share(&self, asked: &Share) -> Result<Operation<ShareResponse>, Error> {
        let (mut api, request) = (self.api.clone(), asked.request()?);
        Ok(Operation::new(begun(api.share(request)).await?))
    }

    /// Has instances act on the same state, and waits until they do. What comes back follows the
    /// share, which goes on until it is [cancelled](Self::cancel) or its limit is over.
    ///
    /// # Errors
    /// As those of [`Self::begin_move`], and [`Error::Ended`] when they could not.
    pub async fn share(&self, asked: &Share) -> Result<(u64, Operation<ShareResponse>), Error> {
        let mut operation = self.begin_share(asked).await?;
        let id = operation.in_force().await?.id;
        Ok((id, operation))
    }

    /// Lets instances join a share and leave it: these are all that share from here on. Those that
    /// leave keep nothing of what is shared.
    ///
    /// # Errors
    /// As those of [`Self::begin_move`].
    pub async fn change_share(&self, id: u64, instances: &[&str]) -> Result<(), Error> {
        let (mut api, instances) = (self.api.clone(), request::names(instances));
        let request = ChangeShareRequest { change: Some(request::change(None)?), id, instances };
        begun(api.change_share(request)).await.map(drop)
    }

    /// Is told of packets of an end after they are processed, from here on and until its time is over,
    /// so many events were told as were asked for, or what this returns is dropped.
    ///
    /// # Errors
    /// As those of [`Self::begin_move`].
    pub async fn notify(&self, asked: &Notify) -> Result<Events, Error> {
        let mut api = self.api.clone();
        let mut stream = begun(api.notify(asked.request())).await?;
        match stream.message().await.map_err(Error::of)?.and_then(|first| first.note) {
            Some(notify_response::Note::Operation(operation)) => Ok(Events { operation, stream }),
            _ => Err(Error::broken("the sidecar does not say that the notification is in force")),
        }
    }

    /// Operations in progress and the last that ended or were left, newest first; those of an earlier
    /// sidecar too.
    ///
    /// # Errors
    /// When the sidecar is not reached, or can not read its store.
    pub async fn operations(&self) -> Result<Vec<StateOperation>, Error> {
        let mut api = self.api.clone();
        let request = ListStateOperationsRequest { in_progress: false };
        Ok(begun(api.list_operations(request)).await?.operations)
    }

    /// Tells an operation to end: a move is undone, or finishes if it can not be undone any more;
    /// instances that share keep a replica each.
    ///
    /// # Errors
    /// When there is none of that number, or it has ended or was left.
    pub async fn cancel(&self, id: u64) -> Result<(), Error> {
        let mut api = self.api.clone();
        let request = CancelStateOperationRequest { change: Some(request::change(None)?), id };
        begun(api.cancel_operation(request)).await.map(drop)
    }
}

/// What an answer says, within the limit.
async fn begun<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_LIMIT, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(Error::of),
        Err(_) => Err(Error::broken("the sidecar does not answer")),
    }
}

/// Packets that an end has processed. Being told of them ends when this is dropped.
#[derive(Debug)]
pub struct Events {
    operation: Box<StateOperation>,
    stream: tonic::Streaming<NotifyResponse>,
}

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A packet was processed; its flow, as a filter, is what a move of it takes.
    Event(StateEvent),
    /// So many events are missing here, as they were not read as fast as they were raised.
    Gap(u64),
}

impl Events {
    /// Its number among the operations.
    pub fn id(&self) -> u64 {
        self.operation.id
    }

    /// The next event; none when the notification was cancelled, its time is over, or so many were told as
    /// were asked for. It may be dropped while it waits.
    ///
    /// # Errors
    /// [`Error::Ended`] when its end has died or ended it, and when the sidecar is not reached.
    pub async fn next(&mut self) -> Result<Option<Told>, Error> {
        use notify_response::Note;
        let Some(message) = self.stream.message().await.map_err(Error::of)? else {
            return Err(Error::broken("the stream ends without an end of the notification"));
        };
        match message.note {
            Some(Note::Event(event)) => Ok(Some(Told::Event(event))),
            Some(Note::Gap(gap)) => Ok(Some(Told::Gap(gap.lost))),
            Some(Note::Operation(ended)) => match ended.state() {
                StateOperationState::Cancelled | StateOperationState::Done => Ok(None),
                _ => Err(Error::Ended(ended)),
            },
            None => Err(Error::broken("an answer without a note")),
        }
    }
}
