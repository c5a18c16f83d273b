//! The policy routes of the data plane: those that moves have put are desired, and come and go here.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use tonic::Status;
use weir_api::dataplane::v1::{
    Change, ListPolicyRoutesRequest, ListPolicyRoutesResponse, PolicyRoute, PolicyRouteState,
    PutPolicyRoutesRequest, RemovePolicyRoutesRequest,
};

use super::Sidecar;
use crate::{fault::Fault, southbound::transient, state_manager::policies};

/// The time between two looks at what is released, at first; each next is twice as long.
const LOOK_FIRST: Duration = Duration::from_millis(2);
/// The longest.
const LOOK_MAX: Duration = Duration::from_millis(200);

/// A policy route that the data plane refuses, and why.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) name: String,
    pub(super) why: String,
}

impl Sidecar {
    pub(super) async fn list_policies(&self) -> Result<ListPolicyRoutesResponse, Status> {
        let ask = ListPolicyRoutesRequest {};
        Ok(self.southbound.policies().list_policy_routes(ask).await?.into_inner())
    }

    /// All of them, or none.
    pub(super) async fn put_policies(&self, routes: Vec<PolicyRoute>) -> Result<(), Status> {
        if routes.is_empty() {
            return Ok(());
        }
        let ask = PutPolicyRoutesRequest { change: Some(Change::default()), routes };
        self.southbound.policies().put_policy_routes(ask).await.map(drop)
    }

    pub(super) async fn remove_policies(&self, names: Vec<String>) -> Result<(), Status> {
        if names.is_empty() {
            return Ok(());
        }
        let ask = RemovePolicyRoutesRequest { change: None, names };
        self.southbound.policies().remove_policy_routes(ask).await.map(drop)
    }

    /// Puts those that the data plane has otherwise, all or none. One whose place is gone, as its data
    /// plane has another configuration now, comes first of all.
    pub(super) async fn put_desired(&self, routes: &[PolicyRoute]) -> Result<(), Status> {
        let listed = routes_of(&self.list_policies().await?);
        self.put_policies(differing(&listed, routes)).await
    }

    /// The same, but those that are refused do not keep the others from being put.
    pub(super) async fn put_each_desired(
        &self,
        routes: &[PolicyRoute],
    ) -> Result<Vec<Refused>, Status> {
        let listed = routes_of(&self.list_policies().await?);
        self.put_each(differing(&listed, routes)).await
    }

    /// Puts all, but for those that are refused.
    async fn put_each(&self, routes: Vec<PolicyRoute>) -> Result<Vec<Refused>, Status> {
        match self.put_policies(routes.clone()).await {
            Err(status) if !transient(&status) => {}
            all => return all.map(|()| Vec::new()),
        }
        let mut refused = Vec::new();
        for route in routes {
            let name = route.name.clone();
            match self.put_policies(vec![route]).await {
                Ok(()) => {}
                Err(status) if transient(&status) => return Err(status),
                Err(status) => refused.push(Refused { name, why: status.message().to_owned() }),
            }
        }
        Ok(refused)
    }

    /// Waits until all that these have held has left.
    pub(super) async fn released(&self, routes: &[PolicyRoute]) -> Result<(), Status> {
        let mut look = LOOK_FIRST;
        loop {
            let listed = self.list_policies().await?;
            let waits = |route: &PolicyRoute| {
                let found = listed.routes.iter().find(|seen| name_of(seen) == route.name);
                found.is_some_and(|seen| seen.holding > 0)
            };
            if listed.adopted && !routes.iter().any(waits) {
                return Ok(());
            }
            tokio::time::sleep(look).await;
            look = LOOK_MAX.min(look * 2);
        }
    }

    /// Puts the policy routes that the store has where the data plane has others, but for those of
    /// moves in progress, and those that hold: a move may have begun since the store was read. Removes
    /// those that decide nothing. What fails is due until it is done.
    pub(in crate::sidecar) async fn program_policies(&self) -> Result<(), Fault> {
        let _guard = self.changes.lock().await;
        let done = self.put_and_remove_policies().await;
        self.policies_due.store(done.is_err(), Ordering::Relaxed);
        done
    }

    /// Whether [`Self::program_policies`] is to be tried again.
    pub(super) fn policies_due(&self) -> bool {
        self.policies_due.load(Ordering::Relaxed)
    }

    async fn put_and_remove_policies(&self) -> Result<(), Fault> {
        let (wanted, moves) = self
            .store
            .run(|database| Ok((database.policy_routes()?, database.led_moves()?)))
            .await?;
        let held = moves.iter().flat_map(|row| &row.plan.held).map(|route| &route.name);
        let held: BTreeSet<_> = held.collect();
        let wanted: Vec<_> =
            wanted.into_iter().filter(|route| !held.contains(&route.name)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let of = |status: Status| Fault::from_dataplane(&status);
        let listed = routes_of(&self.list_policies().await.map_err(of)?);
        let holds =
            |route: &PolicyRoute| listed.iter().any(|seen| seen.holds && seen.name == route.name);
        let free: Vec<_> = wanted.iter().filter(|route| !holds(route)).cloned().collect();
        let put = self.put_each(differing(&listed, &free)).await;
        for Refused { name, why } in put.map_err(of)? {
            tracing::warn!(policy = name, error = why, "policy route refused");
        }
        // One that is planned may be put in front of them.
        if self.state.leads() {
            return Ok(());
        }
        self.remove_idle(&wanted).await
    }

    /// Removes those of the desired that decide nothing: flows have gone back to where the
    /// configuration leads them, or a later move has taken them along with others.
    async fn remove_idle(&self, desired: &[PolicyRoute]) -> Result<(), Fault> {
        let of = |status: Status| Fault::from_dataplane(&status);
        let listed = self.list_policies().await.map_err(of)?;
        let configured = listed.routes.iter().filter(|seen| seen.configured).map(name_of);
        let configured = configured.map(str::to_owned).collect();
        let desired = desired.iter().map(|route| route.name.clone()).collect();
        let idle = policies::idle(&routes_of(&listed), &desired, &configured);
        if idle.is_empty() {
            return Ok(());
        }
        let removed = idle.iter().map(|(name, _)| name.clone()).collect();
        tracing::info!(policies = ?removed, "removes policy routes that decide nothing any more");
        self.remove_policies(removed).await.map_err(of)?;
        Ok(self.store.keep(move |database| database.forget_policies(&idle)).await?)
    }
}

/// Those of the wanted that are not there, or otherwise, in an order in which they can be put.
fn differing(listed: &[PolicyRoute], wanted: &[PolicyRoute]) -> Vec<PolicyRoute> {
    let bare = |route: &PolicyRoute| PolicyRoute { before: String::new(), ..route.clone() };
    let same = |route: &&PolicyRoute| {
        listed.iter().any(|seen| seen.name == route.name && bare(seen) == bare(route))
    };
    let others = wanted.iter().filter(|route| !same(route)).cloned().collect();
    policies::placed(listed, others)
}

pub(super) fn routes_of(listed: &ListPolicyRoutesResponse) -> Vec<PolicyRoute> {
    listed.routes.iter().filter_map(|seen| seen.route.clone()).collect()
}

pub(super) fn name_of(seen: &PolicyRouteState) -> &str {
    seen.route.as_ref().map_or("", |route| route.name.as_str())
}
