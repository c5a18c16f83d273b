//! `weir.dataplane.v1.ShareService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::share::{MEMBERS_MAX, Mode};
use weir_state_transfer::{InstanceId, ShareId};

use super::NodeHandle;
use super::fields::{parsed, scopes};
use super::status::{change, invalid};
use super::watching::{Watched, Watching, watch};
use crate::node::{Node, NodeError, ShareRequest, instance_id};

/// Serves shares.
#[derive(Debug)]
pub(super) struct ShareService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::share_service_server::ShareService for ShareService {
    async fn start_share(
        &self,
        request: Request<api::StartShareRequest>,
    ) -> Result<Response<api::StartShareResponse>, Status> {
        let request = request.into_inner();
        let change = change(request.change)?;
        let asked = ShareRequest {
            instances: instances(&request.instances)?,
            filter: parsed("filter", &request.filter)?,
            scopes: shared_scopes(&request.scopes)?,
            mode: mode(request.mode)?,
        };
        let key = getrandom::u64()
            .map_err(|error| Status::internal(format!("no random number for its key: {error}")))?;
        let started =
            self.0.change(move |node, now| node.start_share(&change, asked, key, now)).await??;
        Ok(Response::new(api::StartShareResponse { share: Some(started) }))
    }

    async fn change_share(
        &self,
        request: Request<api::ChangeShareRequest>,
    ) -> Result<Response<api::ChangeShareResponse>, Status> {
        let request = request.into_inner();
        let (change, id) = (change(request.change)?, ShareId(request.id));
        let members = instances(&request.instances)?;
        let changed =
            self.0.change(move |node, now| node.change_share(&change, id, &members, now)).await??;
        Ok(Response::new(api::ChangeShareResponse { share: Some(changed) }))
    }

    async fn end_share(
        &self,
        request: Request<api::EndShareRequest>,
    ) -> Result<Response<api::EndShareResponse>, Status> {
        let request = request.into_inner();
        let (change, id) = (change(request.change)?, ShareId(request.id));
        let ended = self.0.change(move |node, now| node.end_share(&change, id, now)).await??;
        Ok(Response::new(api::EndShareResponse { share: Some(ended) }))
    }

    async fn list_shares(
        &self,
        _request: Request<api::ListSharesRequest>,
    ) -> Result<Response<api::ListSharesResponse>, Status> {
        let shares = self.0.read(|node, _| node.list_shares()).await?;
        Ok(Response::new(api::ListSharesResponse { shares }))
    }

    type WatchShareStream = Watching<api::Share>;

    async fn watch_share(
        &self,
        request: Request<api::WatchShareRequest>,
    ) -> Result<Response<Self::WatchShareStream>, Status> {
        watch::<api::Share>(&self.0, ShareId(request.into_inner().id)).await
    }
}

impl Watched for api::Share {
    type Of = ShareId;
    /// Its phase and its view.
    type Step = (api::SharePhase, u64);
    type Message = api::WatchShareResponse;

    fn show(node: &Node, of: &ShareId) -> Result<Self, NodeError> {
        node.show_share(*of)
    }

    fn step(&self) -> Self::Step {
        (self.phase(), self.view)
    }

    fn is_last(&self) -> bool {
        self.phase() == api::SharePhase::Ended
    }

    fn message(self) -> api::WatchShareResponse {
        api::WatchShareResponse { share: Some(self) }
    }
}

fn instances(asked: &[u32]) -> Result<Vec<InstanceId>, Status> {
    if asked.len() > MEMBERS_MAX {
        return Err(invalid("instances", &format!("are more than {MEMBERS_MAX}")));
    }
    Ok(asked.iter().map(|id| instance_id("instances", *id)).collect::<Result<_, _>>()?)
}

/// What is shared when nothing is said is what is known of several flows.
fn shared_scopes(asked: &[i32]) -> Result<Vec<Scope>, Status> {
    if asked.is_empty() {
        return Ok(vec![Scope::MultiFlow]);
    }
    let mut scopes = scopes(asked, "are multi-flow")?;
    scopes.sort_unstable();
    scopes.dedup();
    Ok(scopes)
}

fn mode(asked: i32) -> Result<Mode, Status> {
    match api::ShareMode::try_from(asked) {
        Ok(api::ShareMode::Unspecified | api::ShareMode::Strong) => Ok(Mode::Strong),
        Ok(api::ShareMode::Strict) => Ok(Mode::Strict),
        Err(_) => Err(invalid("mode", "is none of strong, strict")),
    }
}
