//! `weir.dataplane.v1.ShareService`.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;
use weir_api::nf::v1::Scope as AskedScope;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::share::{MEMBERS_MAX, Mode};
use weir_state_transfer::{InstanceId, ShareId, StateFilter};

use super::NodeHandle;
use super::status::{change, invalid};
use crate::node::{ShareRequest, instance_id};

/// Serves shares.
#[derive(Debug)]
pub(super) struct ShareService(pub(super) NodeHandle);

/// States of a share that wait for its watcher.
const BACKLOG: usize = 16;

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
            filter: filter(&request.filter)?,
            scopes: scopes(&request.scopes)?,
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

    type WatchShareStream = ReceiverStream<Result<api::WatchShareResponse, Status>>;

    async fn watch_share(
        &self,
        request: Request<api::WatchShareRequest>,
    ) -> Result<Response<Self::WatchShareStream>, Status> {
        let id = ShareId(request.into_inner().id);
        let (to, stream) = mpsc::channel(BACKLOG);
        let shown = self.0.read(move |node, _| node.show_share(id)).await??;
        tokio::spawn(watch(self.0.clone(), shown, to));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Sends a share each time that its phase or its view has changed, and ends when it has ended or
/// nobody watches any more. What passes while the node is not looked at is not seen.
async fn watch(
    node: NodeHandle,
    first: api::Share,
    to: mpsc::Sender<Result<api::WatchShareResponse, Status>>,
) {
    let mut changes = node.changes();
    let mut shown = first;
    loop {
        let (id, before) = (ShareId(shown.id), (shown.phase(), shown.view));
        if to.send(Ok(api::WatchShareResponse { share: Some(shown) })).await.is_err() {
            return;
        }
        if before.0 == api::SharePhase::Ended {
            return;
        }
        shown = loop {
            changes.mark_unchanged();
            let next = node.read(move |node, _| node.show_share(id)).await;
            match next.and_then(|found| found.map_err(Status::from)) {
                Ok(next) if (next.phase(), next.view) != before => break next,
                Ok(_) => {}
                Err(error) => {
                    // Whoever has gone away does not need to know.
                    let _sent = to.send(Err(error)).await;
                    return;
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = to.closed() => return,
            }
        };
    }
}

fn instances(asked: &[u32]) -> Result<Vec<InstanceId>, Status> {
    if asked.len() > MEMBERS_MAX {
        return Err(invalid("instances", &format!("are more than {MEMBERS_MAX}")));
    }
    Ok(asked.iter().map(|id| instance_id("instances", *id)).collect::<Result<_, _>>()?)
}

fn filter(asked: &str) -> Result<StateFilter, Status> {
    asked.parse().map_err(|error| invalid("filter", &format!("{error}")))
}

fn scopes(asked: &[i32]) -> Result<Vec<Scope>, Status> {
    if asked.is_empty() {
        return Ok(vec![Scope::MultiFlow]);
    }
    let known = |asked: &i32| match AskedScope::try_from(*asked) {
        Ok(AskedScope::PerFlow) => Ok(Scope::PerFlow),
        Ok(AskedScope::MultiFlow) => Ok(Scope::MultiFlow),
        Ok(AskedScope::AllFlows) => Ok(Scope::AllFlows),
        Ok(AskedScope::Unspecified) | Err(_) => Err(invalid("scopes", "are multi-flow")),
    };
    let mut scopes = asked.iter().map(known).collect::<Result<Vec<_>, _>>()?;
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
