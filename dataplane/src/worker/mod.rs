//! A worker: polls the queues that it owns, steers, runs its instances, transmits.
//!
//! A worker is a value. [`Worker::poll`] is one round of its loop; a thread of the `driver`
//! calls it, or a test, which then decides in which order the workers take their turns.

mod command;
mod forward;
mod functions;
mod housekeep;
mod instances;
mod item;
mod leave;
mod local;
mod mesh;
mod policy;
mod probe;
mod receive;
mod recover;
mod report;
mod resolve;
mod serve;
mod share;
mod splice;
mod stamp;
mod transmit;

use std::sync::Arc;

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer};
use weir_frame::{Frame, Region};
use weir_nf_api::server::Desk;
use weir_state_transfer::{InstanceId, Nanos, WorkerId};

pub use command::{
    Command, Event, Flip, FlowQuery, FlowRecord, GivenUp, MoveSpec, NfReport, Retired, Steered,
};
pub(crate) use forward::Forwarder;
pub use forward::{PortFacts, Shared};
pub(crate) use instances::Instances;
pub use item::{Held, Item, Message, Packet};
pub use mesh::{ASIDE, Inbox, Outbox, RingEnds, ring};
pub(crate) use policy::PolicyHold;
pub use probe::{PROBE_LIFE, PROBES_MAX, Probing};
pub use recover::{Fault, FaultStage};
pub use share::{ShareCommand, ShareEvent};
pub use splice::Splice;
pub(crate) use stamp::Stamped;
pub use stamp::{StampCommand, Stamps};

use crate::counters::WorkerCounters;
use crate::instance::Instance;
pub use crate::moves::MoveEnd;
use crate::moves::{Context, Intercepted, Moves};
use crate::packet::DropReason;
use crate::port::{BURST, RxQueue};
use housekeep::Housekeeping;

/// Items taken from one ring in one poll round.
const ITEMS: usize = 64;
/// Commands carried out in one poll round.
const COMMANDS: usize = 16;

/// A worker and everything that it owns.
#[derive(Debug)]
pub struct Worker {
    forwarder: Forwarder,
    instances: Instances,
    moves: Moves,
    steered: Arc<Steered>,
    stampers: stamp::Stampers,
    places: stamp::Announced,
    queues: Vec<RxQueue>,
    /// The burst in hand, last packet first, and the queue that it came from. It is kept here so
    /// that a panic loses the packet that caused it and no other.
    burst: ArrayVec<Frame, BURST>,
    burst_queue: usize,
    commands: Consumer<Command>,
    housekeeping: Housekeeping,
    reports: report::Reports,
    functions: functions::Functions,
    /// The desk in hand, and whose it is: kept here so that a panic does not close it.
    serving: Option<(InstanceId, Box<Desk>)>,
    region: Region,
    /// When the round before began, if it did work: its cost is known when the next begins.
    round_began: Option<Nanos>,
    /// It ends when its rings are empty and everything has left.
    retiring: bool,
    retired: bool,
    /// Leaving workers that nothing more is sent to.
    disconnecting: Vec<WorkerId>,
}

/// What a poll round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Packets received, popped or released.
    pub packets: u64,
    /// Whether there is more to do at once, packets or not.
    pub busy: bool,
}

/// The node's end of a worker's command and event rings.
#[derive(Debug)]
pub struct WorkerEnds {
    /// Commands to the worker.
    pub commands: Producer<Command>,
    /// Events of the worker.
    pub events: Consumer<Event>,
}

impl Worker {
    /// A worker without queues, rings or instances, and the node's ends of its rings.
    pub fn new(id: WorkerId, shared: &Shared, counters: Arc<WorkerCounters>) -> (Self, WorkerEnds) {
        let (commands, commands_out) = rtrb::RingBuffer::new(COMMAND_RING);
        let (events, events_out) = rtrb::RingBuffer::new(EVENT_RING);
        let worker = Self {
            forwarder: Forwarder::new(id, shared, counters, events),
            instances: Instances::default(),
            moves: Moves::default(),
            steered: shared.steered.clone(),
            stampers: stamp::Stampers::default(),
            places: stamp::Announced::default(),
            queues: Vec::new(),
            burst: ArrayVec::new(),
            burst_queue: 0,
            commands: commands_out,
            housekeeping: Housekeeping::new(shared.flow_timeout),
            reports: report::Reports::default(),
            functions: functions::Functions::default(),
            serving: None,
            region: shared.region.clone(),
            round_began: None,
            retiring: false,
            retired: false,
            disconnecting: Vec::new(),
        };
        (worker, WorkerEnds { commands, events: events_out })
    }

