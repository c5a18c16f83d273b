//! `weir.dataplane.v1.MoveService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;
use weir_api::dataplane::v1::start_move_request::Selection as Asked;
use weir_state_transfer::mark::{Guarantee, Request as Move};
use weir_state_transfer::{MoveId, Selection};

use super::NodeHandle;
use super::fields::{parsed, scopes};
use super::status::{change, invalid};
use super::watching::{Watched, Watching, last, watch};
use crate::node::{Node, NodeError, instance_id};

/// Serves moves.
#[derive(Debug)]
pub(super) struct MoveService(pub(super) NodeHandle);

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
        let asked = asked
            .scoped(&scopes(&request.scopes, "are per-flow, multi-flow or both")?)
            .map_err(NodeError::from)?;
        let asked = Move { guarantee: guarantee(request.guarantee)?, ..asked };
        let (no_queue, wait) = (request.no_queue, request.wait);
        let started = self
            .0
            .change(move |node, now| node.start_move(&change, asked, no_queue, now))
            .await??;
        let id = MoveId(started.id);
        let shown = if wait { last::<api::Move>(&self.0, id).await? } else { started };
        Ok(Response::new(api::StartMoveResponse { r#move: Some(shown) }))
    }

    async fn list_moves(
        &self,
        _request: Request<api::ListMovesRequest>,
    ) -> Result<Response<api::ListMovesResponse>, Status> {
        let moves = self.0.read(|node, _| node.list_moves()).await?;
        Ok(Response::new(api::ListMovesResponse { moves }))
    }

    type WatchMoveStream = Watching<api::Move>;

    async fn watch_move(
        &self,
        request: Request<api::WatchMoveRequest>,
    ) -> Result<Response<Self::WatchMoveStream>, Status> {
        watch::<api::Move>(&self.0, MoveId(request.into_inner().id)).await
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

impl Watched for api::Move {
    type Of = MoveId;
    type Step = api::MovePhase;
    type Message = api::WatchMoveResponse;

    fn show(node: &Node, of: &MoveId) -> Result<Self, NodeError> {
        node.show_move(*of)
    }

    fn step(&self) -> api::MovePhase {
        self.phase()
    }

    fn is_last(&self) -> bool {
        matches!(self.phase(), api::MovePhase::Done | api::MovePhase::Undone)
    }

    fn message(self) -> api::WatchMoveResponse {
        api::WatchMoveResponse { r#move: Some(self) }
    }
}

fn selection(asked: Option<Asked>) -> Result<Selection, Status> {
    match asked {
        Some(Asked::Filter(text)) => parsed("filter", &text).map(Selection::Filter),
        Some(Asked::Buckets(text)) => parsed("buckets", &text).map(Selection::Buckets),
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
