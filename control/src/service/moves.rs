//! `MoveService`: changing the owner of flows.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        ListMovesRequest, ListMovesResponse, StartMoveRequest, StartMoveResponse, UndoMoveRequest,
        UndoMoveResponse, WatchMoveRequest, WatchMoveResponse, move_service_server::MoveService,
        start_move_request::Selection,
    },
};

use super::{
    Answer, Api, answer, message, southbound,
    stream::{self, Answers},
    workers::forwarded,
};
use crate::{fault::Fault, filters};

#[tonic::async_trait]
impl MoveService for Api {
    async fn start_move(&self, request: Request<StartMoveRequest>) -> Answer<StartMoveResponse> {
        let request = message(request);
        let job = self.begin_move(&request);
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }

    async fn list_moves(&self, _: Request<ListMovesRequest>) -> Answer<ListMovesResponse> {
        let moves = self.sidecar.southbound().list_moves().await.map_err(southbound);
        answer(moves.map(|moves| ListMovesResponse { moves }))
    }

    type WatchMoveStream = Answers<WatchMoveResponse>;

    async fn watch_move(
        &self,
        request: Request<WatchMoveRequest>,
    ) -> Answer<Answers<WatchMoveResponse>> {
        let id = message(request).id;
        let mut client = self.sidecar.southbound().moves();
        let watched = client.watch_move(dataplane::WatchMoveRequest { id }).await;
        let watched = watched.map_err(southbound)?.into_inner();
        stream::spawn(|sink| {
            stream::forward(watched, sink, |seen: dataplane::WatchMoveResponse| WatchMoveResponse {
                r#move: seen.r#move,
            })
        })
    }

    async fn undo_move(&self, request: Request<UndoMoveRequest>) -> Answer<UndoMoveResponse> {
        let request = message(request);
        let job = async {
            self.sidecar.refuse_during_operation("undo a move by hand")?;
            let ask = dataplane::UndoMoveRequest { id: request.id };
            let undone = self.sidecar.southbound().moves().undo_move(ask).await;
            Ok(UndoMoveResponse { r#move: undone.map_err(southbound)?.into_inner().r#move })
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }
}

impl Api {
    async fn begin_move(&self, request: &StartMoveRequest) -> Result<StartMoveResponse, Fault> {
        self.sidecar.refuse_during_operation("move flows by hand")?;
        let selection = match &request.selection {
            Some(Selection::Filter(filter)) => {
                let filter = filters::flows(filter)?.to_string();
                dataplane::start_move_request::Selection::Filter(filter)
            }
            Some(Selection::Buckets(text)) => {
                let set = filters::buckets(text)?;
                dataplane::start_move_request::Selection::Buckets(set.to_string())
            }
            None => {
                let fault = Fault::invalid("SELECTION_MISSING", "a move needs flows to move");
                return Err(fault.object("selection").fix("name a filter or buckets"));
            }
        };
        let ask = dataplane::StartMoveRequest {
            change: forwarded(request.change.as_ref()),
            from: self.instance_id(&request.from).await?,
            to: self.instance_id(&request.to).await?,
            selection: Some(selection),
            no_queue: false,
            guarantee: request.guarantee,
            scopes: request.scopes.clone(),
            wait: false,
        };
        let started = self.sidecar.southbound().moves().start_move(ask).await;
        Ok(StartMoveResponse { r#move: started.map_err(southbound)?.into_inner().r#move })
    }
}
