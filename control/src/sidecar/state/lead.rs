//! Moves whose packets the data plane leads: they are held until the source has taken all that it was
//! sent, and released to where their state is. What is done when is said by [`Steps`]; here is what
//! each task does.

use std::{sync::Arc, time::Duration};

use tonic::Status;
use weir_api::dataplane::v1::{
    ListPolicyRoutesResponse, NextHop, PolicyRouteState, ProbeNextHopsRequest,
};
use weir_state_transfer::StateFilter;

use super::processes::{FINISH_LIMIT, Move, Way};
use crate::{
    config::NfProcess,
    fault::Fault,
    sidecar::{
        Sidecar,
        policies::{Refused, name_of, routes_of},
    },
    southbound::transient,
    state_manager::{
        end::End,
        lead::{self, LeadError, LeadStep, Plan, Stage},
        operation::{Asked, Failure, FailureKind, MoveAsked, Selection, State},
        steps::{Piece, Steps},
    },
    store::{LedMove, StoreError},
};

/// How long a function may take to answer behind all that it was sent.
const PROBE_LIMIT: Duration = Duration::from_secs(4);

/// What a move has of the policy routes that lead its packets.
#[derive(Debug)]
pub(super) struct Lead {
    row: LedMove,
    /// The next hops of both functions.
    next_hops: [Vec<NextHop>; 2],
    /// An earlier sidecar has begun it, or a task that a fault has cut off.
    is_taken_up: bool,
    /// The journal has it.
    is_kept: bool,
    /// The data plane may yet be asked to hold: by a request that was not answered.
    is_unsure: bool,
}

impl Lead {
    /// Plans it; nothing is held yet.
    pub(super) async fn plan(
        sidecar: &Sidecar,
        (id, request_id): (u64, &str),
        asked: &MoveAsked,
        filter: &StateFilter,
    ) -> Result<Self, Fault> {
        let ends = [&asked.from, &asked.to].map(|end| sidecar.process(end));
        let [Some(from), Some(to)] = ends else { return Err(not_processes(asked)) };
        // What the configuration alone says is said without the data plane.
        lead::legs(from, to).map_err(|error| not_led(&error, asked))?;
        let seen = tokio::try_join!(sidecar.southbound.node(), sidecar.list_policies());
        let (node, listed) = seen.map_err(|status| Fault::from_dataplane(&status))?;
        let plan = lead::plan(&routes_of(&listed), (from, to), filter, id);
        let plan = plan.map_err(|error| not_led(&error, asked))?;
        let row = LedMove {
            operation: id,
            request_id: request_id.to_owned(),
            ends: (from.name.clone(), to.name.clone()),
            filter: filter.clone(),
            scopes: asked.scopes.clone(),
            guarantee: asked.guarantee,
            incarnation: node.incarnation,
            overflow: overflow(&listed, &plan),
            step: LeadStep::Hold,
            plan,
            moved: Vec::new(),
        };
        let next_hops = [from, to].map(lead::next_hops);
        Ok(Self { row, next_hops, is_taken_up: false, is_kept: false, is_unsure: false })
    }

    /// What was begun and left.
    fn taken_up(row: LedMove) -> Self {
        let next_hops = [Vec::new(), Vec::new()];
        Self { row, next_hops, is_taken_up: true, is_kept: true, is_unsure: true }
    }

    /// What is to be done.
    pub(super) fn steps(&self) -> Steps {
        let LedMove { filter, scopes, step, moved, .. } = &self.row;
        match self.is_taken_up {
            false => Steps::led(filter.clone(), scopes),
            true => Steps::taken_up(filter.clone(), scopes, *step, moved.clone()),
        }
    }

    /// Whether it was begun before, and left.
    pub(super) fn is_taken_up(&self) -> bool {
        self.is_taken_up
    }

