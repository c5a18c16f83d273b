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
    store::DesiredRoute,
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
        if anew {
            self.program_routes().await?;
        }
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
        let wanted = self.store.run(|database| database.routes()).await?;
        let removed = self.store.run(|database| database.removed_routes()).await?;
        if wanted.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let present = self.southbound.list_routes().await;
        let present = present.map_err(|status| Fault::from_dataplane(&status))?;
        let node = self.southbound.node().await.map_err(|s| Fault::from_dataplane(&s))?;
        let change = |what: &str, prefix: &str| {
            let request_id = format!("{what}-{:016x}/{prefix}", node.incarnation);
            Change { request_id, generation: 0 }
        };
        let is_present = |prefix: &String| present.iter().any(|route| route.prefix == *prefix);
        let (unwanted, gone): (Vec<_>, Vec<_>) = removed.into_iter().partition(is_present);
        for prefix in unwanted {
            let change = Some(change("u", &prefix));
            let ask = RemoveRouteRequest { change, prefix: prefix.clone() };
            if let Err(status) = self.southbound.routes().remove_route(ask).await {
                tracing::warn!(prefix, error = status.message(), "route stays");
            }
        }
        self.store.run(move |database| database.forget_removed(&gone)).await?;
        for route in wanted {
            let known = present.iter().any(|r| r.prefix == route.prefix && r.via == route.via);
            if known {
                continue;
            }
            let change = change("r", &route.prefix);
            let DesiredRoute { prefix, via, port } = route;
            let route = Route { prefix, via, port };
            if let Err(status) = self.southbound.add_route(change, route.clone()).await {
                tracing::warn!(prefix = route.prefix, error = status.message(), "route refused");
            }
        }
        Ok(())
    }
}

fn count(running: &Running, state: Lifecycle) -> u32 {
    running.instances.iter().filter(|instance| instance.state == state).count() as u32
}
