//! What must hold when a schedule has come to rest.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::mpsc::channel;

use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::{Record, ids};
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{FlowQuery, FlowRecord};
use weir_state_transfer::mark::{Guarantee, Request};
use weir_state_transfer::{BucketSet, FlowKey, InstanceId, MoveId, Nanos, Selection, ServiceId};
use weir_testbed::schedule::{Failure, Kind};

use crate::reference::Lane;
use crate::shape::FLOW_TIMEOUT;
use crate::world::{World, id_of};

/// What a schedule did, to show that the schedules reach what they are for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) schedules: u64,
    pub(crate) packets: u64,
    pub(crate) done: u64,
    pub(crate) undone: u64,
    pub(crate) held: u64,
    pub(crate) hold_full: u64,
    pub(crate) port_down: u64,
    pub(crate) unresolved: u64,
    pub(crate) panics: u64,
    pub(crate) workers_left: u64,
    /// Packets dropped and packets reordered where this was not promised otherwise.
    pub(crate) in_transit: u64,
    pub(crate) reordered: u64,
    /// Pieces of state of several flows that have moved.
    pub(crate) multi_flow: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.packets += other.packets;
        self.done += other.done;
        self.undone += other.undone;
        self.held += other.held;
        self.hold_full += other.hold_full;
        self.port_down += other.port_down;
        self.unresolved += other.unresolved;
        self.panics += other.panics;
        self.workers_left += other.workers_left;
        self.in_transit += other.in_transit;
        self.reordered += other.reordered;
        self.multi_flow += other.multi_flow;
    }
}

impl World {
    /// Brings everything to rest and judges it; then scales in to one instance, judges again, and
    /// lets all flows time out.
    pub(crate) fn finish(&mut self) -> Result<Summary, Failure> {
        self.mend_links();
        self.settle()?;
        self.judge_balance()?;
        self.judge_moves()?;
        // Every flow has state again.
        self.one_packet_each()?;
        self.judge_flows(false)?;
        let summary = self.summary();
        self.scale_in()?;
        self.one_packet_each()?;
        self.judge_moves()?;
        self.judge_flows(true)?;
        self.judge_end()?;
        self.judge_sources()?;
        self.judge_records()?;
        Ok(summary)
    }

    fn one_packet_each(&mut self) -> Result<(), Failure> {
        for flow in 0..self.reference.flows.len() {
            for lane in 0..self.reference.flows[flow].lanes.len() {
                let before = self.reference.injected;
                for _ in 0..TRIES {
                    self.inject(flow, lane);
                    if self.reference.injected > before {
                        break;
                    }
                    self.settle()?;
                }
            }
        }
        self.settle()?;
        self.judge_balance()
    }

    /// Nothing is lost that was not counted for a reason that the schedule excuses, and every
    /// packet and frame is somewhere.
    fn judge_balance(&self) -> Result<(), Failure> {
        let counters = self.node.node.counters();
        let mut dropped = 0;
        for drop in &counters.drops {
            let excused = match drop.reason.as_str() {
                "hold_full" => self.shape.hold_may_fill(),
                "state_in_transit" => self.shape.least == Guarantee::None,
                "port_down" => self.shape.links_fail,
                "neighbour_unresolved" => self.shape.hosts_unknown,
                "worker_panic" => drop.packets <= self.panics,
                "poisoned" => self.panics > 0,
                _ => false,
            };
            if !excused {
                return Err(Kind::Dropped.at(format!("{} {}", drop.packets, drop.reason)));
            }
            dropped += drop.packets;
        }
        if self.reference.outstanding() != dropped {
            let lost = self.reference.outstanding();
            return Err(Kind::Lost.at(format!("{lost} did not leave, {dropped} were dropped")));
        }
        let balance = counters.balance.unwrap_or_default();
        let rest = (balance.held, balance.in_rings, balance.overload);
        let asked_in_vain = balance.generated > 0 && !self.shape.hosts_unknown;
        if balance.unaccounted != 0 || rest != (0, 0, 0) || asked_in_vain {
            return Err(Kind::Balance.at(format!("{balance:?}")));
        }
        let frames: u64 = counters.frames.iter().map(|place| place.frames).sum();
        if frames != u64::from(self.shape.plan.frames) {
            return Err(Kind::Balance.at(format!("{frames} frames: {:?}", counters.frames)));
        }
        let full: u64 =
            self.node.workers.values().map(|w| w.counters().flow_table_full.get()).sum();
        if full > 0 { Err(Kind::State.at("a flow table is full")) } else { Ok(()) }
    }