    /// Sees that the destination takes packets.
    pub(super) async fn acquaint(&self, sidecar: &Sidecar, to: &End) -> Result<(), Failure> {
        probe(sidecar, &self.next_hops[1], to).await
    }

    /// Writes down how far it may have come, and what has moved so far.
    pub(super) async fn note(
        &mut self,
        sidecar: &Sidecar,
        step: LeadStep,
        pieces: &[Piece],
    ) -> Result<(), Failure> {
        let mut row = LedMove { step, ..self.row.clone() };
        match step {
            LeadStep::Hold => sidecar.store.run(move |database| database.begin_lead(&row)).await,
            LeadStep::Carry => sidecar.store.keep(move |database| database.step_lead(&row)).await,
            LeadStep::Lead => {
                row.moved = pieces.to_vec();
                sidecar.store.keep(move |database| database.step_lead(&row)).await
            }
        }
        .map_err(not_kept)?;
        (self.row.step, self.is_kept) = (step, true);
        Ok(())
    }

    /// Has packets held.
    pub(super) async fn stop(&mut self, sidecar: &Sidecar) -> Result<(), Failure> {
        let put = sidecar.put_policies(self.row.plan.held.clone()).await;
        self.is_unsure = put.as_ref().is_err_and(transient);
        put.map_err(of_status)
    }

    /// Waits until the source has taken all that it was sent.
    pub(super) async fn drain(&self, sidecar: &Sidecar, from: &End) -> Result<(), Failure> {
        probe(sidecar, &self.next_hops[0], from).await
    }

    /// Sees that everything that came since is held.
    pub(super) async fn assure(&self, sidecar: &Sidecar) -> Result<(), Failure> {
        if self.is_restarted(sidecar).await? {
            return Err(Failure::new(FailureKind::Dataplane, STARTED_AGAIN));
        }
        match self.overflow(sidecar).await? {
            0 => Ok(()),
            lost => {
                let reason = format!(
                    "{lost} packets found no room to be held so far: raise hold in [moves], or move less"
                );
                Err(Failure::new(FailureKind::Dataplane, reason))
            }
        }
    }

    /// Leads packets to the destination, those first that are held; what was lost on the way.
    pub(super) async fn lead(&self, sidecar: &Sidecar) -> Result<Option<Failure>, Failure> {
        let led = &self.row.plan.led;
        if !self.is_restarted(sidecar).await? {
            sidecar.put_desired(led).await.map_err(of_status)?;
            sidecar.released(led).await.map_err(of_status)?;
        }
        let broken = |reason: String| Some(Failure::new(FailureKind::Dataplane, reason));
        // Nothing was held by one that was started again since they were put, either.
        if self.is_restarted(sidecar).await? {
            let refused = sidecar.put_each_desired(led).await.map_err(of_status)?;
            let refused = refused.iter().map(|Refused { name, why }| format!("; {name}: {why}"));
            let refused: String = refused.collect();
            return Ok(broken(format!(
                "all state has moved, and the promise was not kept: {STARTED_AGAIN}{refused}"
            )));
        }
        let lost = self.overflow(sidecar).await?;
        let reason = format!(
            "all state has moved, and {lost} packets found no room to be held, or no way on: the promise was not kept"
        );
        Ok(if lost > 0 { broken(reason) } else { None })
    }

    /// Leads packets back to the source, which has all state; whether the data plane has lost what it
    /// held. What does not hold is left as it is: one that was started again has it by its
    /// configuration, which may be another now.
    pub(super) async fn go_back(&mut self, sidecar: &Sidecar) -> Result<bool, Failure> {
        let (back, added) = (&self.row.plan.back, &self.row.plan.added);
        if self.is_unsure && !self.is_restarted(sidecar).await? {
            // What is asked for later is done later: nothing is held behind this.
            match sidecar.put_policies(back.clone()).await {
                Err(status) if transient(&status) => return Err(of_status(status)),
                // There was no room for them, so they are not there.
                _ => {}
            }
        }
        let listed = sidecar.list_policies().await.map_err(of_status)?;
        let listed = routes_of(&listed);
        let is_there = |name: &str| listed.iter().any(|seen| seen.name == name);
        let holds = |name: &str| listed.iter().any(|seen| seen.name == name && seen.holds);
        let held = back.iter().filter(|route| holds(&route.name)).cloned().collect();
        sidecar.put_policies(held).await.map_err(of_status)?;
        sidecar.released(back).await.map_err(of_status)?;
        let names = added.iter().filter(|name| is_there(name)).cloned().collect();
        sidecar.remove_policies(names).await.map_err(of_status)?;
        self.is_unsure = false;
        self.is_restarted(sidecar).await
    }

