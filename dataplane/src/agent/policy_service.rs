//! `weir.dataplane.v1.PolicyRouteService`.

use std::time::Duration;

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::status::{change, invalid};
use crate::node::NEXT_HOPS_PROBED_MAX;
use crate::policy::POLICIES_MAX;

/// The longest that a caller may wait for answers.
const LIMIT_MAX: Duration = Duration::from_secs(10);
/// The time after which those are asked again who have not answered.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves the policy routes.
#[derive(Debug)]
pub(super) struct PolicyRouteService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::policy_route_service_server::PolicyRouteService for PolicyRouteService {
    async fn list_policy_routes(
        &self,
        _request: Request<api::ListPolicyRoutesRequest>,
    ) -> Result<Response<api::ListPolicyRoutesResponse>, Status> {
        Ok(Response::new(self.0.read(|node, _| node.list_policies()).await?))
    }

    async fn put_policy_routes(
        &self,
        request: Request<api::PutPolicyRoutesRequest>,
    ) -> Result<Response<api::PutPolicyRoutesResponse>, Status> {
        let api::PutPolicyRoutesRequest { change: named, routes } = request.into_inner();
        let change = change(named)?;
        bounded("routes", routes.len())?;
        self.0.change(move |node, now| node.put_policies(&change, &routes, now)).await??;
        Ok(Response::new(api::PutPolicyRoutesResponse {}))
    }

    async fn remove_policy_routes(
        &self,
        request: Request<api::RemovePolicyRoutesRequest>,
    ) -> Result<Response<api::RemovePolicyRoutesResponse>, Status> {
        let api::RemovePolicyRoutesRequest { change: named, names } = request.into_inner();
        let change = change(named)?;
        bounded("names", names.len())?;
        self.0.change(move |node, _| node.remove_policies(&change, &names)).await??;
        Ok(Response::new(api::RemovePolicyRoutesResponse {}))
    }

    async fn probe_next_hops(
        &self,
        request: Request<api::ProbeNextHopsRequest>,
    ) -> Result<Response<api::ProbeNextHopsResponse>, Status> {
        let api::ProbeNextHopsRequest { next_hops, limit_ns } = request.into_inner();
        if next_hops.len() > NEXT_HOPS_PROBED_MAX {
            let reason = format!("are more than {NEXT_HOPS_PROBED_MAX}");
            return Err(invalid("next_hops", &reason));
        }
        let limit = Duration::from_nanos(limit_ns);
        if limit > LIMIT_MAX {
            return Err(invalid("limit_ns", &format!("is more than {LIMIT_MAX:?}")));
        }
        let nonce = getrandom::u64()
            .map_err(|error| Status::internal(format!("no random number to ask with: {error}")))?;
        self.0.change(move |node, now| node.begin_probe(&next_hops, nonce, now)).await??;
        let answered = tokio::time::timeout(limit, self.all_answered(nonce)).await;
        let left = self.0.change(move |node, _| {
            let left = node.unanswered(nonce);
            node.end_probe(nonce);
            left
        });
        let left = left.await?.ok_or_else(forgotten)?;
        match answered {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(status)) => return Err(status),
        }
        Ok(Response::new(api::ProbeNextHopsResponse { unanswered: left }))
    }
}

impl PolicyRouteService {
    /// Asks again until nobody is left.
    async fn all_answered(&self, nonce: u64) -> Result<(), Status> {
        let mut changes = self.0.changes();
        let mut again = tokio::time::interval(AGAIN);
        again.tick().await;
        loop {
            let left = self.0.read(move |node, _| node.unanswered(nonce)).await?;
            match left {
                None => return Err(forgotten()),
                Some(left) if left.is_empty() => return Ok(()),
                Some(_) => {}
            }
            tokio::select! {
                changed = changes.changed() => {
                    changed.map_err(|_| Status::unavailable("the data plane is stopping"))?;
                }
                _ = again.tick() => {
                    self.0.change(move |node, _| node.repeat_probe(nonce)).await?;
                }
            }
        }
    }
}

/// A question that others have taken the place of: nobody knows who has answered.
fn forgotten() -> Status {
    Status::aborted("too many others have asked since")
}

/// Refuses more than there may be.
fn bounded(field: &str, count: usize) -> Result<(), Status> {
    if count <= POLICIES_MAX {
        return Ok(());
    }
    Err(invalid(field, &format!("are more than {POLICIES_MAX}")))
}