    /// Every move has ended, and each says of itself what it can.
    fn judge_moves(&self) -> Result<(), Failure> {
        let mut in_transit = 0;
        for id in self.reference.moves.keys() {
            let shown = self.shown(*id)?;
            in_transit += shown.in_transit_drops;
            if shown.left_behind + shown.multi_flow_refused > 0 {
                return Err(Kind::State.at(format!("there is room for all: {shown:?}")));
            }
            let ended = [api::MovePhase::Done, api::MovePhase::Undone].contains(&shown.phase());
            let hold = self.shape.plan.limits.hold as u64;
            if !ended || shown.held_max > hold {
                return Err(Kind::Stuck.at(format!("{shown:?}")));
            }
        }
        if in_transit != self.in_transit() {
            return Err(Kind::Balance.at(format!("moves have dropped {in_transit} in transit")));
        }
        Ok(())
    }

    /// When all connections are over, no source has any open: each that one instance has counted
    /// as begun, any has counted as ended, and what is known of it has come together.
    fn judge_sources(&mut self) -> Result<(), Failure> {
        if !self.shape.functions || self.panics > 0 {
            return Ok(());
        }
        self.node.now = Nanos(self.node.now.0 + CONNECTION_TIMEOUT);
        let mut sources = Vec::new();
        for _ in 0..SWEEPS {
            self.settle()?;
            let (to, pieces) = channel();
            for instance in self.node.node.instance_ids() {
                self.node.node.report_nfs(instance, to.clone());
            }
            drop(to);
            self.settle()?;
            let counters = pieces.try_iter().flatten().filter(|nf| nf.kind == "firewall");
            sources = counters.flat_map(|nf| nf.counters).collect();
            sources.retain(|(name, count)| name == "sources" && *count > 0);
            if sources.is_empty() {
                return Ok(());
            }
        }
        Err(Kind::State.at(format!("{sources:?} have connections that do not end")))
    }

    /// The state of every flow is with its owner, once, and what a single instance would have.
    fn judge_flows(&mut self, scaled_in: bool) -> Result<(), Failure> {
        let records = self.records()?;
        for flow in &self.reference.flows {
            let is_its = |record: &&FlowRecord| flow.came_as() == Some(&record.key);
            let kept: Vec<_> = records.iter().filter(is_its).collect();
            // What is dropped at the way out has been counted by its flow.
            if self.dropped_outside() == 0 {
                flow.check_state(&kept, self.node.now)?;
            }
            let owner = self.reference.owner(flow, |id| self.is_done(id));
            if kept.iter().any(|record| record.instance != owner) {
                return Err(Kind::Owner.at(format!("{} is not at {owner}: {kept:?}", flow.key)));
            }
            if scaled_in && owner != FIRST {
                return Err(Kind::Owner.at(format!("{} stays at {owner}", flow.key)));
            }
        }
        let ours = |record: &&FlowRecord| {
            !self.reference.flows.iter().any(|flow| flow.came_as() == Some(&record.key))
        };
        match records.iter().find(ours) {
            Some(record) => Err(Kind::State.at(format!("nobody sent {record:?}"))),
            None => Ok(()),
        }
    }

    /// Moves everything to the first instance and removes the others. Every bucket that steering
    /// says an instance owns must arrive from there.
    fn scale_in(&mut self) -> Result<(), Failure> {
        for instance in self.list() {
            let id = id_of(&instance);
            if id == FIRST || instance.state() != api::InstanceState::Active {
                continue;
            }
            let selection = Selection::Buckets(BucketSet::all());
            self.start_move(&Request::new(id, FIRST, selection), false)?;
            let last = self.reference.moves.keys().next_back().copied().unwrap_or_default();
            self.settle()?;
            let shown = self.shown(last)?;
            if shown.phase() != api::MovePhase::Done || shown.buckets_moved != instance.buckets {
                return Err(Kind::Owner.at(format!("{} buckets: {shown:?}", instance.buckets)));
            }
        }
        for id in self.instances().into_iter().filter(|id| *id != FIRST) {
            self.remove(id)?;
        }
        self.settle()?;
        match self.instances().as_slice() {
            [FIRST] => Ok(()),
            rest => Err(Kind::Refused.at(format!("{rest:?} stay"))),
        }
    }

    fn remove(&mut self, id: InstanceId) -> Result<(), Failure> {
        let change = api::Change::default();
        let ready = self.list().iter().any(|instance| {
            id_of(instance) == id && instance.state() == api::InstanceState::Active
        });
        if ready {
            self.set_state(id, api::InstanceState::Paused).map_err(|e| Kind::Refused.at(e))?;
        }
        self.node.node.remove_instance(&change, id).map_err(|error| Kind::Refused.at(error))
    }

