//! Drives protocol MARK on a worker: the ends of moves that its instances take part in.

mod destination;
mod source;

use std::sync::Arc;

use weir_state_transfer::bucket::Bucket;
use weir_state_transfer::mark::Verdict;
use weir_state_transfer::{FlowKey, InstanceId, MoveId, Nanos, WorkerId};

use crate::worker::{Forwarder, Held, Instances, Message, MoveSpec, Packet};

use destination::DestinationEnd;
use source::SourceEnd;

/// The ends of moves on one worker.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    sources: Vec<SourceEnd>,
    destinations: Vec<DestinationEnd>,
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
    /// A move by filter: one flow.
    Flow(FlowKey),
}

impl Group {
    fn of(spec: &MoveSpec, key: &FlowKey, hash: u32) -> Self {
        match spec.selection {
            weir_state_transfer::filter::Selection::Buckets(_) => Self::Bucket(Bucket::of(hash)),
            weir_state_transfer::filter::Selection::Filter(_) => Self::Flow(*key),
        }
    }
}

/// Frames handed over for transmission that a source waits for.
#[derive(Debug)]
struct Drain {
    id: MoveId,
    source: WorkerId,
    target: DrainTarget,
}

/// How many packets each transmit queue must have completed.
pub(crate) type DrainTarget = Vec<u64>;

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
        self.sources.is_empty() && self.destinations.is_empty() && self.drains.is_empty()
    }

    /// Packets held at either end.
    pub(crate) fn held(&self) -> usize {
        self.sources.iter().map(SourceEnd::kept).sum::<usize>()
            + self.destinations.iter().map(DestinationEnd::held).sum::<usize>()
    }

    /// Prepares the ends of a move that this worker has.
    pub(crate) fn prepare(&mut self, spec: &Arc<MoveSpec>, forwarder: &mut Forwarder) {
        if spec.from_worker == forwarder.worker {
            self.sources.push(SourceEnd::new(spec.clone()));
            forwarder.tell(crate::worker::Event::Prepared(spec.id));
        }
        if spec.to_worker == forwarder.worker {
            self.destinations.push(DestinationEnd::new(spec.clone()));
            forwarder.tell(crate::worker::Event::Prepared(spec.id));
        }
    }

    /// Forgets a move that has not flipped.
    pub(crate) fn forget(&mut self, id: MoveId) {
        self.sources.retain(|end| end.id() != id);
        self.destinations.retain(|end| end.id() != id);
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
        let destination =
            self.destinations.iter_mut().find(|end| end.concerns(instance, &key, hash));
        if let Some(end) = destination {
            return end.packet(packet, context);
        }
        let source = self.sources.iter_mut().find(|end| end.concerns(instance, &key, hash));
        match source {
            Some(end) => end.packet(steerer, packet, context.forwarder),
            None => Intercepted::Process(packet),
        }
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
                let target = context.forwarder.drain_target();
                self.drains.push(Drain { id, source: sender, target });
            }
            Message::Drained
            | Message::Pull(_)
            | Message::Undo
            | Message::Relay(_)
            | Message::RelayEnd => match self.source(id) {
                Some(end) => end.message(message, context.forwarder),
                None => lost(message, context.forwarder),
            },
            Message::Bucket(..)
            | Message::Flows(_)
            | Message::Unknown(_)
            | Message::End
            | Message::UndoAnswer(_) => match self.destination(id) {
                Some(end) => end.message(message, context),
                None => lost(message, context.forwarder),
            },
        }
    }

    /// Carries every move on by a bounded piece; whether one has more to do at once.
    pub(crate) fn step(&mut self, now: Nanos, context: &mut Context<'_>) -> bool {
        let mut busy = false;
        self.drains.retain(|drain| {
            let left = context.forwarder.has_drained(&drain.target);
            if left {
                let answer = crate::worker::Item::Move(drain.id, Message::Drained);
                context.forwarder.hand_out(drain.source, answer);
            }
            !left
        });
        self.sources.retain_mut(|end| {
            busy |= end.step(context);
            !end.is_over()
        });
        self.destinations.retain_mut(|end| {
            busy |= end.step(now, context);
            !end.is_over()
        });
        busy
    }

    fn source(&mut self, id: MoveId) -> Option<&mut SourceEnd> {
        self.sources.iter_mut().find(|end| end.id() == id)
    }

    fn destination(&mut self, id: MoveId) -> Option<&mut DestinationEnd> {
        self.destinations.iter_mut().find(|end| end.id() == id)
    }
}

/// Says what became of a packet at an end of a move, and counts it when it was lost.
fn settle(verdict: Verdict<Held>, forwarder: &mut Forwarder, full: &mut u64) -> Intercepted {
    match verdict {
        Verdict::Process(held) => Intercepted::Process(held.packet),
        Verdict::Held { .. } => Intercepted::Kept,
        Verdict::Full(held) => {
            *full += 1;
            forwarder.drop_packet(held.packet, crate::packet::DropReason::HoldFull);
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
            forwarder.drop_packet(held.packet, crate::packet::DropReason::InstanceGone);
        }
        Message::Bucket(..)
        | Message::Flows(_)
        | Message::Unknown(_)
        | Message::End
        | Message::UndoAnswer(_)
        | Message::RelayEnd
        | Message::Drain => forwarder.counters.stray.add(1),
    }
}
