//! Moves whose packets the data plane leads: they are held until the source has taken all that it was
//! sent, and released to where their state is. What is done when is said by [`Steps`]; here is what
//! each task does.

use std::{collections::BTreeSet, time::Duration};

use tonic::Status;
use weir_api::dataplane::v1::{ListPolicyRoutesResponse, NextHop, PolicyRoute};
use weir_state_transfer::{FlowId, StateFilter, chunk::Scope};

use super::{
    probe::probe,
    room::{Room, no_room, overflow},
};
use crate::{
    config::NfProcess,
    fault::Fault,
    sidecar::{
        Sidecar,
        policies::{Refused, name_of, routes_of},
    },
    southbound::{transient, why},
    state_manager::{
        end::End,
        lead::{self, LeadError, LeadStep, Stage},
        operation::{Failure, FailureKind, MoveAsked, State},
        steps::{Piece, Steps},
    },
    store::{LedMove, StoreError},
};

/// How long a move may yet hold packets when its own time is over: it goes back then.
const BACK_LIMIT: Duration = Duration::from_secs(30);

/// What a move has of the policy routes that lead its packets.
#[derive(Debug)]
pub(super) struct Lead {
    row: LedMove,
    /// The next hops of the destination.
    next_hop: Vec<NextHop>,
    /// An earlier sidecar has begun it, or a task that a fault has cut off.
    is_taken_up: bool,
    /// The journal has it.
    is_kept: bool,
    /// The data plane that has led, or leads again.
    led_by: u64,
    /// The data plane may yet be asked to hold: by a request that was not answered.
    is_unsure: bool,
    /// Flows that an earlier sidecar has left in use at the source, and at the destination.
    left: Vec<Piece>,
}

