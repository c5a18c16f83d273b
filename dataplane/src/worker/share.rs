//! What a worker does for the shares of its instances: packets wait for their answers, messages go
//! through the rings.

use std::sync::Arc;

use weir_state_transfer::share::{Arrival, Cause, Need, Next, Slot, Stamp, Turn, View};
use weir_state_transfer::{FlowKey, InstanceId, ShareId, WorkerId};

use super::{Event, Forwarder, ITEMS, Item, Packet, Stamped, Stamps, Worker};
use crate::instance::Instance;
use crate::nf::{Answer, Group, Update};
use crate::packet::DropReason;
use crate::share::{Letter, ShareEnd, Stage, Waiting};

/// Packets of one end that go on in one poll round, and with one message, at most.
const RELEASED: usize = 64;
/// Pieces of state that an end hands over in one poll round.
const PIECES: usize = 16;
/// Sources that functions look at in one poll round when a share is prepared.
const INDEXED: usize = 1024;

/// What the node tells an end of a share.
#[derive(Debug)]
pub enum ShareCommand {
    /// Take it. Answered with [`ShareEvent::Prepared`].
    Prepare(Box<ShareEnd>),
    /// Share by a view; the worker of each instance. Answered with [`ShareEvent::Settled`].
    Adopt(View, Arc<[WorkerId; 256]>),
    /// Hand it back, with [`ShareEvent::Over`], once what is in the rings to it was taken.
    Forget,
}

/// What an end of a share tells the node.
#[derive(Debug)]
pub enum ShareEvent {
    /// It may share.
    Prepared,
    /// It has done all that the change to the view of this number takes.
    Settled(u64),
    /// It was lost in a panic, but for this.
    Failed(Vec<Option<Group>>),
    /// It is over, and handed back so that it is not freed on a packet thread.
    Over(Box<ShareEnd>),
}

impl Worker {
    /// Carries out what the node wants of the end of a share.
    pub(super) fn command_share(&mut self, id: ShareId, at: InstanceId, command: ShareCommand) {
        let Self { instances, forwarder, .. } = self;
        let Some(instance) = instances.find(at) else { return };
        match command {
            ShareCommand::Prepare(end) => {
                instance.shares.coming.push(*end);
                instance.begin_shares();
            }
            ShareCommand::Adopt(view, workers) => {
                let Some(place) = instance.shares.place(id) else { return };
                instance.shares.ends[place].workers = workers;
                let now = forwarder.now;
                instance.share_act(place, |member, store| member.adopt(view, store, now));
                forwarder.go_on(instance, place);
            }
            ShareCommand::Forget => {
                if let Some(end) = instance.shares.take_coming(id) {
                    forwarder.tell(Event::Share(id, at, ShareEvent::Over(Box::new(end))));
                    return;
                }
                let Some(place) = instance.shares.place(id) else { return };
                let rounds = forwarder.rings.longest() / ITEMS + 2;
                instance.shares.ends[place].stage = Stage::Leaving(rounds);
            }
        }
    }

    /// Carries the shares of all instances on, after a round has taken what was in the rings;
    /// whether there is more to do at once.
    pub(super) fn step_shares(&mut self) -> bool {
        let Self { instances, forwarder, .. } = self;
        let mut busy = std::mem::take(&mut forwarder.exchanged);
        if forwarder.left_updates {
            // Functions make them, and may panic once more.
            instances.iter_mut().for_each(|instance| forwarder.hand_in_updates(instance));
            forwarder.left_updates = false;
        }
        for instance in instances.iter_mut().filter(|instance| !instance.shares.is_empty()) {
            let mut place = 0;
            while place < instance.shares.ends.len() {
                busy |= forwarder.step_share(instance, place);
                let end = &mut instance.shares.ends[place];
                if let Stage::Leaving(0) = end.stage {
                    forwarder.leave_share(instance, place);
                    continue;
                }
                if let Stage::Leaving(rounds) = &mut end.stage {
                    (*rounds, busy) = (*rounds - 1, true);
                }
                place += 1;
            }
        }
        busy
    }