    /// All flows time out, and all frames are free or lent.
    fn judge_end(&mut self) -> Result<(), Failure> {
        let idle = u64::try_from(FLOW_TIMEOUT.as_nanos()).expect("a minute") + 1;
        self.node.now = Nanos(self.node.now.0 + idle);
        for _ in 0..SWEEPS {
            self.settle()?;
            if self.list().iter().all(|instance| instance.flows == 0) {
                break;
            }
        }
        let records = self.records()?;
        if !records.is_empty() {
            return Err(Kind::State.at(format!("{records:?} are idle and stay")));
        }
        let steering = self.node.node.show_steering();
        if !steering.rules.is_empty() || steering.exact_flows != 0 {
            return Err(Kind::Owner.at(format!("rules stay: {:?}", steering.rules)));
        }
        self.judge_balance()
    }

    /// The node stops, and has logged each connection once, with every packet of both directions.
    fn judge_records(&mut self) -> Result<(), Failure> {
        self.node.node.stop(self.node.now);
        self.settle()?;
        // Packets that got no further than a hold were not seen.
        let drops = self.node.node.counters().drops;
        let not_seen = drops.iter().any(|drop| drop.reason == "hold_full" && drop.packets > 0);
        let (in_transit, outside) = (self.in_transit(), self.dropped_outside());
        if !self.shape.functions || self.panics > 0 || not_seen || (in_transit > 0 && outside > 0) {
            return Ok(());
        }
        let mut expected: BTreeMap<FlowKey, u64> = BTreeMap::new();
        for flow in &self.reference.flows {
            let injected: usize = flow.lanes.iter().map(Lane::injected).sum();
            let packets = if in_transit > 0 { flow.left() } else { injected };
            *expected.entry(flow.key.both_ways()).or_default() += packets as u64;
        }
        let mut logged = BTreeMap::new();
        for (_, record) in &self.node.records {
            let Record::Ids(ids::Record::Conn(record)) = record else { continue };
            let (orig, resp) = (record.id.orig, record.id.resp);
            let ports = (orig.1, resp.1);
            let key = FlowKey::new(orig.0, resp.0, ports, record.protocol, ServiceId(0));
            let key = key.ok_or(Kind::State.at("a connection between families"))?;
            let packets = record.packets.orig + record.packets.resp;
            if logged.insert(key.both_ways(), packets).is_some() {
                return Err(Kind::State.at(format!("{key} is logged twice")));
            }
        }
        expected.retain(|_, packets| *packets > 0);
        if logged == expected {
            return Ok(());
        }
        Err(Kind::State.at(format!("logged are {logged:?}, should be {expected:?}")))
    }

    fn records(&mut self) -> Result<Vec<FlowRecord>, Failure> {
        let (to, pieces) = channel();
        let query = FlowQuery { id: 0, filter: None, instance: None };
        self.node.node.report_flows(query, to);
        self.settle()?;
        Ok(pieces.try_iter().flatten().collect())
    }

    fn is_done(&self, id: MoveId) -> bool {
        self.shown(id).is_ok_and(|shown| shown.phase() == api::MovePhase::Done)
    }

    fn shown(&self, id: MoveId) -> Result<api::Move, Failure> {
        self.node.node.show_move(id).map_err(|error| Kind::Refused.at(error))
    }

    fn summary(&self) -> Summary {
        let mut summary =
            Summary { schedules: 1, packets: self.reference.taken, ..Summary::default() };
        for id in self.reference.moves.keys() {
            let Ok(shown) = self.shown(*id) else { continue };
            let done = shown.phase() == api::MovePhase::Done;
            summary.done += u64::from(done);
            summary.undone += u64::from(!done);
            summary.held += shown.held;
            summary.hold_full += shown.hold_full_drops;
            summary.multi_flow += shown.multi_flow;
        }
        (summary.in_transit, summary.reordered) = (self.in_transit(), self.reference.reordered);
        summary.port_down = self.dropped("port_down");
        summary.unresolved = self.dropped("neighbour_unresolved");
        summary.panics = self.panics;
        summary.workers_left = self.workers_left;
        summary
    }
}

/// Longer than any connection is kept that has ended or is idle.
const CONNECTION_TIMEOUT: u64 = 6 * 24 * 3600 * 1_000_000_000;
/// Attempts to inject a packet while others leave.
const TRIES: usize = 20;
/// Times that everything comes to rest while all sets of all flow tables are swept.
const SWEEPS: usize = 40;
