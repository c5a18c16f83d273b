//! Shares at the node: what the coordinator decides becomes commands to the ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_api::dataplane::v1 as api;
use weir_nf_api::scope_message;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::share::{
    Command as Next, Coordinator, Event as ShareNews, Limits, Mode, Phase, Request, Stamper,
    Surroundings, View,
};
use weir_state_transfer::{InstanceId, Nanos, ShareId, StateFilter, WorkerId, mark};

use super::{Node, NodeError};
use crate::nf::Sharing;
use crate::share::ShareEnd;
use crate::worker::{Command, ShareCommand, ShareEvent, StampCommand};

/// The shares of a node: in progress, and the last that ended.
#[derive(Debug)]
pub(super) struct ShareBook {
    pub(super) coordinator: Coordinator,
    records: BTreeMap<ShareId, Record>,
    ended: VecDeque<ShareId>,
}

#[derive(Debug)]
struct Record {
    shown: api::Share,
    /// What its ends have in common, while it lives.
    sharing: Option<(Arc<Sharing>, Mode)>,
    /// The view by which packets are to be stamped, and markers that have not come.
    markers: (u64, usize),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ShareRequest {
    /// The instances.
    pub instances: Vec<InstanceId>,
    /// Whose state: that which it names as a whole.
    pub filter: StateFilter,
    /// Which state.
    pub scopes: Vec<Scope>,
    /// The order of operations.
    pub mode: Mode,
}

/// Shares that are remembered when they have ended.
const REMEMBERED: usize = 256;

impl ShareBook {
    pub(super) fn new(shares_max: usize, step: Duration) -> Self {
        let coordinator = Coordinator::new(shares_max, step);
        Self { coordinator, records: BTreeMap::new(), ended: VecDeque::new() }
    }

    /// Whether none is being changed, and none is left of a node that stops.
    pub(super) fn is_quiet(&self, stopping: bool) -> bool {
        self.coordinator.shares().all(|(_, share)| !stopping && share.phase == Phase::Steady)
    }

    /// Whether there are none.
    pub(super) fn is_idle(&self) -> bool {
        self.coordinator.shares().next().is_none()
    }
}

impl Node {
    /// Starts a share. Its key is to be drawn at random.
    ///
    /// # Errors
    ///
    /// When an instance is not there, or keeps packets for a subscription; when the network
    /// functions have nothing to share, or not in this way; and when another operation is in the
    /// way, which is named.
    pub fn start_share(
        &mut self,
        change: &api::Change,
        asked: ShareRequest,
        key: u64,
        now: Nanos,
    ) -> Result<api::Share, NodeError> {
        if let Some(made) = self.requests.answer(&change.request_id) {
            return self.show_share(ShareId(made));
        }
        self.check_change(change.generation)?;
        self.check_members(&asked.instances)?;
        self.check_shareable(&asked)?;
        if asked.mode == Mode::Strict {
            self.check_nobody_leaves()?;
        }
        let ShareRequest { instances: members, filter, scopes, mode } = asked;
        let limits = self.limits.share;
        let request =
            Request { members, filter: filter.clone(), scopes: scopes.clone(), mode, limits, key };
        let removing = self.removing();
        let around = Surroundings { moves: &self.moves.coordinator, removing: &removing };
        let id = self.shares.coordinator.start(request, &around, now)?;
        let shown = api::Share {
            id: id.0,
            request_id: change.request_id.clone(),
            filter: filter.to_string(),
            scopes: scopes.iter().map(|scope| scope_message(*scope).into()).collect(),
            mode: shown_mode(mode).into(),
            started_ns: now.0,
            ..api::Share::default()
        };
        let slots = limits.slots.clamp(1, weir_state_transfer::share::SLOTS_MAX);
        let sharing = Arc::new(Sharing { id, filter, slots, key });
        let record = Record { shown, sharing: Some((sharing, mode)), markers: (0, 0) };
        self.shares.records.insert(id, record);
        self.generation += 1;
        self.requests.remember(&change.request_id, id.0);
        self.carry_on_shares(now);
        self.show_share(id)
    }

    /// Changes the instances of a share: those that leave keep nothing of the sources of others.
    ///
    /// # Errors
    ///
    /// As [`Node::start_share`], and while the share is starting, changing or ending.
    pub fn change_share(
        &mut self,
        change: &api::Change,
        id: ShareId,
        members: &[InstanceId],
        now: Nanos,
    ) -> Result<api::Share, NodeError> {
        if self.requests.answer(&change.request_id).is_some() {
            return self.show_share(id);
        }
        self.check_change(change.generation)?;
        self.check_lives(id)?;
        self.check_members(members)?;
        let removing = self.removing();
        let around = Surroundings { moves: &self.moves.coordinator, removing: &removing };
        self.shares.coordinator.change(id, members, &around, now)?;
        self.generation += 1;
        self.requests.remember(&change.request_id, id.0);
        self.carry_on_shares(now);
        self.show_share(id)
    }