    /// One round: commands, what was held, queues, rings, moves, timers, transmit.
    pub fn poll(&mut self, now: Nanos) -> Work {
        self.begin_round(now);
        let mut work = Work { busy: self.carry_out_commands(), ..Work::default() };
        // With some left it may not know yet who owns a port: an answer would go astray.
        let is_told = !work.busy;
        work.busy |= !self.forwarder.rings.flush();
        // While there is room: what comes would take it, and goes behind this anyway.
        work.busy |= self.forwarder.release_held();
        if is_told && !self.forwarder.rings.hold_up() && !self.functions.has_ended() {
            work.packets += self.receive();
        }
        if is_told {
            work.packets += self.take_items();
            work.busy |= self.step_shares();
        }
        work.busy |= self.step_moves(now);
        work.busy |= self.report_piece();
        work.busy |= self.functions.step(&mut self.instances, &mut self.forwarder);
        work.busy |= self.serve(now);
        self.disconnect_leaving();
        self.housekeep(now);
        self.forwarder.flush();
        self.end_round(&work);
        self.retired = self.retiring && self.retire();
        work
    }

    /// Which worker this is.
    pub fn id(&self) -> WorkerId {
        self.forwarder.worker
    }

    /// Its receive queues, whose descriptors its driver sleeps on.
    pub fn queues(&self) -> &[RxQueue] {
        &self.queues
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<WorkerCounters> {
        &self.forwarder.counters
    }

    /// Workers that were pushed something since the last call: their drivers may sleep.
    pub fn take_pushed(&mut self) -> impl Iterator<Item = WorkerId> + '_ {
        self.forwarder.rings.take_pushed()
    }

    /// Whether an event was pushed to the node since the last call.
    pub fn take_told(&mut self) -> bool {
        std::mem::take(&mut self.forwarder.told)
    }

    /// Whether it has ended: it is not polled again.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether nothing waits in its rings: a driver looks once more before it sleeps.
    pub fn is_idle(&self) -> bool {
        let asked = |instance: &Instance| instance.desk.as_ref().is_some_and(|d| !d.is_empty());
        self.commands.is_empty()
            && self.forwarder.rings.is_idle()
            && self.burst.is_empty()
            && !self.instances.iter().any(asked)
    }

