//! Forwarding: from an instance to a port, by the flow's cached decision or by a new one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rtrb::Producer;
use weir_frame::{Frame, Homes, Pool, Region};
use weir_state_transfer::bucket::Bucket;
use weir_state_transfer::{InstanceId, Nanos, PortId, WorkerId};

use super::mesh::RingEnds;
use super::probe::Probes;
use super::recover::InHand;
use super::resolve::Resolver;
use super::transmit::{Egress, NotSent};
use super::{Event, Fault, FaultStage, Item, Packet, PolicyHold, Stamps, Steered};
use crate::counters::WorkerCounters;
use crate::instance::{Basis, Choice, Entry, Instance};
use crate::local::{LocalAddresses, PortAddresses};
use crate::moves::DrainTarget;
use crate::neighbour::{AdjacencyTable, ParkedLimits};
use crate::nf::{Passing, Refused};
use crate::packet::forward::{decrement_ttl, rewrite_macs};
use crate::packet::{DropReason, Flags, MacAddr, Meta};
use crate::policy::{Policies, PolicyId};
use crate::route_table::{NextHop, RouteTable};
use crate::steering::FlowHash;
use crate::token_bucket::TokenBucket;

/// What all workers of a node share, and only read, but for tables with one writer.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The packet memory.
    pub region: Region,
    /// Which worker each frame belongs to.
    pub homes: Homes,
    /// The first steering table.
    pub steered: Arc<Steered>,
    /// What divides flows into buckets.
    pub steering_hash: Arc<FlowHash>,
    /// Where packets go.
    pub routes: RouteTable,
    /// Link addresses of next hops.
    pub adjacencies: AdjacencyTable,
    /// The router's own addresses.
    pub addresses: LocalAddresses,
    /// The addresses of each port, by port number.
    pub port_addresses: Arc<[PortAddresses]>,
    /// What every worker knows of each port, by port number.
    pub ports: Arc<[PortFacts]>,
    /// Neighbours of all ports at most.
    pub neighbours_max: usize,
    /// How long a flow may be idle.
    pub flow_timeout: Duration,
    /// How many packets may wait for next hops at one worker.
    pub park: ParkedLimits,
    /// ICMP errors that one worker may send in a second.
    pub icmp_errors: u32,
}

/// What forwarding must know of a port.
#[derive(Clone, Copy, Debug)]
pub struct PortFacts {
    /// Its link address.
    pub mac: MacAddr,
    /// The longest packet that leaves by it, from the network header on.
    pub mtu: u16,
}