    /// After a panic: an end that was at work is lost, and so are the others of its instance, whose
    /// part in all its shares is over.
    pub(super) fn recover_shares(&mut self) {
        let Self { instances, forwarder, .. } = self;
        for instance in instances.iter_mut() {
            instance.chain.judged();
            if !instance.shares.ends.iter().any(|end| end.is_broken()) {
                continue;
            }
            while !instance.shares.is_empty() {
                let end = instance.shares.remove(0);
                let (id, known) = (end.id(), end.packets);
                let waited: Vec<_> = end.into_packets().collect();
                let packets = waited.iter().filter(|w| matches!(w, Waiting::Packet(..))).count();
                if packets > known {
                    // The packet in hand is among them.
                    forwarder.in_hand.put_down();
                }
                for waiting in waited {
                    if let Waiting::Packet(packet, _) = waiting {
                        forwarder.drop_packet(packet, DropReason::WorkerPanic);
                    }
                }
                // What was just let go has gone down with it.
                (packets..known)
                    .for_each(|_| forwarder.counters.drops.count(DropReason::WorkerPanic));
                let left = instance.chain.unshare(id);
                forwarder.tell(Event::Share(id, instance.id, ShareEvent::Failed(left)));
            }
            forwarder.left_updates = true;
            instance.begin_shares();
        }
    }
}

impl Forwarder {
    /// Processes a packet of an instance that shares, now or when it may go on.
    #[inline(never)]
    pub(super) fn share(&mut self, instance: &mut Instance, packet: Packet) {
        let (flow, steerer) = (packet.meta.key.both_ways(), self.steerer);
        let stamps = std::mem::take(&mut self.stamps);
        instance.chain.steered_by(steerer);
        let concern = instance.concern(&packet, self.now);
        let waits = instance.shares.waits(&flow);
        let concerned = concern.as_ref().map(|concern| (concern.share, concern.slot));
        let at = waits.or(concerned);
        let at = at.and_then(|(share, slot)| Some((instance.shares.place(share)?, slot)));
        let Some((place, slot)) = at else {
            instance.pass(steerer, &stamps, (Cause::Noop, None));
            self.process(instance, packet);
            return;
        };
        let own = (instance.shares.ends[place].id(), slot);
        // Others make no more changes than there are connections that end.
        let asks = concern.as_ref().is_some_and(|concern| concern.ask.is_some());
        if asks && instance.shares.ends[place].is_behind(instance.chain.updates(own.0)) {
            instance.pass(steerer, &stamps, (Cause::Skipped, None));
            self.drop_packet(packet, DropReason::ShareFull);
            return;
        }
        // Where it needs nothing its place is free at once.
        instance.pass(steerer, &stamps, (Cause::Noop, Some(own)));
        let stamped = stamps.iter().find(|stamped| (stamped.share, stamped.slot) == own);
        let sequence = stamped.map(|stamped| stamped.sequence);
        // What packets of the same flow come to in front of it changes what it needs.
        let ask = concern.and_then(|concern| concern.ask).filter(|_| waits.is_none());
        let need = ask.map_or(Need::Unknown, Need::Answer);
        let waiting = Waiting::Packet(packet, steerer);
        let arrival = Arrival::new(slot, steerer, sequence, waiting);
        let now = self.now;
        let turn =
            instance.share_act(place, |member, store| member.packet(need, arrival, store, now));
        self.take_turn(instance, place, (Some(flow), slot), turn);
        self.in_hand.put_down();
        self.go_on(instance, place);
    }

    /// Takes a message that has come through a ring.
    pub(super) fn share_message(&mut self, instance: Option<&mut Instance>, letter: Letter) {
        let Letter { id, from, message, .. } = letter;
        self.exchanged = true;
        let place = instance.as_ref().and_then(|instance| instance.shares.place(id));
        let (Some(instance), Some(place)) = (instance, place) else {
            self.counters.stray.add(1);
            return;
        };
        let now = self.now;
        self.fault_of_execution(instance);
        instance.share_act(place, |member, store| member.message(from, message, store, now));
        self.go_on(instance, place);
    }

    /// Does what a share says of a packet, or of a change.
    fn take_turn(
        &mut self,
        instance: &mut Instance,
        place: usize,
        (flow, slot): (Option<FlowKey>, Slot),
        turn: Turn<Waiting>,
    ) {
        let mut turn = turn;
        if let Turn::Decide(arrival) = turn {
            turn = match self.say_need(instance, place, arrival) {
                Some(turn) => turn,
                None => return,
            };
        }
        match turn {
            Turn::Kept => {
                if let Some(flow) = flow {
                    instance.shares.keep(place, flow, slot);
                }
            }
            Turn::Process(Waiting::Packet(packet, _)) => self.judge(instance, packet, None),
            Turn::Process(Waiting::Update(_)) => {}
            Turn::Alone(Waiting::Packet(packet, _)) => self.process(instance, packet),
            Turn::Alone(Waiting::Update(Update { operation, .. })) => {
                instance.chain.execute(&operation, self.now);
            }
            Turn::Full(Waiting::Packet(packet, _)) => {
                self.drop_packet(packet, DropReason::ShareFull);
            }
            Turn::Full(Waiting::Update(update)) => {
                let share = instance.shares.ends[place].id();
                instance.chain.return_update(share, update);
            }
            Turn::Decide(_) => unreachable!("what is decided is not asked again"),
        }
    }

