//! Operations on state as tests ask for them.

use std::path::PathBuf;

use tonic::{Status, Streaming};
use weir_api::{
    dataplane::v1::{Guarantee, Share, SharePhase},
    nf::v1::Scope,
    v1::{
        CancelStateOperationRequest, CopyRequest, ListNfProcessesRequest,
        ListStateOperationsRequest, MoveRequest, NotifyRequest, NotifyResponse, ShareRequest,
        ShareResponse, StateOperation, StateOperationState, WatchStateOperationRequest,
        move_request::Selection, nf_service_client::NfServiceClient, notify_response::Note,
        state_service_client::StateServiceClient,
    },
};

use super::{
    nf::{Monitor, Nf},
    node::{Node, Running, change, limited},
};

/// A node with two network functions, `a` and `b`.
pub(crate) struct Pair {
    pub(crate) node: Node,
    pub(crate) a: Nf,
    pub(crate) b: Nf,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let node = Node::new(2);
        let (a, b) = (socket(&node, "a"), socket(&node, "b"));
        Self { a: Nf::start(&a, Monitor::new(1)), b: Nf::start(&b, Monitor::new(2)), node }
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        socket(&self.node, name)
    }

    /// A sidecar that knows both, and where another, `third`, would be.
    pub(crate) fn start(&self) -> Running {
        let nf = |name| {
            let socket = socket(&self.node, name);
            format!("[[control.nf]]\nname = '{name}'\nsocket = '{}'\n", socket.display())
        };
        self.node.start_with(&["a", "b", "third"].map(nf).concat(), None)
    }
}

fn socket(node: &Node, name: &str) -> PathBuf {
    node.directory.0.join(format!("{name}.sock"))
}

/// A move without guarantee.
pub(crate) fn moved(id: &str, from: &str, to: &str, filter: &str) -> MoveRequest {
    MoveRequest {
        change: Some(change(id)),
        from: from.to_owned(),
        to: to.to_owned(),
        selection: Some(Selection::Filter(filter.to_owned())),
        scopes: vec![Scope::PerFlow.into(), Scope::MultiFlow.into()],
        guarantee: Guarantee::None.into(),
        limit_ns: 0,
    }
}

/// A copy of multi-flow state.
pub(crate) fn copied(id: &str, from: &str, to: &str, filter: &str) -> CopyRequest {
    CopyRequest {
        change: Some(change(id)),
        from: from.to_owned(),
        to: to.to_owned(),
        filter: filter.to_owned(),
        ..CopyRequest::default()
    }
}

/// A strong share without an end.
pub(crate) fn shared(id: &str, instances: &[&str], filter: &str) -> ShareRequest {
    ShareRequest {
        change: Some(change(id)),
        instances: instances.iter().map(|name| (*name).to_owned()).collect(),
        filter: filter.to_owned(),
        ..ShareRequest::default()
    }
}

impl Running {
    pub(crate) async fn state(&self) -> StateServiceClient<tonic::transport::Channel> {
        StateServiceClient::new(self.channel().await)
    }

    /// Moves, and returns the operation when it has ended.
    pub(crate) async fn moves(&self, request: MoveRequest) -> Result<StateOperation, Status> {
        let mut stream = self.state().await.r#move(request).await?.into_inner();
        let mut last = None;
        while let Some(seen) = limited(stream.message()).await? {
            last = seen.operation;
        }
        Ok(last.expect("an operation"))
    }

    /// Copies, and returns the operation when it has ended.
    pub(crate) async fn copies(&self, request: CopyRequest) -> Result<StateOperation, Status> {
        let mut stream = self.state().await.copy(request).await?.into_inner();
        let mut last = None;
        while let Some(seen) = limited(stream.message()).await? {
            last = seen.operation;
        }
        Ok(last.expect("an operation"))
    }

    /// Begins a share, and returns the operation when all instances share; with what follows.
    pub(crate) async fn shares(
        &self,
        request: ShareRequest,
    ) -> Result<(StateOperation, Streaming<ShareResponse>), Status> {
        let mut stream = self.state().await.share(request).await?.into_inner();
        loop {
            let seen = limited(stream.message()).await?.expect("it has not ended");
            let operation = seen.operation.expect("an operation");
            let phase = operation.share.as_ref().map(Share::phase);
            if phase == Some(SharePhase::Steady)
                || operation.state() != StateOperationState::Running
            {
                return Ok((operation, stream));
            }
        }
    }

    /// Begins to be told; the operation, and what is told.
    pub(crate) async fn notified(
        &self,
        end: &str,
        filter: &str,
        snap: u32,
    ) -> Result<(StateOperation, Streaming<NotifyResponse>), Status> {
        let (end, filter) = (end.to_owned(), filter.to_owned());
        self.notified_as(NotifyRequest { end, filter, snap, ..NotifyRequest::default() }).await
    }

    /// The same as a request has it.
    pub(crate) async fn notified_as(
        &self,
        request: NotifyRequest,
    ) -> Result<(StateOperation, Streaming<NotifyResponse>), Status> {
        let mut stream = self.state().await.notify(request).await?.into_inner();
        match limited(stream.message()).await?.and_then(|first| first.note) {
            Some(Note::Operation(operation)) => Ok((*operation, stream)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn state_operations(&self) -> Vec<StateOperation> {
        let request = ListStateOperationsRequest { in_progress: false };
        self.state().await.list_operations(request).await.unwrap().into_inner().operations
    }

    pub(crate) async fn cancel(&self, id: u64) -> Result<(), Status> {
        let change = Some(change(&format!("cancel {id} {}", weir_seed::any())));
        let request = CancelStateOperationRequest { change, id };
        self.state().await.cancel_operation(request).await.map(drop)
    }

    /// The operation of a number when it has ended.
    pub(crate) async fn state_ended(&self, id: u64) -> StateOperation {
        let request = WatchStateOperationRequest { id };
        let mut stream = self.state().await.watch_operation(request).await.unwrap().into_inner();
        let mut last = None;
        while let Some(seen) = limited(stream.message()).await.unwrap() {
            last = seen.operation;
        }
        last.expect("an operation")
    }

    /// Waits until a network function is reached, as when it was started again.
    pub(crate) async fn reaches(&self, name: &str) {
        let reached = async {
            let mut client = NfServiceClient::new(self.channel().await);
            loop {
                let asked = client.list_nf_processes(ListNfProcessesRequest {}).await;
                let processes = asked.unwrap().into_inner().processes;
                if processes.iter().any(|nf| nf.name == name && nf.error.is_empty()) {
                    return;
                }
            }
        };
        limited(reached).await;
    }

    /// Waits until an operation is in a state.
    pub(crate) async fn state_is(&self, id: u64, wanted: StateOperationState) -> StateOperation {
        let request = WatchStateOperationRequest { id };
        let mut stream = self.state().await.watch_operation(request).await.unwrap().into_inner();
        loop {
            let seen = limited(stream.message()).await.unwrap().expect("it has not ended");
            let seen = seen.operation.expect("an operation");
            if seen.state() == wanted {
                return seen;
            }
        }
    }

    /// The operation of a number when it has ended. It is not watched meanwhile: who watches a copy
    /// that repeats is one more for whom it goes on.
    pub(crate) async fn state_abandoned(&self, id: u64) -> StateOperation {
        let ended = async {
            loop {
                let all = self.state_operations().await;
                let known = all.into_iter().find(|operation| operation.id == id);
                let known = known.expect("it is remembered");
                if known.state() != StateOperationState::Running {
                    return known;
                }
            }
        };
        limited(ended).await
    }
}
