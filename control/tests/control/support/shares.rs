//! Shares of the fake data plane.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use weir_api::dataplane::v1::{
    ChangeShareRequest, ChangeShareResponse, EndShareRequest, EndShareResponse, ListSharesRequest,
    ListSharesResponse, Share, SharePhase, StartShareRequest, StartShareResponse,
    WatchShareRequest, WatchShareResponse, share_service_server::ShareService,
};

use super::{
    fake::{Shared, TICK, id_of},
    model::Model,
};

impl Model {
    fn start_share(&mut self, request: StartShareRequest) -> Result<Share, Status> {
        let request_id = id_of(request.change);
        if let Some(begun) = self.shares.iter().find(|share| share.request_id == request_id) {
            return Ok(begun.clone());
        }
        if request.filter.contains("tcp_flags") {
            return Err(Status::invalid_argument("filter: has fields that sources do not have"));
        }
        let share = Share {
            id: self.shares.len() as u64 + 1,
            request_id,
            instances: request.instances,
            filter: request.filter,
            scopes: request.scopes,
            mode: request.mode,
            phase: SharePhase::Preparing.into(),
            ..Share::default()
        };
        self.shares.push(share.clone());
        Ok(share)
    }

    pub(crate) fn share(&mut self, id: u64) -> Result<&mut Share, Status> {
        let found = self.shares.iter_mut().find(|share| share.id == id);
        found.ok_or_else(|| Status::not_found(format!("there is no share {id}")))
    }

    fn live_share(&mut self, id: u64) -> Result<&mut Share, Status> {
        let share = self.share(id)?;
        match share.phase() {
            SharePhase::Ended => Err(Status::failed_precondition("it has ended")),
            _ => Ok(share),
        }
    }

    /// A share goes a step on.
    fn tick_share(&mut self, id: u64) -> Result<Share, Status> {
        let share = self.share(id)?;
        let next = match share.phase() {
            SharePhase::Preparing => SharePhase::Changing,
            SharePhase::Ending => SharePhase::Ended,
            SharePhase::Unspecified | SharePhase::Changing | SharePhase::Steady => {
                SharePhase::Steady
            }
            SharePhase::Ended => SharePhase::Ended,
        };
        share.set_phase(next);
        Ok(share.clone())
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ShareService for Shared {
    async fn start_share(&self, request: Request<StartShareRequest>) -> Answer<StartShareResponse> {
        let (share, is_mute) = {
            let mut model = self.model();
            (model.start_share(request.into_inner())?, model.mute)
        };
        if is_mute {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(StartShareResponse { share: Some(share) }))
    }

    async fn change_share(
        &self,
        request: Request<ChangeShareRequest>,
    ) -> Answer<ChangeShareResponse> {
        let request = request.into_inner();
        let mut model = self.model();
        let share = model.live_share(request.id)?;
        share.instances = request.instances;
        share.set_phase(SharePhase::Preparing);
        Ok(Response::new(ChangeShareResponse { share: Some(share.clone()) }))
    }

    async fn end_share(&self, request: Request<EndShareRequest>) -> Answer<EndShareResponse> {
        self.model().asked_to_end += 1;
        if self.model().deaf {
            std::future::pending::<()>().await;
        }
        let mut model = self.model();
        let share = model.live_share(request.into_inner().id)?;
        share.set_phase(SharePhase::Ending);
        "asked to".clone_into(&mut share.reason);
        Ok(Response::new(EndShareResponse { share: Some(share.clone()) }))
    }

    async fn list_shares(&self, _: Request<ListSharesRequest>) -> Answer<ListSharesResponse> {
        Ok(Response::new(ListSharesResponse { shares: self.model().shares.clone() }))
    }

    type WatchShareStream = Pin<Box<dyn Stream<Item = Result<WatchShareResponse, Status>> + Send>>;

    async fn watch_share(
        &self,
        request: Request<WatchShareRequest>,
    ) -> Answer<Self::WatchShareStream> {
        let id = request.into_inner().id;
        let shown = self.model().share(id)?.clone();
        let (to, shares) = mpsc::channel(16);
        tokio::spawn(tell(self.clone(), shown, to));
        Ok(Response::new(Box::pin(ReceiverStream::new(shares))))
    }
}

/// Time passes for a share while somebody watches.
async fn tell(
    shared: Shared,
    mut shown: Share,
    to: mpsc::Sender<Result<WatchShareResponse, Status>>,
) {
    let mut told = None;
    while !to.is_closed() {
        if told.as_ref() != Some(&shown) {
            told = Some(shown.clone());
            // The watcher has gone: the loop ends.
            let _gone = to.send(Ok(WatchShareResponse { share: Some(shown.clone()) })).await;
        }
        if shown.phase() == SharePhase::Ended {
            return;
        }
        tokio::time::sleep(TICK).await;
        let next = shared.model().tick_share(shown.id);
        match next {
            Ok(next) => shown = next,
            Err(status) => {
                let _gone = to.send(Err(status)).await;
                return;
            }
        }
    }
}