    /// Says what a packet needs whose turn it is; none if it was dropped.
    fn say_need(
        &mut self,
        instance: &mut Instance,
        place: usize,
        arrival: Arrival<Waiting>,
    ) -> Option<Turn<Waiting>> {
        let (share, slot) = (instance.shares.ends[place].id(), arrival.slot);
        let mut elsewhere = false;
        let need = match &arrival.packet {
            Waiting::Update(update) => Need::Update(update.operation.clone()),
            Waiting::Packet(packet, _) => {
                let concern = instance.concern(packet, self.now);
                let asks =
                    concern.and_then(|concern| Some(((concern.share, concern.slot), concern.ask?)));
                elsewhere = asks.as_ref().is_some_and(|(at, _)| *at != (share, slot));
                let asks = asks.filter(|_| !elsewhere);
                asks.map_or(Need::Nothing, |(_, operation)| Need::Answer(operation))
            }
        };
        let now = self.now;
        let turn =
            instance.share_act(place, |member, store| member.decided(need, arrival, store, now));
        match turn {
            // It has waited for others of its flow with another source: it would wait anew, behind
            // packets that came later.
            Turn::Process(Waiting::Packet(packet, _)) if elsewhere => {
                self.drop_packet(packet, DropReason::ShareUnanswered);
                None
            }
            turn => Some(turn),
        }
    }

    /// Lets the packets go on that may, and sends what the ends of an instance have to say; whether
    /// there are more.
    pub(super) fn go_on(&mut self, instance: &mut Instance, place: usize) -> bool {
        let now = self.now;
        let mut released = 0;
        while released < RELEASED {
            let next = instance.share_act(place, |member, store| member.next(store, now));
            let Some(next) = next else { break };
            released += 1;
            self.let_go(instance, place, next);
        }
        while let Some(answer) = instance.shares.ends[place].member().poll_stray() {
            instance.chain.judge_by(Some(&answer));
            instance.chain.judged();
        }
        self.hand_in_updates(instance);
        released == RELEASED
    }

    fn let_go(&mut self, instance: &mut Instance, place: usize, next: Next<Waiting, Answer>) {
        let waiting = match &next {
            Next::Process(waiting) | Next::Answered(waiting, _) => waiting,
            Next::Late(waiting) | Next::Unanswered(waiting) => waiting,
            Next::Decide(arrival) => &arrival.packet,
        };
        let flow = match waiting {
            Waiting::Packet(packet, steerer) => {
                instance.chain.steered_by(*steerer);
                Some(packet.meta.key.both_ways())
            }
            Waiting::Update(_) => None,
        };
        self.in_hand.take_up(flow.is_some());
        if let Some(flow) = &flow {
            instance.shares.release(place, flow);
        }
        match next {
            Next::Decide(arrival) => {
                let slot = arrival.slot;
                self.take_turn(instance, place, (flow, slot), Turn::Decide(arrival));
            }
            Next::Process(Waiting::Packet(packet, _)) => self.judge(instance, packet, None),
            Next::Answered(Waiting::Packet(packet, _), answer) => {
                self.judge(instance, packet, Some(&answer));
            }
            Next::Late(Waiting::Packet(packet, _)) => {
                self.drop_packet(packet, DropReason::ShareLate);
            }
            Next::Unanswered(Waiting::Packet(packet, _)) => {
                self.drop_packet(packet, DropReason::ShareUnanswered);
            }
            Next::Process(Waiting::Update(_)) | Next::Answered(Waiting::Update(_), _) => {}
            Next::Late(Waiting::Update(_)) | Next::Unanswered(Waiting::Update(_)) => {}
        }
        self.in_hand.put_down();
    }

    /// Processes a packet by what is shared.
    fn judge(&mut self, instance: &mut Instance, packet: Packet, answer: Option<&Answer>) {
        instance.chain.judge_by(answer);
        self.process(instance, packet);
        instance.chain.judged();
    }

