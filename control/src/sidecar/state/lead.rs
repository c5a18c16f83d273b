//! Moves whose packets the data plane leads: they are held until the source has taken all that it was
//! sent, and released to where their state is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tonic::Status;
use weir_api::dataplane::v1::{
    Change, Guarantee, ListPolicyRoutesRequest, ListPolicyRoutesResponse, NextHop, PolicyRoute,
    ProbeNextHopsRequest, PutPolicyRoutesRequest, RemovePolicyRoutesRequest,
};
use weir_state_transfer::{StateFilter, chunk::Scope};

use super::processes::{Move, Way};
use crate::{
    config::NfProcess,
    fault::Fault,
    sidecar::Sidecar,
    southbound::{scope_message, scope_of},
    state_manager::{
        end::End,
        lead::{self, LeadError, Stage},
        operation::{Asked, Failure, FailureKind, MoveAsked, Selection},
        steps::Steps,
    },
    store::{LeadStep, LedMove},
};

/// How long a function may take to answer behind all that it was sent.
const PROBE_LIMIT: Duration = Duration::from_secs(4);
/// The time between two looks at what is released.
const LOOK: Duration = Duration::from_millis(2);

/// What a move has of the policy routes that lead its packets.
#[derive(Debug)]
pub(super) struct Lead {
    row: LedMove,
    /// What each of the policies had dropped before.
    dropped: BTreeMap<String, u64>,
    /// The next hops of both functions.
    next_hops: [Vec<NextHop>; 2],
    /// How far an earlier sidecar has come with it.
    taken_up: Option<LeadStep>,
    /// Whether the journal may have it.
    is_kept: bool,
    /// Whether packets may be held.
    is_open: bool,
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
        let listed = list(sidecar).await.map_err(|status| Fault::from_dataplane(&status))?;
        let routes: Vec<_> = listed.routes.iter().filter_map(|seen| seen.route.clone()).collect();
        let plan = lead::plan(&routes, (from, to), filter, id);
        let plan = plan.map_err(|error| not_led(&error, asked))?;
        let scopes = asked.scopes.iter().map(|scope| (scope_message(*scope) as i32).to_string());
        let row = LedMove {
            operation: id,
            request_id: request_id.to_owned(),
            ends: (from.name.clone(), to.name.clone()),
            filter: filter.to_string(),
            scopes: scopes.collect::<Vec<_>>().join(","),
            guarantee: asked.guarantee.into(),
            step: LeadStep::Hold,
            plan,
        };
        let next_hops = [from, to].map(lead::next_hops);
        let dropped = dropped(&listed);
        Ok(Self { row, dropped, next_hops, taken_up: None, is_kept: false, is_open: false })
    }

    /// What an earlier sidecar has begun.
    fn taken_up(row: LedMove) -> Self {
        let (dropped, next_hops) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
        let taken_up = Some(row.step);
        Self { row, dropped, next_hops, taken_up, is_kept: true, is_open: true }
    }

    /// What is to be done.
    pub(super) fn steps(&self, filter: StateFilter, scopes: &BTreeSet<Scope>) -> Steps {
        match self.taken_up {
            None => Steps::led(filter, scopes),
            Some(step) => Steps::taken_up(filter, scopes, step),
        }
    }

    /// Whether an earlier sidecar has begun it.
    pub(super) fn is_taken_up(&self) -> bool {
        self.taken_up.is_some()
    }

    /// Sees that the destination takes packets.
    pub(super) async fn acquaint(&self, sidecar: &Sidecar, to: &End) -> Result<(), Failure> {
        probe(sidecar, &self.next_hops[1], to).await
    }

    /// Has packets held, and waits until the source has taken all that it was sent.
    pub(super) async fn hold(&mut self, sidecar: &Sidecar, from: &End) -> Result<(), Failure> {
        let row = self.row.clone();
        (self.is_kept, self.is_open) = (true, true);
        sidecar.store.run(move |database| database.begin_lead(&row)).await.map_err(not_kept)?;
        sidecar.pause_at(Stage::Held).await;
        put(sidecar, &self.row.plan.held).await?;
        sidecar.pause_at(Stage::Probe).await;
        probe(sidecar, &self.next_hops[0], from).await?;
        self.step(sidecar, LeadStep::Carry).await
    }

    /// Sees that everything that came since is held.
    pub(super) async fn assure(&self, sidecar: &Sidecar) -> Result<(), Failure> {
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
    pub(super) async fn lead(&mut self, sidecar: &Sidecar) -> Result<Option<Failure>, Failure> {
        self.step(sidecar, LeadStep::Lead).await?;
        sidecar.pause_at(Stage::Led).await;
        put_desired(sidecar, &self.row.plan.led).await?;
        released(sidecar, &self.row.plan.led).await?;
        self.is_open = false;
        let lost = self.overflow(sidecar).await?;
        let reason = format!(
            "all state has moved, and {lost} packets found no room to be held: the promise was not kept"
        );
        Ok((lost > 0).then(|| Failure::new(FailureKind::Dataplane, reason)))
    }

    /// Leads packets back to the source, which has all state.
    pub(super) async fn go_back(&mut self, sidecar: &Sidecar) -> Result<(), Failure> {
        let listed = list(sidecar).await.map_err(of_status)?;
        let is_there = |name: &str| find(&listed, name).is_some();
        let back: Vec<_> =
            self.row.plan.back.iter().filter(|route| is_there(&route.name)).cloned().collect();
        if !back.is_empty() {
            put(sidecar, &back).await?;
            released(sidecar, &back).await?;
        }
        let names: Vec<_> =
            self.row.plan.added.iter().filter(|name| is_there(name)).cloned().collect();
        if !names.is_empty() {
            let ask = RemovePolicyRoutesRequest { change: None, names };
            sidecar.southbound.policies().remove_policy_routes(ask).await.map_err(of_status)?;
        }
        self.is_open = false;
        Ok(())
    }

    /// Forgets it, unless packets may still be held: then it is taken up again.
    pub(super) async fn end(&self, sidecar: &Sidecar) {
        if !self.is_kept || self.is_open {
            return;
        }
        sidecar.pause_at(Stage::End).await;
        let operation = self.row.operation;
        if let Err(error) = sidecar.store.keep(move |database| database.end_lead(operation)).await {
            tracing::warn!(%error, "a move that has ended stays in the journal");
        }
        // The data plane may have been started again meanwhile.
        if let Err(fault) = sidecar.program_policies().await {
            tracing::warn!(error = %fault, "policy routes are not as they shall be");
        }
    }

    async fn step(&mut self, sidecar: &Sidecar, step: LeadStep) -> Result<(), Failure> {
        let row = self.row.clone();
        sidecar
            .store
            .run(move |database| database.step_lead(&row, step))
            .await
            .map_err(not_kept)?;
        self.row.step = step;
        Ok(())
    }

    /// Packets that found no room since it was planned.
    async fn overflow(&self, sidecar: &Sidecar) -> Result<u64, Failure> {
        let now = dropped(&list(sidecar).await.map_err(of_status)?);
        let of = |route: &PolicyRoute| {
            let before = self.dropped.get(&route.name).copied().unwrap_or(0);
            now.get(&route.name).copied().unwrap_or(0).saturating_sub(before)
        };
        Ok(self.row.plan.held.iter().map(of).sum())
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

    /// Puts the policy routes that the store has where the data plane has others, but for those of moves
    /// in progress.
    pub(in crate::sidecar) async fn program_policies(&self) -> Result<(), Fault> {
        let _guard = self.changes.lock().await;
        let (wanted, moves) = self
            .store
            .run(|database| Ok((database.policy_routes()?, database.led_moves()?)))
            .await?;
        let is_moving = |route: &PolicyRoute| {
            let held = moves.iter().flat_map(|row| &row.plan.held);
            held.into_iter().any(|held| held.name == route.name)
        };
        let wanted: Vec<_> = wanted.into_iter().filter(|route| !is_moving(route)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let put = put_desired(self, &wanted).await;
        put.map_err(|failure| {
            Fault::precondition("POLICY_ROUTES", failure.reason).object("policies")
        })
    }

    /// Ends moves that an earlier sidecar has left, or whose data plane was not reached.
    pub(in crate::sidecar) async fn take_up_led_moves(self: &Arc<Self>) -> Result<(), Fault> {
        let _guard = self.changes.lock().await;
        for row in self.store.run(|database| database.led_moves()).await? {
            let goes_on = {
                let table = self.state.table.borrow();
                table.find(row.operation).is_some_and(|operation| !operation.state.ended())
            };
            if !goes_on {
                let operation = row.operation;
                if let Err(fault) = self.take_up_led_move(row).await {
                    tracing::warn!(operation, error = %fault, "a move is not taken up");
                }
            }
        }
        Ok(())
    }

    async fn take_up_led_move(self: &Arc<Self>, row: LedMove) -> Result<(), Fault> {
        let filter: StateFilter = super::begin::filter(&row.filter)?;
        let scopes = row.scopes.split(',').filter_map(|number| scope_of(number.parse().ok()?));
        let asked = MoveAsked {
            from: End::Nf(row.ends.0.clone()),
            to: End::Nf(row.ends.1.clone()),
            selection: Selection::Filter(filter.clone()),
            scopes: scopes.collect(),
            guarantee: Guarantee::try_from(row.guarantee).unwrap_or_default(),
        };
        let known = [&asked.from, &asked.to].iter().all(|end| self.process(end).is_some());
        if !known {
            let message = format!("{} or {} is no [[control.nf]] any more", row.ends.0, row.ends.1);
            return Err(Fault::precondition("NOT_TAKEN_UP", message).object("control.nf"));
        }
        tracing::info!(operation = row.operation, step = ?row.step, "takes up a move");
        let id = Some(row.operation);
        let request_id = row.request_id.clone();
        let begun = self.begin_operation(Asked::Move(asked.clone()), &request_id, id).await?;
        let (_, reins, reader) = begun;
        let moved = Move {
            sidecar: Arc::clone(self),
            reins,
            asked,
            filter,
            limit: super::processes::FINISH_LIMIT,
            way: Way::Led(Box::new(Lead::taken_up(row))),
            again: false,
        };
        tokio::spawn(async move {
            let _followed = reader;
            moved.run().await;
        });
        Ok(())
    }
}

async fn list(sidecar: &Sidecar) -> Result<ListPolicyRoutesResponse, Status> {
    let listed = sidecar.southbound.policies().list_policy_routes(ListPolicyRoutesRequest {}).await;
    Ok(listed?.into_inner())
}

async fn put(sidecar: &Sidecar, routes: &[PolicyRoute]) -> Result<(), Failure> {
    let ask = PutPolicyRoutesRequest { change: Some(Change::default()), routes: routes.to_vec() };
    sidecar.southbound.policies().put_policy_routes(ask).await.map(drop).map_err(of_status)
}

/// Puts those that differ. One whose place is gone, as its data plane has another configuration now,
/// comes first of all.
async fn put_desired(sidecar: &Sidecar, routes: &[PolicyRoute]) -> Result<(), Failure> {
    let listed = list(sidecar).await.map_err(of_status)?;
    let first = listed.routes.first().and_then(|seen| seen.route.as_ref());
    let first = first.map_or("", |route| route.name.as_str());
    let same = |route: &&PolicyRoute| {
        let bare = |route: &PolicyRoute| PolicyRoute { before: String::new(), ..route.clone() };
        find(&listed, &route.name).is_some_and(|seen| bare(seen) == bare(route))
    };
    let mut others: Vec<PolicyRoute> =
        routes.iter().filter(|route| !same(route)).cloned().collect();
    let names: Vec<String> = others.iter().map(|route| route.name.clone()).collect();
    for route in &mut others {
        let known = find(&listed, &route.before).is_some() || names.contains(&route.before);
        if !known && find(&listed, &route.name).is_none() {
            tracing::warn!(policy = route.name, before = route.before, "its place is gone");
            first.clone_into(&mut route.before);
        }
    }
    if others.is_empty() { Ok(()) } else { put(sidecar, &others).await }
}

/// Waits until all that these policies have held has left.
async fn released(sidecar: &Sidecar, routes: &[PolicyRoute]) -> Result<(), Failure> {
    loop {
        let listed = list(sidecar).await.map_err(of_status)?;
        let waits = |route: &PolicyRoute| {
            let found = listed.routes.iter().find(|seen| name_of(seen) == route.name);
            found.is_some_and(|seen| seen.holding > 0)
        };
        if listed.adopted && !routes.iter().any(waits) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

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

fn name_of(seen: &weir_api::dataplane::v1::PolicyRouteState) -> &str {
    seen.route.as_ref().map_or("", |route| route.name.as_str())
}

fn find<'a>(listed: &'a ListPolicyRoutesResponse, name: &str) -> Option<&'a PolicyRoute> {
    listed.routes.iter().filter_map(|seen| seen.route.as_ref()).find(|route| route.name == name)
}

fn dropped(listed: &ListPolicyRoutesResponse) -> BTreeMap<String, u64> {
    listed.routes.iter().map(|seen| (name_of(seen).to_owned(), seen.overflow)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn of_status(status: Status) -> Failure {
    let reason = format!("the data plane does not lead packets: {}", status.message());
    Failure::new(FailureKind::Dataplane, reason)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn not_kept(error: crate::store::StoreError) -> Failure {
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