/// What a worker forwards with: everything but its instances and moves.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) worker: WorkerId,
    /// When the poll round began.
    pub(crate) now: Nanos,
    pub(crate) pool: Pool,
    pub(crate) rings: RingEnds,
    pub(crate) egress: Egress,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) steering_hash: Arc<FlowHash>,
    pub(super) resolver: Resolver,
    pub(super) routes: RouteTable,
    pub(super) policies: Arc<Policies>,
    pub(super) policy_hold: PolicyHold,
    pub(super) probes: Probes,
    pub(super) ports: Arc<[PortFacts]>,
    pub(super) addresses: LocalAddresses,
    pub(super) port_addresses: Arc<[PortAddresses]>,
    pub(super) icmp_errors: TokenBucket,
    /// Lost if the worker panics.
    pub(super) in_hand: InHand,
    /// Who steered the packet in hand.
    pub(super) steerer: WorkerId,
    /// Its places in the order of strict shares.
    pub(super) stamps: Stamps,
    /// Whether a message of a share was taken since the last look: an answer may be close.
    pub(super) exchanged: bool,
    /// Whether changes have waited for shares that were lost in a panic.
    pub(super) left_updates: bool,
    /// Asked for by a test.
    pub(super) fault: Option<Fault>,
    /// The network function that has panicked last without an end of the round.
    pub(super) panicked: Option<(InstanceId, &'static str)>,
    /// Whether an event was pushed to the node since the last look.
    pub(super) told: bool,
    events: Producer<Event>,
    backlog: VecDeque<Event>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
enum Decision {
    /// It leaves by this adjacency.
    Via(u32),
    /// Its next hop is being resolved.
    Wait(PortId, std::net::IpAddr),
    /// It waits until this policy route leads somewhere.
    Hold(PolicyId),
    Drop(DropReason),
}

/// What was decided, and the place of the policy route that it was decided by.
#[derive(Clone, Copy, Debug)]
struct Decided {
    decision: Decision,
    policy: Option<u8>,
}

impl Forwarder {
    pub(super) fn new(
        worker: WorkerId,
        shared: &Shared,
        counters: Arc<WorkerCounters>,
        events: Producer<Event>,
    ) -> Self {
        Self {
            worker,
            now: Nanos(0),
            pool: Pool::new(weir_frame::HomeId(worker.0), &shared.homes),
            rings: RingEnds::default(),
            egress: Egress::default(),
            counters,
            steering_hash: shared.steering_hash.clone(),
            resolver: Resolver::new(shared),
            routes: shared.routes.clone(),
            policies: shared.steered.policies.clone(),
            policy_hold: PolicyHold::default(),
            probes: Probes::default(),
            ports: shared.ports.clone(),
            addresses: shared.addresses.clone(),
            port_addresses: shared.port_addresses.clone(),
            icmp_errors: TokenBucket::new(shared.icmp_errors),
            in_hand: InHand::default(),
            steerer: worker,
            stamps: Stamps::default(),
            exchanged: false,
            left_updates: false,
            fault: None,
            panicked: None,
            told: false,
            events,
            backlog: VecDeque::new(),
        }
    }

    /// Forwards a packet of an instance.
    ///
    /// A flow whose entry has a decision of the current generation replays it; any other is
    /// decided anew and remembered. A full flow table does not stop a packet: it is forwarded
    /// without an entry, which is counted. The entry is that of the flow as the packet came; a NAT
    /// changes what is decided on, and what leaves.
    #[inline]
    pub(crate) fn forward(&mut self, instance: &mut Instance, packet: Packet) {
        if packet.meta.flags.has(Flags::OWN_ERROR) {
            self.send_own(instance, packet);
        } else if instance.subscriptions.is_idle() {
            self.enter(instance, packet);
        } else if let Some(packet) = self.subscribed(instance, packet) {
            self.enter(instance, packet);
        }
    }

    /// Processes a packet, unless its instance shares what it is about: then it may wait.
    #[inline]
    fn enter(&mut self, instance: &mut Instance, packet: Packet) {
        if instance.shares.is_empty() {
            self.process(instance, packet);
        } else {
            self.share(instance, packet);
        }
    }

    /// Forwards a packet of an instance that nobody who has subscribed keeps from it.
    #[inline]
    pub(super) fn process(&mut self, instance: &mut Instance, packet: Packet) {
        let Packet { mut frame, mut meta, port } = packet;
        let (key, bucket) = (meta.key, Bucket::of(meta.hash));
        instance.round += 1;
        let place = instance.flows.find(&key, bucket);
        self.in_hand.is_of(instance.id, &meta);
        if place.is_some_and(|place| instance.flows.entry_mut(place).is_poisoned()) {
            self.drop_frame(frame, DropReason::Poisoned);
            return;
        }
        self.fault_of_functions(instance);
        let watched = !instance.subscriptions.is_idle();
        let came = watched.then(|| instance.as_come(frame.data(), &meta, port));
        let passing = Passing { frame: frame.data_mut(), meta: &mut meta, port, now: self.now };
        let verdict = instance.show(passing);
        if let Some(came) = came {
            instance.processed(&came, frame.data(), self.now);
        }
        if let Err(Refused { reason, answer }) = verdict {
            self.answer_and_drop(frame, &meta, port, (reason, answer));
            return;
        }
        if let Err(reason) = decrement_ttl(frame.data_mut(), &meta) {
            self.refuse(frame, &meta, port, reason);
            return;
        }
        let place = place.or_else(|| {
            let placed = instance.flows.insert(Entry::new(key, self.now), bucket);
            if placed.is_none() {
                self.counters.flow_table_full.add(1);
            }
            placed
        });
        self.fault(FaultStage::Forwarding);
        let Decided { decision, policy } = match place {
            Some(place) => {
                let entry = instance.flows.entry_mut(place);
                self.decide_with(entry, &meta, port, &instance.counters)
            }
            None => self.decide(&meta, port),
        };
        if let Some(policy) = policy.and_then(|place| self.policies.at(place)) {
            policy.counters.count(self.worker, meta.ip_len());
        }
        trim(&mut frame, &meta);
        instance.counters.packets.add(1);
        instance.counters.bytes.add(u64::from(meta.ip_len()));
        if let Some(place) = place {
            let l3 = usize::from(meta.l3);
            instance.flows.entry_mut(place).count(&frame.data()[l3..], self.now);
        }
        self.carry_out(decision, frame, meta, port);
    }

    /// Replays the decision of a flow, or makes it.
    #[inline]
    fn decide_with(
        &mut self,
        entry: &mut Entry,
        meta: &Meta,
        port: PortId,
        counters: &crate::counters::InstanceCounters,
    ) -> Decided {
        // Read before the routes, so that a change meanwhile is noticed.
        let routes = self.routes.generation(&meta.key);
        let basis = Basis { routes, policies: self.policies.basis(port) };
        if let Some(Choice { adjacency, policy }) = entry.decision(&basis)
            && self.resolver.adjacency(adjacency).is_some()
        {
            counters.hits.add(1);
            return Decided { decision: Decision::Via(adjacency), policy };
        }
        counters.misses.add(1);
        let decided = self.decide(meta, port);
        if let Decided { decision: Decision::Via(adjacency), policy } = decided {
            entry.decide(Choice { adjacency, policy }, &basis);
        }
        decided
    }

    /// Asks the policy routes and then the routes, and finds the next hop.
    fn decide(&mut self, meta: &Meta, port: PortId) -> Decided {
        let (hop, policy) = match self.policies.find(&meta.key, port) {
            // What comes while packets are still being released goes behind them.
            Some((place, policy)) if policy.holds || self.policy_hold.contains(policy.id) => {
                return Decided { decision: Decision::Hold(policy.id), policy: Some(place) };
            }
            Some((place, policy)) => (Some(policy.hop), Some(place)),
            None => (self.routes.lookup(&meta.key), None),
        };
        let decision = match hop {
            None => Decision::Drop(DropReason::NoRoute),
            Some(NextHop { port, via }) => {
                let address = via.unwrap_or_else(|| meta.key.dst());
                match self.resolver.find(port, address) {
                    Some(adjacency) => Decision::Via(adjacency),
                    None => Decision::Wait(port, address),
                }
            }
        };
        Decided { decision, policy }
    }

    fn carry_out(&mut self, decision: Decision, frame: Frame, meta: Meta, port: PortId) {
        match decision {
            Decision::Via(adjacency) => self.send_via(adjacency, frame, &meta, port),
            Decision::Wait(out, address) => self.wait(out, address, Packet { frame, meta, port }),
            Decision::Hold(policy) => self.hold_for(policy, Packet { frame, meta, port }),
            Decision::Drop(reason) => self.refuse(frame, &meta, port, reason),
        }
    }

    /// Addresses a frame to a next hop and queues it.
    #[inline]
    pub(super) fn send_via(&mut self, adjacency: u32, mut frame: Frame, meta: &Meta, port: PortId) {
        let Some(next) = self.resolver.adjacency(adjacency) else {
            self.refuse(frame, meta, port, DropReason::NeighbourUnresolved);
            return;
        };
        let facts = self.ports[usize::from(next.port.0)];
        if meta.ip_len() > facts.mtu {
            self.refuse(frame, meta, port, DropReason::TxTooLong);
            return;
        }
        rewrite_macs(frame.data_mut(), next.mac, facts.mac);
        self.send(next.port, frame);
    }

    /// The longest packet that leaves towards where a packet goes that came in by a port.
    pub(super) fn mtu_towards(&self, meta: &Meta, came_by: PortId) -> u16 {
        let policy = self.policies.find(&meta.key, came_by).map(|(_, policy)| policy.hop);
        let hop = policy.or_else(|| self.routes.lookup(&meta.key));
        hop.map_or(u16::MAX, |hop| self.ports[usize::from(hop.port.0)].mtu)
    }

    /// Queues a frame at a port, as it is.
    #[inline]
    pub(super) fn send(&mut self, port: PortId, frame: Frame) {
        match self.egress.send(port, frame, &mut self.rings, &mut self.pool) {
            Ok(handed_over) => self.counters.handed_out.add(u64::from(handed_over)),
            Err(NotSent::RingFull(frame)) => self.drop_frame(frame, DropReason::TxRingFull),
            Err(NotSent::HandoverFull(frame)) => {
                self.drop_frame(frame, DropReason::TxHandoverFull);
            }
            Err(NotSent::PortDown(frame)) => self.drop_frame(frame, DropReason::PortDown),
        }
    }

    /// Pushes an item to a worker.
    #[inline]
    pub(crate) fn hand_out(&mut self, worker: WorkerId, item: Item) {
        let outbox = self.rings.to(worker);
        self.counters.handed_out.add(item.packets());
        outbox.push(item);
    }

    /// Flushes what was queued in this round.
    pub(super) fn flush(&mut self) {
        self.egress.flush(&mut self.pool);
        self.rings.flush();
        while let Some(event) = self.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(event)) = self.events.push(event) {
                self.backlog.push_front(event);
                break;
            }
        }
    }

    /// Drops a packet for a reason.
    #[inline]
    pub(crate) fn drop_packet(&mut self, packet: Packet, reason: DropReason) {
        self.drop_frame(packet.frame, reason);
    }

    /// Drops a frame for a reason.
    #[inline]
    pub(super) fn drop_frame(&mut self, frame: Frame, reason: DropReason) {
        self.pool.free(frame);
        self.counters.drops.count(reason);
    }

    /// Tells the node, which is woken.
    pub(crate) fn tell(&mut self, event: Event) {
        self.told = true;
        self.note(event);
    }

    /// Tells the node of something that can wait until it looks: in the middle of a move it does each
    /// millisecond, and to be woken would take a core from the move.
    pub(crate) fn note(&mut self, event: Event) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(event);
        } else if let Err(rtrb::PushError::Full(event)) = self.events.push(event) {
            self.backlog.push_back(event);
        }
    }

    /// Whether the node is behind with events.
    pub(super) fn events_wait(&self) -> bool {
        !self.backlog.is_empty() || self.events.slots() < EVENTS_LEFT
    }

    /// Workers that transmit for this one.
    pub(crate) fn transmitters(&self) -> Vec<WorkerId> {
        self.egress.transmitters()
    }

    /// What must have left so that everything sent up to here has.
    pub(crate) fn drain_target(&self) -> DrainTarget {
        self.egress.drain_target()
    }

    /// Whether everything up to a target has left.
    pub(crate) fn has_drained(&self, target: &DrainTarget) -> bool {
        self.egress.has_drained(target)
    }
}

/// Cuts off what pads a short packet to the least length of an Ethernet frame.
#[inline]
fn trim(frame: &mut Frame, meta: &Meta) {
    let end = usize::from(meta.end);
    if frame.len() > end {
        frame.set_len(end).expect("shorter than it is");
    }
}

/// Slots of the event ring that reports leave for what is urgent.
const EVENTS_LEFT: usize = 64;
