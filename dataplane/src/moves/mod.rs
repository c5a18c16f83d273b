//! Drives protocol MARK on a worker: the ends of moves that its instances take part in.

mod budget;
mod destination;
mod drain;
mod end;
mod multi_flow;
mod source;

use weir_state_transfer::bucket::Bucket;
use weir_state_transfer::mark::Verdict;
use weir_state_transfer::{FlowKey, InstanceId, MoveId, Nanos, WorkerId};

use crate::packet::DropReason;
use crate::worker::{Event, Forwarder, Held, Instances, Message, MoveSpec, Packet};

use budget::Budget;
use destination::DestinationEnd;
use drain::Drain;
pub(crate) use drain::DrainTarget;
use end::End;
pub use end::MoveEnd;
pub(crate) use end::{HoldReport, Outcome};
use source::SourceEnd;

/// The ends of moves on one worker.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// In the order in which they may spend the budget of a round, which turns.
    ends: Vec<MoveEnd>,
    /// Others whose frames this worker transmits, and that wait for them to leave.
    drains: Vec<Drain>,
}

/// What a worker needs to carry on its moves.
pub(crate) struct Context<'a> {
    pub(crate) instances: &'a mut Instances,
    pub(crate) forwarder: &'a mut Forwarder,
}

/// What arrives as a whole at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Group {
    /// A move by buckets: whatever is in a bucket.
    Bucket(Bucket),
    /// A move by filter: one flow, by one name for both of its directions.
    Flow(FlowKey),
}

impl Group {
    fn of(spec: &MoveSpec, key: &FlowKey, hash: u32) -> Self {
        match spec.selection {
            weir_state_transfer::filter::Selection::Buckets(_) => Self::Bucket(Bucket::of(hash)),
            weir_state_transfer::filter::Selection::Filter(_) => Self::Flow(key.both_ways()),
        }
    }
}

/// What is to be done with a packet that came to an instance.
#[derive(Debug)]
pub(crate) enum Intercepted {
    /// No move concerns it, or its flow is here: process it.
    Process(Packet),
    /// A move has it.
    Kept,
}