    /// Whether there may be more.
    fn carry_out_commands(&mut self) -> bool {
        for _ in 0..COMMANDS {
            let Ok(command) = self.commands.pop() else { return false };
            self.carry_out(command);
        }
        true
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Connect(worker, outbox, inbox) => {
                self.forwarder.rings.add_outbox(worker, outbox);
                self.forwarder.rings.add_inbox(worker, inbox);
            }
            Command::Steer(steered, flips) => self.steer(steered, &flips),
            Command::HoldIn(hold) => self.forwarder.policy_hold = hold,
            Command::AddInstance(instance) => {
                let id = instance.id;
                self.instances.add(*instance);
                self.forwarder.tell(Event::Ready(id));
            }
            Command::RemoveInstance(id) => {
                if let Some(instance) = self.instances.find(id) {
                    instance.leave();
                }
            }
            Command::Serve(id, desk) => {
                if let Some(instance) = self.instances.find(id) {
                    // Nobody is told any more of what came of those of another desk.
                    instance.subscriptions.end();
                    instance.desk = Some(desk);
                }
            }
            Command::Inherit(id, gone) => {
                if let Some(instance) = self.instances.find(id) {
                    instance.chain.inherit(gone);
                }
            }
            Command::EndFlows => self.functions.end_flows(),
            Command::Prepare(end) => self.moves.prepare(end, &mut self.forwarder),
            Command::Forget(id) => self.moves.forget(id, &mut self.forwarder),
            Command::Ask(id) => self.moves.ask(id, &mut self.forwarder),
            Command::AddRx(queue) => self.queues.push(*queue),
            Command::AddTx(queue) => self.forwarder.egress.set_own(queue),
            Command::TxVia(port, worker, far) => {
                self.forwarder.egress.set_via(port, worker, far);
            }
            Command::Own(owner) => self.forwarder.resolver.own(*owner),
            Command::PortOwner(port, worker) => self.forwarder.resolver.set_owner(port, worker),
            Command::SortFrames => self.forwarder.sort_frames(),
            Command::AdoptFrames(frames) => self.forwarder.pool.adopt(frames),
            Command::GiveUp => self.give_up(),
            Command::Disconnect(worker) => self.disconnecting.push(worker),
            Command::ForgetWorker(worker) => self.forget_worker(worker),
            Command::Retire => self.retiring = true,
            Command::ReportFlows(query) => self.reports.start(query),
            Command::ReportNfs(query, id) => {
                let reports = self.instances.find(id).map(|instance| functions::report(instance));
                let reports = reports.unwrap_or_default();
                self.forwarder.tell(Event::Nfs(query, reports));
            }
            Command::ReportNeighbours(id) => self.forwarder.report_neighbours(id),
            Command::Probe(probing) => self.forwarder.probe(&probing),
            Command::CatchUp(nonce) => self.catch_up(nonce),
            Command::Share(id, at, command) => self.command_share(id, at, command),
            Command::Stamp(command) => self.stamp(command),
            Command::Panic(fault) => self.forwarder.ask_for_fault(fault),
        }
    }

    /// Flips: packets from here on go the new way, and the markers go behind those before.
    fn steer(&mut self, steered: Arc<Steered>, flips: &[Flip]) {
        for flip in flips {
            if flip.to == self.forwarder.worker {
                // Its own packets do not pass a ring, so its own marker must not either.
                self.moves.marker(flip.to, flip.id, flip.back);
            } else {
                let marker = Item::Marker { id: flip.id, back: flip.back };
                self.forwarder.hand_out(flip.to, marker);
            }
        }
        let generation = steered.generation;
        // The last but one to hold the list before is what is handed back.
        self.forwarder.policies = steered.policies.clone();
        let before = std::mem::replace(&mut self.steered, steered);
        let steers = Event::Steers(generation, Some(before));
        if self.moves.has_ends() {
            self.forwarder.note(steers);
        } else {
            self.forwarder.tell(steers);
        }
    }

    /// Takes what other workers, and this one, have pushed.
    fn take_items(&mut self) -> u64 {
        let mut packets = 0;
        for from in 0..self.forwarder.rings.inboxes() {
            let sender = WorkerId(from as u8);
            for _ in 0..ITEMS {
                let Some(item) = self.forwarder.rings.pop(sender) else { break };
                packets += self.take(sender, item);
            }
            self.forwarder.take_home(sender);
        }
        packets
    }

    /// Deals with what a worker has pushed; how many packets that was.
    fn take(&mut self, sender: WorkerId, item: Item) -> u64 {
        let packets = item.packets();
        self.forwarder.counters.handed_in.add(packets);
        self.forwarder.in_hand.take_up(packets > 0);
        match &item {
            Item::Transmit(..) | Item::Parked(..) => {
                self.forwarder.fault(FaultStage::Transmitted);
            }
            _ if packets > 0 => self.forwarder.fault(FaultStage::Taken),
            _ => {}
        }
        match item {
            Item::Packet(instance, packet) => self.deliver(sender, instance, packet),
            Item::Places(stamps) => self.places.put(sender, stamps),
            Item::Stamped(instance, packet) => {
                let stamps = self.places.take(sender);
                self.deliver_stamped(sender, instance, packet, stamps);
            }
            Item::ShareMarker(id, view) => self.forwarder.tell(Event::Stamped(id, view)),
            Item::Local(packet) => self.forwarder.answer_locally(packet),
            Item::Transmit(port, frame) => self.forwarder.send(port, frame),
            Item::Error(port, frame) => self.steer_error(frame, port),
            Item::Parked(port, address, packet) => self.forwarder.wait_here(port, address, packet),
            Item::Resolve(port, address) => self.forwarder.resolve_for_others(port, address),
            Item::Resolved(resolution) => self.forwarder.resolved(&resolution),
            Item::Marker { id, back } => self.moves.marker(sender, id, back),
            Item::CaughtUp(nonce) => self.forwarder.tell(Event::CaughtUp(nonce, sender)),
            Item::Fence => self.forwarder.tell(Event::Fenced(sender)),
            Item::Share(letter) => {
                self.forwarder.share_message(self.instances.find(letter.to), *letter);
            }
            Item::Move(id, message) => {
                let mut context =
                    Context { instances: &mut self.instances, forwarder: &mut self.forwarder };
                self.moves.message(sender, id, message, &mut context);
            }
        }
        self.forwarder.in_hand.put_down();
        packets
    }

    /// Gives a packet to an instance of this worker, unless a move holds it.
    #[inline]
    fn deliver(&mut self, steerer: WorkerId, id: InstanceId, packet: Packet) {
        self.forwarder.fault(FaultStage::Delivered);
        self.forwarder.steerer = steerer;
        let mut context =
            Context { instances: &mut self.instances, forwarder: &mut self.forwarder };
        if self.moves.is_empty() {
            context.process(id, packet);
            return;
        }
        match self.moves.intercept(steerer, id, packet, &mut context) {
            Intercepted::Process(packet) => context.process(id, packet),
            Intercepted::Kept => {}
        }
    }

    fn step_moves(&mut self, now: Nanos) -> bool {
        if self.moves.is_empty() {
            return false;
        }
        let mut context =
            Context { instances: &mut self.instances, forwarder: &mut self.forwarder };
        self.moves.step(now, &mut context)
    }

    fn report_piece(&mut self) -> bool {
        let Self { reports, instances, forwarder, .. } = self;
        reports.piece(instances, forwarder)
    }
}

impl Context<'_> {
    /// Gives a packet that a move has held to an instance.
    pub(crate) fn forward(&mut self, id: InstanceId, packet: Packet) {
        self.forwarder.in_hand.take_up(true);
        self.process(id, packet);
        self.forwarder.in_hand.put_down();
    }

    /// Gives a packet to an instance.
    #[inline]
    fn process(&mut self, id: InstanceId, packet: Packet) {
        match self.instances.find(id) {
            Some(instance) => self.forwarder.forward(instance, packet),
            None => self.forwarder.drop_packet(packet, DropReason::InstanceGone),
        }
    }
}

/// Slots of a command ring; the node waits when it is full.
const COMMAND_RING: usize = 256;
/// Slots of an event ring; what does not fit waits at the worker.
const EVENT_RING: usize = 1024;
