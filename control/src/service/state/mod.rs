//! `StateService`: state that is moved, copied and told of.

mod convert;

use std::sync::Arc;

use tonic::Request;
use weir_api::{
    dataplane::v1::Guarantee,
    v1::{
        CancelStateOperationRequest, CancelStateOperationResponse, ChangeShareRequest,
        ChangeShareResponse, CopyRequest, CopyResponse, ListStateOperationsRequest,
        ListStateOperationsResponse, MoveRequest, MoveResponse, NotifyRequest, NotifyResponse,
        ShareRequest, ShareResponse, StateFailure, StateGap, StateOperation,
        WatchStateOperationRequest, WatchStateOperationResponse, notify_response::Note,
        state_service_server::StateService,
    },
};

pub(crate) use self::convert::{goes_on, refusal_message, state_message};
use super::{
    Answer, Api, answer, message,
    stream::{self, Answers, Sink},
};
use crate::{
    fault::Fault,
    sidecar::{Found, Notice, Reader, Sidecar, not_taken_up},
    state_manager::{operation::Operation, relay::Told},
};

/// Bytes of a packet in its event at most.
const SNAP_MAX: u32 = 65_535;

#[tonic::async_trait]
impl StateService for Api {
    type MoveStream = Answers<MoveResponse>;

    async fn r#move(&self, request: Request<MoveRequest>) -> Answer<Answers<MoveResponse>> {
        let (request, mut reader) = (message(request), None);
        let job = async {
            let (begun, follows) = self.sidecar.begin_state_move(&request, None).await?;
            reader = Some(follows);
            Ok(MoveResponse { operation: Some(state_message(&begun, begun.started)) })
        };
        let leads = request.guarantee != i32::from(Guarantee::None);
        let begun = if !leads && self.sidecar.are_processes([&request.from, &request.to]) {
            self.sidecar.change_here(&request, request.change.as_ref(), job).await?
        } else {
            self.sidecar.change(&request, request.change.as_ref(), job).await?
        };
        let begun = begun.operation.unwrap_or_default();
        let again = async |id| self.sidecar.begin_state_move(&request, Some(id)).await;
        let reader = match reader {
            Some(reader) => Some(reader),
            None => self.followed(&begun, again).await?,
        };
        self.progress(begun, reader, |operation| MoveResponse { operation })
    }

    type CopyStream = Answers<CopyResponse>;

    async fn copy(&self, request: Request<CopyRequest>) -> Answer<Answers<CopyResponse>> {
        let (request, mut reader) = (message(request), None);
        let job = async {
            let (begun, follows) = self.sidecar.begin_copy(&request, None).await?;
            reader = Some(follows);
            Ok(CopyResponse { operation: Some(state_message(&begun, begun.started)) })
        };
        let begun = if self.sidecar.are_processes([&request.from, &request.to]) {
            self.sidecar.change_here(&request, request.change.as_ref(), job).await?
        } else {
            self.sidecar.change(&request, request.change.as_ref(), job).await?
        };
        let begun = begun.operation.unwrap_or_default();
        let again = async |id| self.sidecar.begin_copy(&request, Some(id)).await;
        let reader = match reader {
            Some(reader) => Some(reader),
            None => self.followed(&begun, again).await?,
        };
        self.progress(begun, reader, |operation| CopyResponse { operation })
    }

    type ShareStream = Answers<ShareResponse>;

    async fn share(&self, request: Request<ShareRequest>) -> Answer<Answers<ShareResponse>> {
        let (request, mut reader) = (message(request), None);
        let job = async {
            let (begun, follows) = self.sidecar.begin_share(&request).await?;
            reader = Some(follows);
            Ok(ShareResponse { operation: Some(state_message(&begun, begun.started)) })
        };
        let begun = self.sidecar.change(&request, request.change.as_ref(), job).await?;
        let begun = begun.operation.unwrap_or_default();
        let reader = match reader {
            Some(reader) => Some(reader),
            None => self.followed_share(&begun).await?,
        };
        self.progress(begun, reader, |operation| ShareResponse { operation })
    }

    async fn change_share(
        &self,
        request: Request<ChangeShareRequest>,
    ) -> Answer<ChangeShareResponse> {
        let request = message(request);
        let job = async {
            let changed = self.sidecar.change_share(&request).await?;
            let operation = Some(state_message(&changed, self.sidecar.now()));
            Ok(ChangeShareResponse { operation })
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }

    type NotifyStream = Answers<NotifyResponse>;

    async fn notify(&self, request: Request<NotifyRequest>) -> Answer<Answers<NotifyResponse>> {
        let request = message(request);
        if request.snap > SNAP_MAX {
            let message = format!("{SNAP_MAX} bytes of a packet are the most");
            let fault = Fault::invalid("SNAP", message).object("snap");
            return Err(fault.fix("ask for so many or less; 0 for none").into());
        }
        let mut notices = self.sidecar.notify(&request).await?;
        let sidecar = Arc::clone(&self.sidecar);
        stream::spawn(move |sink| async move {
            // When the reader goes, so does the receiver: that ends the notification.
            loop {
                let notice = tokio::select! {
                    notice = notices.recv() => notice,
                    () = sink.closed() => return,
                };
                let Some(notice) = notice else { return };
                let note = Some(note(&sidecar, notice));
                if sink.send(Ok(NotifyResponse { note })).await.is_err() {
                    return;
                }
            }
        })
    }

    async fn list_operations(
        &self,
        request: Request<ListStateOperationsRequest>,
    ) -> Answer<ListStateOperationsResponse> {
        let in_progress = message(request).in_progress;
        let mut operations = self.sidecar.list_state_operations().await?;
        operations.retain(|operation| !in_progress || goes_on(operation.state()));
        answer(Ok(ListStateOperationsResponse { operations }))
    }

    type WatchOperationStream = Answers<WatchStateOperationResponse>;

    async fn watch_operation(
        &self,
        request: Request<WatchStateOperationRequest>,
    ) -> Answer<Answers<WatchStateOperationResponse>> {
        let id = message(request).id;
        let found = match self.sidecar.find_state_operation(id).await? {
            Found::Here(operation) => state_message(&operation, self.sidecar.now()),
            Found::Kept(operation) => *operation,
        };
        let reader = self.sidecar.state().follow(id);
        self.progress(found, reader, |operation| WatchStateOperationResponse { operation })
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelStateOperationRequest>,
    ) -> Answer<CancelStateOperationResponse> {
        let request = message(request);
        let job = async {
            let operation = Some(self.sidecar.cancel_operation(request.id).await?);
            Ok(CancelStateOperationResponse { operation })
        };
        answer(self.sidecar.change_here(&request, request.change.as_ref(), job).await)
    }
}