impl Moves {
    /// Whether no move concerns this worker.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.drains.is_empty()
    }

    /// Whether an end of a move is at work on this worker: its node looks at what it notes.
    pub(crate) fn has_ends(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Packets held at either end.
    pub(crate) fn held(&self) -> usize {
        self.ends.iter().map(MoveEnd::held).sum()
    }

    /// A move that an instance takes part in.
    pub(crate) fn of(&self, instance: InstanceId) -> Option<MoveId> {
        let mut ends = self.ends.iter();
        ends.find(|end| end.is_of(instance)).map(MoveEnd::id)
    }

    /// Takes an end of a move.
    pub(crate) fn prepare(&mut self, end: MoveEnd, forwarder: &mut Forwarder) {
        forwarder.tell(Event::Prepared(end.id()));
        self.ends.push(end);
    }

    /// Hands back the ends of a move that has not flipped.
    pub(crate) fn forget(&mut self, id: MoveId, forwarder: &mut Forwarder) {
        for end in self.ends.extract_if(.., |end| end.id() == id) {
            forwarder.tell(Event::Ended(end));
        }
    }

    /// The node asks to undo a move.
    pub(crate) fn ask(&mut self, id: MoveId, forwarder: &mut Forwarder) {
        if let Some(end) = self.destination(id) {
            end.ask(forwarder);
        }
    }

    /// Looks at a packet that `steerer` sent to an instance.
    #[inline]
    pub(crate) fn intercept(
        &mut self,
        steerer: WorkerId,
        instance: InstanceId,
        packet: Packet,
        context: &mut Context<'_>,
    ) -> Intercepted {
        let (key, hash) = (packet.meta.key, packet.meta.hash);
        for end in &mut self.ends {
            match &mut end.0 {
                End::Destination(end) if end.concerns(instance, &key, hash) => {
                    return end.packet(packet, context);
                }
                End::Source(end) if end.concerns(instance, &key, hash) => {
                    return end.packet(steerer, packet, context);
                }
                End::Destination(_) | End::Source(_) => {}
            }
        }
        Intercepted::Process(packet)
    }

    /// A steerer's marker.
    pub(crate) fn marker(&mut self, steerer: WorkerId, id: MoveId, back: bool) {
        if back {
            if let Some(end) = self.destination(id) {
                end.marker(steerer);
            }
        } else if let Some(end) = self.source(id) {
            end.marker(steerer);
        }
    }

    /// A message from `sender` about a move.
    pub(crate) fn message(
        &mut self,
        sender: WorkerId,
        id: MoveId,
        message: Message,
        context: &mut Context<'_>,
    ) {
        match message {
            Message::Drain => {
                self.drains.push(Drain::new(id, sender, context.forwarder));
            }
            Message::Drained
            | Message::Pull(_)
            | Message::Refused(_)
            | Message::Ended
            | Message::Undo
            | Message::Relay(_)
            | Message::RelayEnd => match self.source(id) {
                Some(end) => end.message(message, context),
                None => lost(message, context.forwarder),
            },
            Message::Bucket(..)
            | Message::Flows(_)
            | Message::Unknown(_)
            | Message::MultiFlow(_)
            | Message::End
            | Message::UndoAnswer(_) => match self.destination(id) {
                Some(end) => end.message(message, context),
                None => lost(message, context.forwarder),
            },
        }
    }

    /// Carries the moves on by a bounded piece; whether one has more to do at once. They share
    /// the budget of a round, and each is the first to spend it in its turn.
    pub(crate) fn step(&mut self, now: Nanos, context: &mut Context<'_>) -> bool {
        self.drains.retain(|drain| !drain.answer(context.forwarder));
        let mut budget = Budget::ROUND;
        let mut busy = false;
        let turn = self.ends.len().min(1);
        self.ends.rotate_left(turn);
        let mut place = 0;
        while place < self.ends.len() {
            busy |= self.ends[place].step(now, &mut budget, context);
            if self.ends[place].outcome().is_none() {
                place += 1;
                continue;
            }
            // At once: a panic of the next end must not leave one behind that is over.
            let end = self.ends.remove(place);
            let is_last = end.ends_last();
            let event = Event::Ended(end);
            if is_last { context.forwarder.tell(event) } else { context.forwarder.note(event) }
        }
        busy
    }

    fn source(&mut self, id: MoveId) -> Option<&mut SourceEnd> {
        self.ends.iter_mut().find_map(|end| match &mut end.0 {
            End::Source(end) if end.id() == id => Some(&mut **end),
            End::Source(_) | End::Destination(_) => None,
        })
    }

    fn destination(&mut self, id: MoveId) -> Option<&mut DestinationEnd> {
        self.ends.iter_mut().find_map(|end| match &mut end.0 {
            End::Destination(end) if end.id() == id => Some(&mut **end),
            End::Source(_) | End::Destination(_) => None,
        })
    }
}

/// Says what became of a packet at an end of a move, and counts it when it was lost.
fn settle(
    verdict: Verdict<Held>,
    forwarder: &mut Forwarder,
    report: &mut HoldReport,
) -> Intercepted {
    match verdict {
        Verdict::Process(held) => Intercepted::Process(held.packet),
        Verdict::Held { .. } => Intercepted::Kept,
        Verdict::Full(held) => {
            report.full += 1;
            forwarder.drop_packet(held.packet, DropReason::HoldFull);
            Intercepted::Kept
        }
        Verdict::InTransit(held) => {
            report.in_transit += 1;
            forwarder.drop_packet(held.packet, DropReason::StateInTransit);
            Intercepted::Kept
        }
        Verdict::Stray(held) => {
            forwarder.counters.stray.add(1);
            Intercepted::Process(held.packet)
        }
    }
}

/// A message for an end that is over. Questions of a destination whose source has sent END are
/// answered by END, and a source that was undone does not wait for its drain; nothing that
/// carries state or packets comes here in a correct run.
fn lost(message: Message, forwarder: &mut Forwarder) {
    match message {
        Message::Pull(_) | Message::Undo | Message::Drained => {}
        Message::Relay(held) => {
            forwarder.counters.stray.add(1);
            forwarder.drop_packet(held.packet, DropReason::InstanceGone);
        }
        Message::Bucket(..)
        | Message::Flows(_)
        | Message::Unknown(_)
        | Message::MultiFlow(_)
        | Message::Refused(_)
        | Message::Ended
        | Message::End
        | Message::UndoAnswer(_)
        | Message::RelayEnd
        | Message::Drain => forwarder.counters.stray.add(1),
    }
}
