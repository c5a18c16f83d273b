//! Lets the policy look at each new set of loads, and acts on what it says.

use std::sync::Arc;

use super::Sidecar;
use crate::{
    scaling::{
        decide::{Decider, Decision, Verdict},
        operation::Origin,
    },
    store::LoggedDecision,
};

impl Sidecar {
    /// Decides at each look at the data plane; acts only while scaling by itself is on.
    pub(super) async fn autoscale(self: Arc<Self>) {
        let mut decider = Decider::default();
        let mut link = self.link();
        let mut operating = false;
        loop {
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                () = self.stopped() => return,
            }
            let now_ns = self.clock.now_ns();
            if self.operation_in_progress().is_some() {
                operating = true;
                continue;
            }
            if std::mem::take(&mut operating) {
                decider.changed(now_ns);
            }
            let decision = {
                let seen = link.borrow_and_update();
                if seen.node.is_none() {
                    self.decision.send_replace(None);
                    continue;
                }
                decider.observe(self.policy(), now_ns, seen.active(), &seen.loads)
            };
            self.decision.send_replace(Some(decision.clone()));
            // Without an instance there is nothing to judge; converging brings the first one up.
            if self.auto() && decision.verdict != Verdict::Keep && decision.from > 0 {
                self.act(decision).await;
                decider.changed(self.clock.now_ns());
            }
        }
    }

    async fn act(self: &Arc<Self>, mut decision: Decision) {
        let begun = {
            let _guard = self.changes.lock().await;
            self.begin_scale(decision.to, Origin::Auto, "").await
        };
        let operation = match begun {
            Ok(operation) => operation.id,
            Err(fault) => {
                tracing::warn!(error = %fault, "cannot do what the policy says");
                decision.reason = format!("{}; refused: {fault}", decision.reason);
                0
            }
        };
        let logged = LoggedDecision { at_unix_ns: self.clock.unix_ns(), decision, operation };
        if let Err(error) = self.store.run(move |database| database.log_decision(&logged)).await {
            tracing::error!(%error, "cannot log a decision");
        }
    }
}