impl Api {
    /// Follows an operation that was begun by an earlier request of the same id. One that has ended
    /// is answered as it ended; one that this sidecar does not know is begun again, and so is one that
    /// ended as its sidecar stopped.
    async fn followed(
        &self,
        begun: &StateOperation,
        again: impl AsyncFnOnce(u64) -> Result<(Operation, Reader), Fault>,
    ) -> Result<Option<Reader>, Fault> {
        if !goes_on(begun.state()) && begun.failure() != StateFailure::Stopping {
            return Ok(None);
        }
        self.sidecar.take_up(begun, again).await
    }

    /// The same of a share, which goes on at the data plane for what is left of its time, or has
    /// ended with it.
    async fn followed_share(&self, begun: &StateOperation) -> Result<Option<Reader>, Fault> {
        if !goes_on(begun.state()) {
            return Ok(None);
        }
        match self.sidecar.find_state_operation(begun.id).await? {
            Found::Here(_) => Ok(self.sidecar.state().follow(begun.id)),
            Found::Kept(_) => Err(not_taken_up(begun.id)),
        }
    }

    /// The stream of an operation, which as a message was `begun`, unless it has ended and nobody has
    /// begun it again.
    fn progress<T: Send + 'static>(
        &self,
        begun: StateOperation,
        reader: Option<Reader>,
        turn: impl Fn(Option<StateOperation>) -> T + Send + 'static,
    ) -> Answer<Answers<T>> {
        let sidecar = Arc::clone(&self.sidecar);
        stream::spawn(|sink| async move {
            if !goes_on(begun.state()) && reader.is_none() {
                // The reader has gone, or has it.
                let _gone = sink.send(Ok(turn(Some(begun)))).await;
                return;
            }
            watch(sidecar, begun.id, sink, turn).await;
            drop(reader);
        })
    }
}

/// Writes an operation each time that it changes, until it has ended.
async fn watch<T>(
    sidecar: Arc<Sidecar>,
    id: u64,
    sink: Sink<T>,
    turn: impl Fn(Option<StateOperation>) -> T,
) {
    let mut table = sidecar.state().watch();
    let mut told = None;
    loop {
        let seen = table.borrow_and_update().find(id).cloned();
        let Some(seen) = seen else { return };
        let ended = seen.state.ended();
        if told.as_ref() != Some(&seen) {
            let next = turn(Some(state_message(&seen, sidecar.now())));
            told = Some(seen);
            if sink.send(Ok(next)).await.is_err() {
                return;
            }
        }
        if ended {
            return;
        }
        tokio::select! {
            changed = table.changed() => if changed.is_err() { return },
            () = sink.closed() => return,
        }
    }
}

fn note(sidecar: &Sidecar, notice: Notice) -> Note {
    match notice {
        Notice::Operation(operation) => {
            Note::Operation(Box::new(state_message(&operation, sidecar.now())))
        }
        Notice::Told(Told::Gap(lost)) => Note::Gap(StateGap { lost }),
        Notice::Told(Told::Event { sequence, event }) => {
            Note::Event(convert::event(sequence, event))
        }
    }
}