    /// Ends a share: every instance keeps a replica. One that is starting or changing ends when that
    /// is done.
    ///
    /// # Errors
    ///
    /// When there is no such share, or it has ended.
    pub fn end_share(
        &mut self,
        change: &api::Change,
        id: ShareId,
        now: Nanos,
    ) -> Result<api::Share, NodeError> {
        if self.requests.answer(&change.request_id).is_some() {
            return self.show_share(id);
        }
        self.check_change(change.generation)?;
        self.check_lives(id)?;
        self.shares.coordinator.end(id).map_err(|_| NodeError::no("share", id))?;
        self.generation += 1;
        self.requests.remember(&change.request_id, id.0);
        self.carry_on_shares(now);
        self.show_share(id)
    }

    /// A share, as the API shows it.
    ///
    /// # Errors
    ///
    /// When there is none with that number, or it ended long ago.
    pub fn show_share(&self, id: ShareId) -> Result<api::Share, NodeError> {
        let record = self.shares.records.get(&id).ok_or_else(|| NodeError::no("share", id))?;
        let mut shown = record.shown.clone();
        if let Some(share) = self.shares.coordinator.get(id) {
            let numbers = |of: &[InstanceId]| of.iter().map(|id| u32::from(id.0)).collect();
            shown.instances = numbers(&share.request.members);
            shown.failed = numbers(&share.failed);
            shown.phase = shown_phase(share.phase).into();
            shown.view = share.view.number;
        }
        Ok(shown)
    }

    /// The shares that there are, and the last that ended.
    pub fn list_shares(&self) -> Vec<api::Share> {
        self.shares.records.keys().filter_map(|id| self.show_share(*id).ok()).collect()
    }

    /// Ends all shares, as the node stops.
    pub(super) fn end_shares(&mut self, now: Nanos) {
        let shares: Vec<_> = self.shares.coordinator.shares().map(|(id, _)| id).collect();
        for id in shares {
            let ended = self.shares.coordinator.end(id);
            debug_assert!(ended.is_ok(), "it was listed");
        }
        self.carry_on_shares(now);
    }

    /// Takes note of what an end of a share says.
    pub(super) fn share_event(
        &mut self,
        id: ShareId,
        at: InstanceId,
        event: ShareEvent,
        now: Nanos,
    ) {
        let news = match event {
            ShareEvent::Prepared if self.keeper(at).is_some() => {
                // Subscribed to since the share was accepted.
                ShareNews::Unprepared("a subscription keeps packets of an instance")
            }
            ShareEvent::Prepared => ShareNews::Prepared(at),
            ShareEvent::Settled(view) => ShareNews::Settled(at, view),
            ShareEvent::Failed(_freed) => {
                self.shares.coordinator.fail(id, at);
                self.carry_on_shares(now);
                return;
            }
            ShareEvent::Over(_freed) => return,
        };
        self.shares.coordinator.event(id, news);
        self.carry_on_shares(now);
    }

    /// Carries out what the coordinator has decided.
    pub(super) fn carry_on_shares(&mut self, now: Nanos) {
        while let Some(next) = self.shares.coordinator.poll_command() {
            match next {
                Next::Prepare(id, instances) => self.prepare_share(id, &instances),
                Next::Forget(id, instances) => {
                    for at in instances {
                        self.tell_end(id, at, ShareCommand::Forget);
                    }
                }
                Next::Adopt(id, view) => self.adopt(id, &view),
                Next::Stamp(id, view, members) => self.stamp(id, view, &members),
                Next::Steady(_) => {}
                Next::End(id, reason) => self.share_is_over(id, reason, now),
            }
        }
    }

    /// No flows of a move may be in a share.
    pub(super) fn check_no_share(&self, request: &mark::Request) -> Result<(), NodeError> {
        match self.shares.coordinator.in_the_way_of(request) {
            Some(id) => {
                let reason = "has flows of the move at one of its ends: end that first";
                Err(NodeError::precondition(format!("share {id}"), reason))
            }
            None => Ok(()),
        }
    }

    fn prepare_share(&mut self, id: ShareId, instances: &[InstanceId]) {
        let record = self.shares.records.get(&id);
        let Some((sharing, mode)) = record.and_then(|record| record.sharing.clone()) else {
            return;
        };
        let workers = self.workers_of_instances();
        let last = self.workers.keys().next_back();
        let limits = Limits {
            steerers: last.map_or(0, |last| usize::from(last.0) + 1),
            ..self.limits.share
        };
        for at in instances {
            let how = (mode, limits);
            let groups = self.limits.functions.groups(&sharing);
            let end = ShareEnd::new(sharing.clone(), *at, how, (workers.clone(), groups));
            self.tell_end(id, *at, ShareCommand::Prepare(Box::new(end)));
        }
    }

    fn adopt(&mut self, id: ShareId, view: &View) {
        let workers = self.workers_of_instances();
        for at in view.participants() {
            self.tell_end(id, at, ShareCommand::Adopt(view.clone(), workers.clone()));
        }
    }

