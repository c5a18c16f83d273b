//! `weir.dataplane.v1.MoveService`.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;
use weir_api::dataplane::v1::start_move_request::Selection as Asked;
use weir_api::nf::v1::Scope as AskedScope;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::mark::{Guarantee, Request as Move};
use weir_state_transfer::{MoveId, Selection};

use super::NodeHandle;
use super::status::{change, invalid};
use crate::node::{NodeError, instance_id};

/// Serves moves.
#[derive(Debug)]
pub(super) struct MoveService(pub(super) NodeHandle);

/// States of a move that wait for its watcher.
const BACKLOG: usize = 16;

#[tonic::async_trait]
impl api::move_service_server::MoveService for MoveService {
    async fn start_move(
        &self,
        request: Request<api::StartMoveRequest>,
    ) -> Result<Response<api::StartMoveResponse>, Status> {
        let request = request.into_inner();
        let change = change(request.change)?;
        let (from, to) = (instance_id("from", request.from)?, instance_id("to", request.to)?);
        let asked = Move::new(from, to, selection(request.selection)?);
        let asked = asked.scoped(&scopes(&request.scopes)?).map_err(NodeError::from)?;
        let asked = Move { guarantee: guarantee(request.guarantee)?, ..asked };
        let (no_queue, wait) = (request.no_queue, request.wait);
        let started = self
            .0
            .change(move |node, now| node.start_move(&change, asked, no_queue, now))
            .await??;
        let shown = if wait { ended(&self.0, started).await? } else { started };
        Ok(Response::new(api::StartMoveResponse { r#move: Some(shown) }))
    }

    async fn list_moves(
        &self,
        _request: Request<api::ListMovesRequest>,
    ) -> Result<Response<api::ListMovesResponse>, Status> {
        let moves = self.0.read(|node, _| node.list_moves()).await?;
        Ok(Response::new(api::ListMovesResponse { moves }))
    }

    type WatchMoveStream = ReceiverStream<Result<api::WatchMoveResponse, Status>>;

    async fn watch_move(
        &self,
        request: Request<api::WatchMoveRequest>,
    ) -> Result<Response<Self::WatchMoveStream>, Status> {
        let id = MoveId(request.into_inner().id);
        let (to, stream) = mpsc::channel(BACKLOG);
        let shown = self.0.read(move |node, _| node.show_move(id)).await??;
        tokio::spawn(send_phases(self.0.clone(), shown, to));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn undo_move(
        &self,
        request: Request<api::UndoMoveRequest>,
    ) -> Result<Response<api::UndoMoveResponse>, Status> {
        let id = MoveId(request.into_inner().id);
        let undone = self.0.change(move |node, now| node.undo_move(id, now)).await??;
        Ok(Response::new(api::UndoMoveResponse { r#move: Some(undone) }))
    }
}

/// The move when it has ended.
async fn ended(node: &NodeHandle, mut shown: api::Move) -> Result<api::Move, Status> {
    let mut changes = node.changes();
    while !is_over(shown.phase()) {
        shown = next_phase(node, &shown, &mut changes).await?;
    }
    Ok(shown)
}

fn is_over(phase: api::MovePhase) -> bool {
    matches!(phase, api::MovePhase::Done | api::MovePhase::Undone)
}

/// The move when it is in another phase than it was.
async fn next_phase(
    node: &NodeHandle,
    shown: &api::Move,
    changes: &mut watch::Receiver<u64>,
) -> Result<api::Move, Status> {
    let (id, phase) = (MoveId(shown.id), shown.phase());
    loop {
        changes.mark_unchanged();
        let next = node.read(move |node, _| node.show_move(id)).await??;
        if next.phase() != phase {
            return Ok(next);
        }
        changes.changed().await.map_err(|_| Status::unavailable("the data plane is stopping"))?;
    }
}

/// Sends a move each time that its phase has changed, and ends with the final phase or when nobody
/// watches any more. Phases that pass while the node is not looked at are not seen.
async fn send_phases(
    node: NodeHandle,
    first: api::Move,
    to: mpsc::Sender<Result<api::WatchMoveResponse, Status>>,
) {
    let mut changes = node.changes();
    let mut shown = first;
    loop {
        let seen = Ok(api::WatchMoveResponse { r#move: Some(shown.clone()) });
        if to.send(seen).await.is_err() || is_over(shown.phase()) {
            return;
        }
        let next = tokio::select! {
            next = next_phase(&node, &shown, &mut changes) => next,
            () = to.closed() => return,
        };
        match next {
            Ok(next) => shown = next,
            Err(error) => {
                // Whoever has gone away does not need to know.
                let _sent = to.send(Err(error)).await;
                return;
            }
        }
    }
}

fn selection(asked: Option<Asked>) -> Result<Selection, Status> {
    match asked {
        Some(Asked::Filter(text)) => match text.parse() {
            Ok(filter) => Ok(Selection::Filter(filter)),
            Err(error) => Err(invalid("filter", &format!("{error}"))),
        },
        Some(Asked::Buckets(text)) => match text.parse() {
            Ok(buckets) => Ok(Selection::Buckets(buckets)),
            Err(error) => Err(invalid("buckets", &format!("{error}"))),
        },
        None => Err(invalid("selection", "say which flows: filter or buckets")),
    }
}

fn guarantee(asked: i32) -> Result<Guarantee, Status> {
    match api::Guarantee::try_from(asked) {
        Ok(api::Guarantee::Unspecified) => Ok(Guarantee::default()),
        Ok(api::Guarantee::None) => Ok(Guarantee::None),
        Ok(api::Guarantee::LossFree) => Ok(Guarantee::LossFree),
        Ok(api::Guarantee::Ordered) => Ok(Guarantee::Ordered),
        Err(_) => Err(invalid("guarantee", "is none of none, loss-free, ordered")),
    }
}

fn scopes(asked: &[i32]) -> Result<Vec<Scope>, Status> {
    let known = |asked: &i32| match AskedScope::try_from(*asked) {
        Ok(AskedScope::PerFlow) => Ok(Scope::PerFlow),
        Ok(AskedScope::MultiFlow) => Ok(Scope::MultiFlow),
        Ok(AskedScope::AllFlows) => Ok(Scope::AllFlows),
        Ok(AskedScope::Unspecified) | Err(_) => {
            Err(invalid("scopes", "are per-flow, multi-flow or both"))
        }
    };
    asked.iter().map(known).collect()
}