    /// Hands in the changes that functions want made, and sends what the ends have to say.
    fn hand_in_updates(&mut self, instance: &mut Instance) {
        let now = self.now;
        loop {
            let Instance { shares, chain, .. } = instance;
            let has_room = |share| shares.end(share).is_none_or(ShareEnd::has_room);
            let Some((share, slot, update)) = chain.next_update(&has_room, now) else { break };
            let Some(place) = shares.place(share) else {
                chain.return_update(share, update);
                break;
            };
            let turn = self.hand_in(instance, place, slot, update);
            self.take_turn(instance, place, (None, slot), turn);
        }
        if instance.chain.take_changed() {
            // Without a packet: so that it is seen by the next copy.
            instance.flows.change();
        }
        for end in &mut instance.shares.ends {
            while let Some((to, message)) = end.member().poll_output() {
                let letter = Letter { id: end.id(), from: end.me, to, message };
                let worker = end.workers[usize::from(to.0)];
                if let Some(outbox) = self.rings.connected(worker) {
                    outbox.push(Item::Share(Box::new(letter)));
                }
            }
        }
    }

    fn hand_in(
        &mut self,
        instance: &mut Instance,
        place: usize,
        slot: Slot,
        update: Update,
    ) -> Turn<Waiting> {
        let (now, need) = (self.now, Need::Update(update.operation.clone()));
        let arrival = Arrival::new(slot, update.steerer, None, Waiting::Update(update));
        instance.share_act(place, |member, store| member.packet(need, arrival, store, now))
    }

    fn step_share(&mut self, instance: &mut Instance, place: usize) -> bool {
        let (now, id, at) = (self.now, instance.shares.ends[place].id(), instance.id);
        if instance.shares.ends[place].stage == Stage::Indexing {
            if !instance.chain.index(id, INDEXED) {
                return true;
            }
            instance.shares.ends[place].stage = Stage::Sharing;
            self.tell(Event::Share(id, at, ShareEvent::Prepared));
        }
        let mut busy = instance.share_act(place, |member, store| member.step(PIECES, store, now));
        if instance.shares.ends[place].is_due(now) {
            instance.share_act(place, |member, store| member.handle_timeout(store, now));
        }
        busy |= self.go_on(instance, place);
        if let Some(view) = instance.shares.ends[place].member().poll_settled() {
            self.tell(Event::Share(id, at, ShareEvent::Settled(view)));
        }
        busy
    }

    /// Hands an end back. No packet waits there any more.
    fn leave_share(&mut self, instance: &mut Instance, place: usize) {
        let mut end = instance.shares.remove(place);
        debug_assert_eq!(end.packets, 0, "an instance leaves when nothing waits");
        let id = end.id();
        end.groups = instance.chain.unshare(id);
        self.tell(Event::Share(id, instance.id, ShareEvent::Over(Box::new(end))));
        self.hand_in_updates(instance);
        instance.begin_shares();
    }
}

impl Instance {
    /// Begins with the ends that have come, but for those of shares that the instance is still
    /// leaving: it may join again before that is done.
    fn begin_shares(&mut self) {
        let Self { shares, chain, .. } = self;
        for mut end in std::mem::take(&mut shares.coming) {
            if shares.place(end.id()).is_some() {
                shares.coming.push(end);
            } else {
                let groups = std::mem::take(&mut end.groups);
                chain.share(end.sharing(), groups);
                shares.ends.push(end);
            }
        }
    }

    /// A packet of a steerer asks for nothing in the slots of these places, but for one.
    pub(super) fn pass(
        &mut self,
        steerer: WorkerId,
        stamps: &Stamps,
        (cause, but): (Cause, Option<(ShareId, Slot)>),
    ) {
        let others = stamps.iter().filter(|at| Some((at.share, at.slot)) != but);
        for Stamped { share, slot, sequence } in others {
            if let Some(place) = self.shares.place(share) {
                let stamp = Stamp { steerer, sequence };
                self.shares.ends[place].member().pass(slot, stamp, cause);
            }
        }
    }

    /// Lets an end act on what the functions know.
    fn share_act<R>(
        &mut self,
        place: usize,
        act: impl FnOnce(&mut crate::share::Asker, &mut crate::nf::Shared<'_>) -> R,
    ) -> R {
        let Self { shares, chain, .. } = self;
        shares.ends[place].act(chain, act)
    }
}