    /// Has every worker stamp for these instances. Each tells all of them, behind what it stamped
    /// before.
    fn stamp(&mut self, id: ShareId, view: u64, members: &[InstanceId]) {
        let limits = self.limits.share;
        let workers: Vec<_> = self.workers.keys().copied().collect();
        let Some(record) = self.shares.records.get_mut(&id) else { return };
        let Some((sharing, _)) = record.sharing.clone() else { return };
        record.markers = (view, workers.len() * workers.len());
        for worker in workers {
            let command = StampCommand {
                sharing: sharing.clone(),
                view,
                members: members.to_vec(),
                stamper: Box::new(Stamper::new(worker, limits)),
            };
            self.tell(worker, Command::Stamp(command));
        }
    }

    /// A worker has what another has stamped before a view.
    pub(super) fn stamped(&mut self, id: ShareId, view: u64, now: Nanos) {
        let Some(record) = self.shares.records.get_mut(&id) else { return };
        let (number, waiting) = &mut record.markers;
        if *number != view || *waiting == 0 {
            return;
        }
        *waiting -= 1;
        if *waiting == 0 {
            self.shares.coordinator.event(id, ShareNews::Stamped(view));
            self.carry_on_shares(now);
        }
    }

    /// A strict share counts on the workers that there are.
    pub(super) fn check_no_strict_share(&self) -> Result<(), NodeError> {
        let mut shares = self.shares.coordinator.shares();
        match shares.find(|(_, share)| share.request.mode == Mode::Strict) {
            Some((id, _)) => {
                let reason = "is strict and counts on the workers that there are: end its operation first, which \
                              weir operation list names";
                Err(NodeError::precondition(format!("share {id}"), reason))
            }
            None => Ok(()),
        }
    }

    fn share_is_over(&mut self, id: ShareId, reason: &str, now: Nanos) {
        if let Some(record) = self.shares.records.get_mut(&id) {
            record.sharing = None;
            record.shown.phase = api::SharePhase::Ended.into();
            record.shown.reason = reason.to_owned();
            record.shown.ended_ns = now.0;
        }
        self.shares.ended.push_back(id);
        if self.shares.ended.len() > REMEMBERED
            && let Some(oldest) = self.shares.ended.pop_front()
        {
            self.shares.records.remove(&oldest);
        }
    }

    fn tell_end(&mut self, id: ShareId, at: InstanceId, command: ShareCommand) {
        if let Some(worker) = self.instances.get(&at).map(|instance| instance.worker) {
            self.tell(worker, Command::Share(id, at, command));
        }
    }

    fn workers_of_instances(&self) -> Arc<[WorkerId; 256]> {
        Arc::new(self.steered.workers)
    }

    fn removing(&self) -> Vec<InstanceId> {
        let stopping = self.instances.iter().filter(|(_, record)| record.is_stopping());
        stopping.map(|(id, _)| *id).collect()
    }

    fn check_lives(&self, id: ShareId) -> Result<(), NodeError> {
        self.show_share(id)?;
        match self.shares.coordinator.get(id) {
            Some(_) => Ok(()),
            None => Err(NodeError::precondition(format!("share {id}"), "has ended")),
        }
    }

    fn check_members(&self, members: &[InstanceId]) -> Result<(), NodeError> {
        for id in members {
            if !self.instances.contains_key(id) {
                return Err(NodeError::no("instance", id));
            }
        }
        self.check_nobody_keeps(members)
    }

    fn check_shareable(&self, asked: &ShareRequest) -> Result<(), NodeError> {
        if asked.scopes != [Scope::MultiFlow] {
            let reason = "multi-flow state is shared: of all-flows state there are only counters, \
                          which add up wherever they are";
            return Err(NodeError::invalid("scopes", reason));
        }
        let filter = &asked.filter;
        if filter.tcp_flags.is_some() || filter.in_port.is_some() || !filter.extras().is_empty() {
            let reason = "has fields that sources do not have: leave tcp_flags, in_port and others \
                          of packets out";
            return Err(NodeError::invalid("filter", reason));
        }
        if asked.mode == Mode::Strict && self.limits.functions.has_nat() {
            let reason = "have a NAT, so that workers that receive packets do not know their sources: \
                          ask for a strong share";
            return Err(NodeError::precondition("the network functions", reason));
        }
        match self.limits.functions.sharing() {
            (1.., 0 | 1) => Ok(()),
            (0, _) => {
                let reason = "have nothing to share: an ids has, and a firewall with connections_max \
                              or rate";
                Err(NodeError::precondition("the network functions", reason))
            }
            _ => {
                let reason = "are several that decide by what sources have begun: one can share it";
                Err(NodeError::precondition("the network functions", reason))
            }
        }
    }
}

fn shown_mode(mode: Mode) -> api::ShareMode {
    match mode {
        Mode::Strong => api::ShareMode::Strong,
        Mode::Strict => api::ShareMode::Strict,
    }
}

fn shown_phase(phase: Phase) -> api::SharePhase {
    match phase {
        Phase::Preparing => api::SharePhase::Preparing,
        Phase::Changing | Phase::Stamping => api::SharePhase::Changing,
        Phase::Steady => api::SharePhase::Steady,
        Phase::Unstamping | Phase::Ending => api::SharePhase::Ending,
    }
}