    /// Notes how it has ended, and forgets it in the journal.
    pub(super) async fn close(
        &self,
        sidecar: &Sidecar,
        ended: (State, Option<Failure>),
    ) -> Result<(), Failure> {
        let id = self.row.operation;
        match sidecar.end_led_operation(id, ended.clone()).await {
            Err(error) if self.is_kept => Err(not_kept(error)),
            // No later sidecar finds it there.
            Err(_) => {
                sidecar.end_operation(id, ended).await;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether the data plane is another than that which was asked to hold, for all that is known: rows
    /// of an early version have 0.
    async fn is_restarted(&self, sidecar: &Sidecar) -> Result<bool, Failure> {
        let node = sidecar.southbound.node().await.map_err(of_status)?;
        Ok(![0, node.incarnation].contains(&self.row.incarnation))
    }

    /// Packets that found no room since it was planned.
    async fn overflow(&self, sidecar: &Sidecar) -> Result<u64, Failure> {
        let listed = sidecar.list_policies().await.map_err(of_status)?;
        Ok(overflow(&listed, &self.row.plan).saturating_sub(self.row.overflow))
    }
}

impl Sidecar {
    /// What the configuration says of a network function in a process of its own.
    fn process(&self, end: &End) -> Option<&NfProcess> {
        let End::Nf(name) = end else { return None };
        self.config.control.nf.iter().find(|nf| nf.name == *name)
    }

    /// Refuses what would move flows from instance to instance while packets are held.
    pub(in crate::sidecar) fn refuse_while_leading(&self, what: &str) -> Result<(), Fault> {
        let Some(id) = self.state.table.borrow().leading() else { return Ok(()) };
        let message = format!("cannot {what} while packets are held: operation {id}");
        Err(Fault::precondition("OPERATION_IN_THE_WAY", message)
            .object(format!("operations/{id}"))
            .fix(format!("wait until it has ended, or weir operation cancel {id}")))
    }

    /// Lets a move stand still there, if a test has it so.
    pub(super) async fn pause_at(&self, stage: Stage) {
        if self.pause_move_at == Some(stage) {
            tracing::warn!(?stage, "paused before this stage of a move");
            std::future::pending::<()>().await;
        }
    }

    /// Goes on with all moves that earlier sidecars have left in the journal: from the first moment on
    /// they are in the way of others about the same.
    pub(in crate::sidecar) async fn take_up_led_moves(self: &Arc<Self>) -> Result<(), StoreError> {
        for row in self.store.run(|database| database.led_moves()).await? {
            self.take_up_led_move(row).await;
        }
        Ok(())
    }

    /// Goes on with a move that the journal has, and no task.
    pub(super) async fn take_up_led_move(self: &Arc<Self>, row: LedMove) {
        tracing::info!(operation = row.operation, step = ?row.step, "takes up a move");
        let asked = MoveAsked {
            from: End::Nf(row.ends.0.clone()),
            to: End::Nf(row.ends.1.clone()),
            selection: Selection::Filter(row.filter.clone()),
            scopes: row.scopes.clone(),
            guarantee: row.guarantee,
        };
        let begun = Asked::Move(asked.clone());
        let (reins, reader) = self.go_on_with(begun, &row.request_id, row.operation).await;
        let moved = Move {
            sidecar: Arc::clone(self),
            reins,
            asked,
            filter: row.filter.clone(),
            limit: FINISH_LIMIT,
            way: Way::Led(Box::new(Lead::taken_up(row))),
            again: false,
        };
        tokio::spawn(async move {
            let _followed = reader;
            moved.run().await;
        });
    }
}

/// What is said when packets may not have been held.
pub(super) const STARTED_AGAIN: &str = "the data plane was started again while it held packets: those are lost, \
                             and later ones were not held";

/// Sees that all that was sent to the next hops of a function was taken.
async fn probe(sidecar: &Sidecar, next_hops: &[NextHop], end: &End) -> Result<(), Failure> {
    let limit_ns = PROBE_LIMIT.as_nanos() as u64;
    let ask = ProbeNextHopsRequest { next_hops: next_hops.to_vec(), limit_ns };
    let answer = sidecar.southbound.policies().probe_next_hops(ask).await.map_err(of_status)?;
    let Some(silent) = answer.into_inner().unanswered.into_iter().next() else { return Ok(()) };
    let reason = match silent.next_hop {
        Some(NextHop { via, port }) => format!(
            "{end} does not answer echo at {via}, by port {port}, behind what worker {} has sent \
             there, within {PROBE_LIMIT:?}",
            silent.worker
        ),
        None => format!("worker {} does not come to what its ports have received", silent.worker),
    };
    Err(Failure { end: Some(end.clone()), ..Failure::new(FailureKind::Late, reason) })
}

/// Packets for which those that hold have had no room.
fn overflow(listed: &ListPolicyRoutesResponse, plan: &Plan) -> u64 {
    let holds = |seen: &&PolicyRouteState| plan.held.iter().any(|held| held.name == name_of(seen));
    listed
        .routes
        .iter()
        .filter(holds)
        .map(|seen| seen.overflow.saturating_add(seen.undelivered))
        .sum()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn of_status(status: Status) -> Failure {
    let reason = format!("the data plane does not lead packets: {}", status.message());
    Failure::new(FailureKind::Dataplane, reason)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn not_kept(error: StoreError) -> Failure {
    Failure::new(FailureKind::Refused, format!("the journal can not be written: {error}"))
}

/// Why a move can not promise what it was asked to.
fn not_led(error: &LeadError, asked: &MoveAsked) -> Fault {
    let message =
        format!("a move from {} to {} can not be loss-free: {error}", asked.from, asked.to);
    let fix = match error {
        LeadError::NoLegs(_) | LeadError::NoSuchLeg { .. } => {
            "add [[control.nf.leg]] to both, so that the data plane can lead their packets, or ask \
             for no guarantee: --guarantee none"
        }
        LeadError::Translated { .. } => {
            "name less in the filter, or say in [[control.nf]] what it translates"
        }
        LeadError::NotLed { .. } | LeadError::LedElsewhere { .. } => {
            "see weir policy list; add a [[policy_route]] that leads all of it to the source"
        }
        LeadError::OneDirection | LeadError::NotOfPackets(_) | LeadError::Unreadable(_) => {
            "name other flows, or ask for no guarantee: --guarantee none"
        }
    };
    Fault::precondition("NOT_LOSS_FREE", message).object(asked.from.to_string()).fix(fix)
}

/// Only packets of processes of this node are led.
fn not_processes(asked: &MoveAsked) -> Fault {
    let process = if asked.from.is_instance() { &asked.to } else { &asked.from };
    let message = format!(
        "a move from {} to {} can not be loss-free: nothing holds the packets of {process} while \
         its state is on its way",
        asked.from, asked.to
    );
    Fault::precondition("NOT_LOSS_FREE", message).object(process.to_string()).fix(
        "stop the packets of these flows, or accept that some update state that has left, and ask \
         for no guarantee: --guarantee none",
    )
}
