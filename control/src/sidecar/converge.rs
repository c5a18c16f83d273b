//! Brings a data plane that differs from the desired state back to it.

use std::{sync::Arc, time::Duration};

use weir_api::dataplane::v1::{Change, RemoveRouteRequest, Route};

use super::{Link, Sidecar};
use crate::{
    fault::Fault,
    scaling::{
        operation::Origin,
        plan::{Lifecycle, Running},
    },
    southbound::why,
    store::{Database, DesiredRoute},
};

/// The wait after an attempt that failed.
const TROUBLE_WAIT: Duration = Duration::from_secs(1);

impl Sidecar {
    /// Looks at each change of the link whether the node is what it shall be.
    pub(super) async fn converge(self: Arc<Self>) {
        let mut link = self.link();
        let mut programmed = None;
        loop {
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                () = self.stopped() => return,
            }
            let seen = link.borrow_and_update().clone();
            let Some(incarnation) = seen.node.as_ref().map(|node| node.incarnation) else {
                programmed = None;
                continue;
            };
            let outcome = self.converge_once(&seen, programmed != Some(incarnation)).await;
            match outcome {
                Ok(()) => programmed = Some(incarnation),
                Err(fault) => {
                    tracing::warn!(error = %fault, "cannot converge to the desired state");
                    tokio::select! {
                        () = tokio::time::sleep(TROUBLE_WAIT) => {}
                        () = self.stopped() => return,
                    }
                }
            }
        }
    }

    async fn converge_once(self: &Arc<Self>, seen: &Link, anew: bool) -> Result<(), Fault> {
        // What is not as it shall be of one keeps nothing else from being so.
        let mut policies = Ok(());
        if anew {
            self.program_routes().await?;
        }
        if anew || self.policies_due() {
            policies = self.program_policies().await;
        }
        let left = self.take_up_left(anew).await;
        self.converge_instances(seen).await?;
        policies.and(left)
    }

    /// Brings the number of instances to the desired one.
    async fn converge_instances(self: &Arc<Self>, seen: &Link) -> Result<(), Fault> {
        if self.operation_in_progress().is_some() {
            return Ok(());
        }
        let desired = self.store.run(|database| database.desired()).await?.instances;
        let settled = seen.instances.len() as u32 == seen.active();
        if desired == Some(seen.active()) && settled {
            return Ok(());
        }
        let _guard = self.changes.lock().await;
        if self.operation_in_progress().is_some() {
            return Ok(());
        }
        // What was seen may be older than the last change.
        let running = self.southbound.running().await.map_err(|s| Fault::from_dataplane(&s))?;
        let active = count(&running, Lifecycle::Active);
        let desired = self.store.run(|database| database.desired()).await?.instances;
        let Some(desired) = desired else {
            let count = active.max(self.policy().min);
            tracing::info!(instances = count, "takes what runs as the desired state");
            self.store.run(move |database| database.set_instances(count)).await?;
            return Ok(());
        };
        let stopping = count(&running, Lifecycle::Stopping);
        if active != desired || active + stopping < running.instances.len() as u32 {
            self.begin_scale(desired, Origin::Converge, "").await?;
        }
        Ok(())
    }

    /// Adds the routes of the store that the data plane does not have, and removes those that its
    /// configuration has and callers have removed.
    async fn program_routes(&self) -> Result<(), Fault> {
        // A caller's change must not come between what is read here and what is done about it.
        let _guard = self.changes.lock().await;
        let kept = |database: &mut Database| Ok((database.routes()?, database.removed_routes()?));
        let (wanted, removed) = self.store.run(kept).await?;
        if wanted.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let present = self.southbound.list_routes().await;
        let present = present.map_err(|status| Fault::from_dataplane(&status))?;
        for prefix in removed {
            if present.iter().any(|route| route.prefix == prefix) {
                self.remove_again(prefix).await?;
            }
        }
        for DesiredRoute { prefix, via, port } in wanted {
            let route = Route { prefix, via, port };
            if present.contains(&route) {
                continue;
            }
            if let Err(status) = self.southbound.add_route(Change::default(), route.clone()).await {
                tracing::warn!(prefix = route.prefix, error = why(&status), "route refused");
            }
        }
        Ok(())
    }

    /// Removes a route that a start of the data plane brought back.
    async fn remove_again(&self, prefix: String) -> Result<(), Fault> {
        let ask = RemoveRouteRequest { change: None, prefix: prefix.clone() };
        match self.southbound.routes().remove_route(ask).await {
            Ok(removed) if removed.get_ref().configured => {
                tracing::info!(prefix, "removed a route of the configuration, as callers had");
            }
            // Its configuration has it no more: somebody added it past the sidecar.
            Ok(_) => self.store.run(move |database| database.forget_removed(&prefix)).await?,
            Err(status) => tracing::warn!(prefix, error = why(&status), "route stays"),
        }
        Ok(())
    }
}

fn count(running: &Running, state: Lifecycle) -> u32 {
    running.instances.iter().filter(|instance| instance.state == state).count() as u32
}
