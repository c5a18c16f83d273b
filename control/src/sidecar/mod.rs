//! The running sidecar: what its tasks share, and how they start and stop.

mod autoscale;
mod changes;
mod converge;
mod driver;
mod link;
mod pause;
mod peer;
mod policies;
mod scale;
mod state;

use std::sync::{Arc, atomic::AtomicBool};

use prost::Name as _;
use tokio::sync::{Mutex, watch};
use weir_api::v1::{MoveRequest, ShareRequest};

pub use self::link::Link;
pub use self::pause::{Pause, PauseError};
use self::state::StateOperations;
pub(crate) use self::state::{Found, Listed, Notice, Reader, not_taken_up, outcome_message};
use crate::{
    clock::Clock,
    config::Config,
    fault::Fault,
    scaling::{
        decide::Decision,
        machine::Machine,
        operation::{Operation, StepName},
        policy::Policy,
    },
    southbound::Southbound,
    state_manager::lead::Stage,
    store::{Store, StoreError},
};

/// Everything that the tasks of a sidecar share.
#[derive(Debug)]
pub struct Sidecar {
    config: Config,
    clock: Clock,
    store: Store,
    southbound: Southbound,
    pause_at: Option<StepName>,
    pause_move_at: Option<Stage>,
    /// Held while a change is checked and begun, so that changes are judged one by one.
    changes: Mutex<()>,
    /// The same for changes that the data plane is not asked for, which do not wait for it.
    changes_here: Mutex<()>,
    /// The policy routes of the store could not be put.
    policies_due: AtomicBool,
    /// The operation in progress, or the last one.
    operation: watch::Sender<Option<Operation>>,
    /// Whether an operation is being driven.
    driving: watch::Sender<bool>,
    /// The number of the operation that was last asked to be undone.
    undo: watch::Sender<u64>,
    link: watch::Sender<Link>,
    /// What the policy said last.
    decision: watch::Sender<Option<Decision>>,
    auto: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    state: StateOperations,
}

impl Sidecar {
    /// Opens the store, takes up an operation that an earlier sidecar left, and starts the tasks.
    ///
    /// `pause_at` makes operations stand still before a step or a stage, for tests.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub async fn start(config: Config, pause_at: Option<Pause>) -> Result<Arc<Self>, StoreError> {
        let (pause_at, pause_move_at) = Pause::divide(pause_at);
        let store = Store::open(&config.control.store)?;
        let (desired, last) = store
            .run(|database| {
                let (shares, moves) = (ShareRequest::full_name(), MoveRequest::full_name());
                if let Err(error) = database.close_all_but(&shares, &moves) {
                    // Some answers are kept for longer.
                    tracing::warn!(%error, "what an earlier sidecar left is not written down");
                }
                Ok((database.desired()?, database.operations(1)?.pop()))
            })
            .await?;
        let sidecar = Arc::new(Self {
            clock: Clock::start(),
            southbound: Southbound::new(&config.control.dataplane_socket),
            store,
            pause_at,
            pause_move_at,
            changes: Mutex::new(()),
            changes_here: Mutex::new(()),
            policies_due: AtomicBool::default(),
            operation: watch::Sender::new(last.clone()),
            driving: watch::Sender::new(false),
            undo: watch::Sender::new(0),
            link: watch::Sender::new(Link::default()),
            decision: watch::Sender::new(None),
            auto: watch::Sender::new(desired.auto.unwrap_or(config.scaling.auto)),
            stop: watch::Sender::new(false),
            state: StateOperations::new(&config.control),
            config,
        });
        sidecar.take_up_led_moves().await?;
        if let Some(unfinished) = last.filter(|operation| !operation.state.ended()) {
            tracing::info!(operation = unfinished.id, "takes up an unfinished operation");
            let started_ns = sidecar.clock.now_ns().wrapping_sub(unfinished.elapsed_ns);
            sidecar.spawn_driver(Machine::resume(unfinished, pause_at), started_ns);
        }
        tokio::spawn(Arc::clone(&sidecar).keep_link());
        tokio::spawn(Arc::clone(&sidecar).autoscale());
        tokio::spawn(Arc::clone(&sidecar).converge());
        Ok(sidecar)
    }

    /// Ends the tasks; an operation in progress finishes its current step and stays in the
    /// journal. Operations on state end, but for moves between instances.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut driving = self.driving.subscribe();
        // The sender lives as long as `self`, so the wait ends with the driver.
        let _ = driving.wait_for(|driving| !driving).await;
        self.state.stop().await;
    }

    /// What it was told at start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The policy of scaling.
    pub fn policy(&self) -> &Policy {
        &self.config.scaling
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn southbound(&self) -> &Southbound {
        &self.southbound
    }

    /// The operation in progress, or the last one, as it changes.
    pub(crate) fn operations(&self) -> watch::Receiver<Option<Operation>> {
        self.operation.subscribe()
    }

    /// What the data plane showed last, as it changes.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// What the policy said last.
    pub(crate) fn decision(&self) -> Option<Decision> {
        self.decision.borrow().clone()
    }

    /// Whether the policy scales.
    pub(crate) fn auto(&self) -> bool {
        *self.auto.borrow()
    }

    /// Lets the policy scale, or stops it.
    pub(crate) async fn set_auto(&self, auto: bool) -> Result<(), Fault> {
        self.store.run(move |database| database.set_auto(auto)).await?;
        self.auto.send_replace(auto);
        Ok(())
    }

    /// The operation in progress, if any.
    pub(crate) fn operation_in_progress(&self) -> Option<Operation> {
        self.operation.borrow().clone().filter(|operation| !operation.state.ended())
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Ends when the sidecar is told to stop.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