/// How packets were led.
#[derive(Debug)]
pub(super) enum Led {
    /// All that were held, in front of those that came later.
    Well,
    /// The state has moved, and the promise was not kept.
    Broken(Failure),
    /// None was: what was held has gone on to the source.
    Lapsed(Failure),
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
            destination_life: String::new(),
            overflow: overflow(&listed, &plan.held_names()),
            lost: 0,
            step: LeadStep::Hold,
            plan,
            moved: Vec::new(),
            finishing: Vec::new(),
        };
        let next_hop = lead::next_hops(to);
        let led_by = row.incarnation;
        let (is_taken_up, is_kept, is_unsure) = (false, false, false);
        Ok(Self { row, next_hop, is_taken_up, is_kept, led_by, is_unsure, left: Vec::new() })
    }

    /// What was begun and left.
    pub(super) fn taken_up(row: LedMove) -> Self {
        let (next_hop, led_by, left) = (Vec::new(), row.incarnation, row.finishing.clone());
        Self { row, next_hop, is_taken_up: true, is_kept: true, led_by, is_unsure: true, left }
    }

    /// What is to be done.
    pub(super) fn steps(&self) -> Steps {
        let LedMove { filter, scopes, step, moved, finishing, .. } = &self.row;
        match self.is_taken_up {
            false => Steps::led(filter.clone(), scopes),
            true => {
                let mut steps = Steps::taken_up(filter.clone(), scopes, *step, moved.clone());
                steps.were_finishing(finishing.iter().map(|piece| piece.id.clone()));
                steps
            }
        }
    }

    /// Whether it was begun before, and left.
    pub(super) fn is_taken_up(&self) -> bool {
        self.is_taken_up
    }

    /// Sees that the destination takes packets, and by what it is recognised.
    pub(super) async fn acquaint(&mut self, sidecar: &Sidecar, to: &End) -> Result<(), Failure> {
        self.row.destination_life = sidecar.state().ends.life(to);
        if self.row.destination_life.is_empty() {
            let reason = "nothing is known by which its process could be recognised: see that its socket \
                          is there, and that the sidecar may look at it";
            let failure = Failure::new(FailureKind::Unreachable, reason);
            return Err(Failure { end: Some(to.clone()), ..failure });
        }
        probe(sidecar, &self.next_hop, to).await
    }

    /// Writes down how far it may have come, and what has moved so far.
    pub(super) async fn note(
        &mut self,
        sidecar: &Sidecar,
        step: LeadStep,
        pieces: &[Piece],
    ) -> Result<(), Failure> {
        let mut row = LedMove { step, ..self.row.clone() };
        if step == LeadStep::Lead {
            row.moved = pieces.to_vec();
        }
        let kept = row.clone();
        match step {
            LeadStep::Hold => sidecar.store.run(move |database| database.begin_lead(&kept)).await,
            LeadStep::Carry | LeadStep::Lead | LeadStep::Led => {
                sidecar.store.keep(move |database| database.step_lead(&kept)).await
            }
        }
        .map_err(not_kept)?;
        (self.row, self.is_kept) = (row, true);
        Ok(())
    }

    /// Has packets held, for so long at most as the move may take and go back: the data plane lets them
    /// go on to the source then, though nobody has told it to.
    pub(super) async fn stop(&mut self, sidecar: &Sidecar, limit: Duration) -> Result<(), Failure> {
        let hold = limit.saturating_add(BACK_LIMIT).as_nanos();
        let hold_ns = u64::try_from(hold).unwrap_or(u64::MAX);
        let held = self.row.plan.held.iter().cloned();
        let held = held.map(|route| PolicyRoute { hold_ns, ..route }).collect();
        let put = sidecar.put_policies(held).await;
        self.is_unsure = put.as_ref().is_err_and(transient);
        put.map_err(of_status)
    }

    /// Waits until the source has taken all that it was sent.
    pub(super) async fn drain(&self, sidecar: &Sidecar, from: &End) -> Result<(), Failure> {
        let back = self.row.plan.back.iter();
        let hop =
            |route: &PolicyRoute| NextHop { via: route.via.clone(), port: route.port.clone() };
        probe(sidecar, &back.map(hop).collect::<Vec<_>>(), from).await
    }

    /// Sees that everything that came since is held.
    pub(super) async fn assure(&self, sidecar: &Sidecar) -> Result<(), Failure> {
        if self.is_restarted(sidecar).await? {
            return Err(Failure::new(FailureKind::Dataplane, STARTED_AGAIN));
        }
        let listed = sidecar.list_policies().await.map_err(of_status)?;
        if self.has_lapsed(&listed) {
            return Err(Failure::new(FailureKind::Dataplane, LAPSED));
        }
        match self.room().lost(&listed) {
            0 => Ok(()),
            _ => Err(no_room()),
        }
    }

    /// Whether what was to be held has gone on to the source: the time of the hold was over.
    fn has_lapsed(&self, listed: &ListPolicyRoutesResponse) -> bool {
        let names = self.row.plan.held_names();
        listed
            .routes
            .iter()
            .any(|seen| seen.lapsed && names.iter().any(|name| name == name_of(seen)))
    }

    /// Whether any packets are led to the destination.
    fn has_led(&self, listed: &ListPolicyRoutesResponse) -> bool {
        let listed = routes_of(listed);
        let hop = |route: &PolicyRoute| (route.via.clone(), route.port.clone());
        let is_there = |led: &PolicyRoute| {
            listed.iter().any(|seen| seen.name == led.name && hop(seen) == hop(led))
        };
        self.row.plan.led.iter().any(is_there)
    }

    /// What tells packets that find no room.
    pub(super) fn room(&self) -> Room {
        Room { names: self.row.plan.held_names(), before: self.row.overflow }
    }

    /// Sees that the destination answers, and is the process that it was at first.
    pub(super) async fn recognise(&self, sidecar: &Sidecar, to: &End) -> Result<(), Failure> {
        let ends = &sidecar.state().ends;
        ends.known(to)?;
        ends.client(to).describe().await.map_err(|error| Failure::of_call(&error, to))?;
        let reason = match &*self.row.destination_life {
            life if !life.is_empty() && life == ends.life(to) => return Ok(()),
            "" => format!(
                "an earlier version did not write down which process of {to} took the state in"
            ),
            _ => format!("{to} was started again since it took the state in: that may be lost"),
        };
        let failure = Failure::new(FailureKind::Unreachable, reason);
        Err(Failure { end: Some(to.clone()), ..failure })
    }

    /// Leads packets to the destination, those first that are held. Once it is written down that all have
    /// been led, none are held that could be lost.
    pub(super) async fn lead(&mut self, sidecar: &Sidecar) -> Result<Led, Failure> {
        let led = &self.row.plan.led;
        let was_led = self.row.step == LeadStep::Led;
        if !self.is_restarted(sidecar).await? {
            let listed = sidecar.list_policies().await.map_err(of_status)?;
            if !was_led && self.has_lapsed(&listed) && !self.has_led(&listed) {
                return Ok(Led::Lapsed(Failure::new(FailureKind::Dataplane, LAPSED)));
            }
            sidecar.put_desired(led).await.map_err(of_status)?;
            sidecar.released(led).await.map_err(of_status)?;
        }
        let broken = |why: String| {
            let reason = format!("all state has moved, and {why}");
            Ok(Led::Broken(Failure::new(FailureKind::Dataplane, reason)))
        };
        // Nothing was held by one that was started again since they were put, either.
        if self.is_restarted(sidecar).await? {
            let refused = sidecar.put_each_desired(led).await.map_err(of_status)?;
            let refused = refused.iter().map(|Refused { name, why }| format!("; {name}: {why}"));
            let refused: String = refused.collect();
            return match was_led {
                false => broken(format!("{NOT_KEPT}: {STARTED_AGAIN}{refused}")),
                true if refused.is_empty() => Ok(Led::Well),
                true => broken(format!("the data plane does not lead all packets there{refused}")),
            };
        }
        if was_led {
            return Ok(Led::Well);
        }
        let listed = sidecar.list_policies().await.map_err(of_status)?;
        if self.has_lapsed(&listed) {
            return broken(format!("{NOT_KEPT}: {LAPSED}"));
        }
        match self.room().lost(&listed) {
            0 => Ok(Led::Well),
            lost => {
                broken(format!("{lost} packets found no room to be held, or no way on: {NOT_KEPT}"))
            }
        }
    }

    /// Leads packets again where the data plane was started again since they were led: whether they may
    /// have come to the source meanwhile.
    pub(super) async fn lead_again(&mut self, sidecar: &Sidecar) -> Result<bool, Failure> {
        let node = sidecar.southbound.node().await.map_err(of_status)?;
        if [0, node.incarnation].contains(&self.led_by) {
            return Ok(false);
        }
        let refused = sidecar.put_each_desired(&self.row.plan.led).await.map_err(of_status)?;
        if let Some(Refused { name, why }) = refused.first() {
            let reason = format!("the data plane does not lead all packets there; {name}: {why}");
            return Err(Failure::new(FailureKind::Refused, reason));
        }
        self.led_by = node.incarnation;
        Ok(true)
    }

    /// Writes down that of what has moved these flows are not to be deleted at the source, and that the
    /// destination yet has them.
    pub(super) async fn strike(
        &mut self,
        sidecar: &Sidecar,
        ids: &[FlowId],
    ) -> Result<(), Failure> {
        let struck = ids.iter().cloned().map(|id| Piece { scope: Scope::PerFlow, id, version: 0 });
        let finishing = self.left.iter().cloned().chain(struck).collect();
        if ids.is_empty() || finishing == self.row.finishing {
            return Ok(());
        }
        let named: BTreeSet<_> = ids.iter().map(FlowId::one_way).collect();
        let stays =
            |piece: &Piece| piece.scope == Scope::PerFlow && named.contains(&piece.id.one_way());
        let mut row = LedMove { finishing, ..self.row.clone() };
        row.moved.retain(|piece| !stays(piece));
        self.note_moved(sidecar, row).await
    }

    /// Writes down that the destination has replaced what it had of those.
    pub(super) async fn replaced(&mut self, sidecar: &Sidecar) -> Result<(), Failure> {
        self.note_moved(sidecar, LedMove { finishing: self.left.clone(), ..self.row.clone() }).await
    }

    async fn note_moved(&mut self, sidecar: &Sidecar, row: LedMove) -> Result<(), Failure> {
        let kept = row.clone();
        sidecar.store.keep(move |database| database.note_moved(&kept)).await.map_err(not_kept)?;
        self.row = row;
        Ok(())
    }

    /// Writes down that packets are not led after all.
    pub(super) async fn unlead(&mut self, sidecar: &Sidecar) -> Result<(), Failure> {
        let mut row = LedMove { step: LeadStep::Carry, ..self.row.clone() };
        row.moved.clear();
        let unled = row.clone();
        sidecar.store.keep(move |database| database.unlead(&unled)).await.map_err(not_kept)?;
        self.row = row;
        Ok(())
    }

    /// Leads packets back to the source, which has all state; what is to be said of those that were to be
    /// held. What does not hold is left as it is: one that was started again has it by its
    /// configuration, which may be another now.
    pub(super) async fn go_back(&mut self, sidecar: &Sidecar) -> Result<Vec<String>, Failure> {
        let room = self.room();
        let (back, added) = (&self.row.plan.back, &self.row.plan.added);
        if self.is_unsure && !self.is_restarted(sidecar).await? {
            // What is asked for later is done later: nothing is held behind this.
            match sidecar.put_policies(back.clone()).await {
                Err(status) if transient(&status) => return Err(of_status(status)),
                // There was no room for them, so they are not there.
                _ => {}
            }
        }
        let listed = routes_of(&sidecar.list_policies().await.map_err(of_status)?);
        let is_there = |name: &str| listed.iter().any(|seen| seen.name == name);
        let holds = |name: &str| listed.iter().any(|seen| seen.name == name && seen.holds);
        let held = back.iter().filter(|route| holds(&route.name)).cloned().collect();
        sidecar.put_policies(held).await.map_err(of_status)?;
        sidecar.released(back).await.map_err(of_status)?;
        // Those that are removed are not counted any more, by a later sidecar either.
        let listed = sidecar.list_policies().await.map_err(of_status)?;
        let (operation, lost) = (self.row.operation, self.row.lost.max(room.lost(&listed)));
        if lost > self.row.lost {
            let kept =
                sidecar.store.keep(move |database| database.note_lost(operation, lost)).await;
            kept.map_err(not_kept)?;
            self.row.lost = lost;
        }
        let names = added.iter().filter(|name| is_there(name)).cloned().collect();
        sidecar.remove_policies(names).await.map_err(of_status)?;
        self.is_unsure = false;
        let is_restarted = self.is_restarted(sidecar).await?;
        let told = format!("{lost} packets found no room to be held, or no way on");
        let said = [(is_restarted, STARTED_AGAIN.to_owned()), (lost > 0, told)];
        Ok(said.into_iter().filter(|(is_so, _)| *is_so).map(|(_, said)| said).collect())
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
}

/// What is said of a move that has not done what it was asked to.
const NOT_KEPT: &str = "the promise was not kept";

/// What is said when packets may not have been held.
const STARTED_AGAIN: &str = "the data plane was started again: packets that it held may be lost, and \
                             later ones may not have been held";

/// What is said when the data plane holds no more, as it was told at first.
const LAPSED: &str = "the data plane has held packets for as long as it was to, and has let them go on to the \
                      source";

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub(super) fn of_status(status: Status) -> Failure {
    let reason = format!("the data plane does not lead packets: {}", why(&status));
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
            "see weir policy list; add a [[policy_route]] that leads all of it to the source: with \
             both_ways = \"on\" where its filter names an end"
        }
        LeadError::NoRoom { .. } => {
            "see weir policy list; move flows that were moved alone back to where the configuration \
             leads them, with the same filter: policy routes that decide nothing any more go by \
             themselves"
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
