//! Drives one scale operation: waits for what the data plane shows, asks the machine, writes down,
//! asks the data plane.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tonic::Status;

use super::Sidecar;
use crate::{
    fault::Fault,
    scaling::{
        machine::{Action, Machine, Next, Observed, Request},
        operation::{Operation, OperationState},
        plan::Lifecycle,
    },
    southbound::{View, transient, why},
};

/// After so long without being told of a change it looks by itself: the machine limits the time
/// in which nothing happens.
const LOOK: Duration = Duration::from_secs(1);
/// The data plane's reason for a request that is beyond one of its bounds.
const BOUND_REACHED: &str = "BOUND_REACHED";
/// The wait after a look, a request or a write that failed.
const TROUBLE_WAIT: Duration = Duration::from_millis(50);

impl Sidecar {
    /// Starts to drive; `started_ns` is when the operation began, on this sidecar's clock. One
    /// that an earlier sidecar began lies on the other side of zero, hence the wrapping sums.
    pub(super) fn spawn_driver(self: &Arc<Self>, machine: Machine, started_ns: u64) {
        self.operation.send_replace(Some(machine.operation().clone()));
        self.driving.send_replace(true);
        let saved = machine.operation().clone();
        let driver = Driver {
            view: View::new(self.southbound.clone(), &machine.operation().token),
            undo: self.undo.subscribe(),
            sidecar: Arc::clone(self),
            machine,
            saved,
            started_ns,
            hurry: false,
        };
        tokio::spawn(driver.drive());
    }
}

struct Driver {
    sidecar: Arc<Sidecar>,
    machine: Machine,
    /// The operation as the journal has it.
    saved: Operation,
    started_ns: u64,
    undo: watch::Receiver<u64>,
    view: View,
    /// Whether the next look is not to wait for a change.
    hurry: bool,
}

impl Driver {
    async fn drive(mut self) {
        let mut told_paused = false;
        while !self.sidecar.stopping() {
            self.take_undo();
            let Some(observed) = self.look().await else { continue };
            let now_ns = self.now_ns();
            let next = self.machine.next(&observed, now_ns);
            if self.machine.operation() != &self.saved && !self.save(&observed).await {
                continue;
            }
            match next {
                Next::Ended => break,
                Next::Look => self.hurry = true,
                Next::Do(actions) => {
                    if self.perform(actions).await {
                        self.rest().await;
                    }
                }
                Next::Await => {
                    if let Some(step) = self.machine.paused_at()
                        && !told_paused
                    {
                        tracing::warn!(%step, "paused before step {step}");
                        told_paused = true;
                    }
                }
            }
        }
        let operation = self.machine.operation();
        tracing::info!(
            operation = operation.id,
            state = ?operation.state,
            reason = operation.reason,
            elapsed_us = operation.elapsed_ns / 1_000,
            "leaves the operation"
        );
        self.sidecar.driving.send_replace(false);
    }

    /// What the data plane shows at its next change; `None` when something else happened.
    async fn look(&mut self) -> Option<Observed> {
        let at_once = std::mem::take(&mut self.hurry);
        let view = &mut self.view;
        let seen = async { if at_once { view.now().await } else { view.changed(LOOK).await } };
        let seen = tokio::select! {
            seen = seen => seen,
            () = self.sidecar.stopped() => return None,
            _ = self.undo.changed() => {
                self.hurry = true;
                return None;
            }
        };
        match seen {
            Ok(observed) => Some(observed),
            Err(status) => {
                tracing::debug!(error = why(&status), "cannot see the data plane");
                self.rest().await;
                None
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.sidecar.clock.now_ns().wrapping_sub(self.started_ns)
    }

    fn take_undo(&mut self) {
        let asked = *self.undo.borrow_and_update();
        if asked == self.machine.operation().id {
            self.machine.undo("undone on request");
        }
    }

    /// Writes the operation down and shows it. Without that nothing is asked of the data plane.
    async fn save(&mut self, observed: &Observed) -> bool {
        let operation = self.machine.operation().clone();
        let instances = match operation.state {
            OperationState::Undone => Some(operation.from),
            // A data plane that restarted is brought to what was asked for; else what there is
            // stays, so that an operation that cannot succeed is not tried for ever.
            OperationState::Failed if observed.incarnation == operation.incarnation => {
                let active = |i: &&_| active(i);
                Some(observed.instances.iter().filter(active).count() as u32)
            }
            _ => None,
        };
        let written = operation.clone();
        let saved = self
            .sidecar
            .store
            .run(move |database| database.save_operation(&written, instances))
            .await;
        match saved {
            Ok(()) => {
                self.saved = operation.clone();
                self.sidecar.operation.send_replace(Some(operation));
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot write the operation down; it waits");
                self.rest().await;
                false
            }
        }
    }

    /// Asks for all actions at once; says whether one of them was refused.
    async fn perform(&mut self, actions: Vec<Action>) -> bool {
        let mut requests = JoinSet::new();
        for action in actions {
            let southbound = self.sidecar.southbound.clone();
            requests.spawn(async move {
                let answer = southbound.perform(&action).await;
                (action, answer)
            });
        }
        let mut trouble = false;
        while let Some(done) = requests.join_next().await {
            let Ok((action, Err(status))) = done else { continue };
            trouble = true;
            self.note_refusal(&action, &status);
        }
        trouble
    }

    fn note_refusal(&mut self, action: &Action, status: &Status) {
        tracing::warn!(step = %action.step, error = why(status), "the step was refused");
        let fault = Fault::from_dataplane(status);
        // A data plane that allows fewer moves at once lets this one wait for its turn.
        let turn = matches!(action.request, Request::Move { .. }) && fault.reason == BOUND_REACHED;
        if !transient(status) && !turn {
            self.machine.refused(action, &fault.message);
        }
    }

    /// Lets trouble pass, unless something is asked for meanwhile; then it looks at once.
    async fn rest(&mut self) {
        self.hurry = true;
        tokio::select! {
            () = tokio::time::sleep(TROUBLE_WAIT) => {}
            () = self.sidecar.stopped() => {}
            _ = self.undo.changed() => {}
        }
    }
}

fn active(instance: &crate::scaling::plan::RunningInstance) -> bool {
    instance.state == Lifecycle::Active
}
