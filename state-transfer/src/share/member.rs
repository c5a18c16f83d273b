//! An instance's end of a share: the member side and the home side of one instance.

use super::asking::Asking;
use super::handover::Handover;
use super::home::{Counters, Home, Work};
use super::limits::Limits;
use super::message::{Cause, Message, Stamp};
use super::request::Mode;
use super::sent::Sent;
use super::slot::Slot;
use super::store::Store;
use super::turn::{Arrival, Need, Next, Turn};
use super::view::View;
use crate::id::InstanceId;
use crate::time::Nanos;

/// An instance of a share.
///
/// `O` is what an operation is, `A` its answer and `C` a piece of state, as its [`Store`] has
/// them; `P` is a packet that waits. The driver
///
/// * hands it each packet of the filter that comes to the instance ([`Member::packet`]), and each
///   message of another instance ([`Member::message`]);
/// * takes what may go on ([`Member::next`]), until there is nothing, whenever it has done so;
/// * sends what [`Member::poll_output`] gives to the worker of the instance named, behind all that
///   went there before;
/// * calls [`Member::step`] once a poll round, and [`Member::handle_timeout`] when
///   [`Member::poll_timeout`] says so.
#[derive(Clone, Debug, Hash)]
pub struct Member<O, A, C, P> {
    asking: Asking<O, A, P>,
    home: Home<O, A>,
    handover: Handover,
    sent: Sent<O, A, C>,
}

impl<O: Clone, A: Clone, C: Clone, P> Member<O, A, C, P> {
    /// An instance that does not share yet.
    pub fn new(me: InstanceId, mode: Mode, limits: Limits) -> Self {
        let limits = limits.in_bounds();
        Self {
            asking: Asking::new(me, mode, limits),
            home: Home::new(me, limits),
            handover: Handover::default(),
            sent: Sent::new(me),
        }
    }

    /// Shares by a view from here on. The coordinator tells every participant each view, in order.
    pub fn adopt<S>(&mut self, view: View, store: &mut S, now: Nanos)
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        if view.number <= self.home.view.number {
            return;
        }
        // Numbers are never used again, though an instance of the same id has shared before.
        self.asking.number_from(view.number << 40);
        self.asking.flush(true, &self.home.view, &mut self.sent);
        self.run(store, now);
        let number = view.number;
        let owed = self.handover.adopt(view, &mut self.home, store);
        // What is sent again comes before the fence: behind that, what waits may be executed.
        self.asking.adopt(&self.home.view, &mut self.sent);
        self.run(store, now);
        for (other, owed) in owed {
            self.sent.push(other, Message::Fence { view: number, owed });
        }
        let mut work = Work { store, now, sent: &mut self.sent };
        self.handover.adopted(&mut self.home, &mut work);
        self.run(store, now);
    }

    /// A packet of the filter has come to the instance.
    pub fn packet<S>(
        &mut self,
        need: Need<O>,
        arrival: Arrival<P>,
        store: &mut S,
        now: Nanos,
    ) -> Turn<P>
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        let waits = self.asking.waits(&arrival);
        let is_alone = self.is_alone(arrival.slot);
        if is_alone && !waits {
            self.asking.pass(&arrival, Cause::Noop);
            return Turn::Alone(arrival.packet);
        }
        // What is alone is so at its turn.
        let need = if is_alone { Need::Unknown } else { need };
        self.take(need, arrival, false, (store, now))
    }

    /// What a packet needs whose turn it is, after [`Turn::Decide`] or [`Next::Decide`].
    pub fn decided<S>(
        &mut self,
        need: Need<O>,
        arrival: Arrival<P>,
        store: &mut S,
        now: Nanos,
    ) -> Turn<P>
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        if self.is_alone(arrival.slot) {
            self.asking.pass(&arrival, Cause::Noop);
            return Turn::Alone(arrival.packet);
        }
        self.take(need, arrival, true, (store, now))
    }

    /// A packet with a stamp is not handed in: it was dropped at this instance before, or it needs
    /// nothing of this slot and waits for nobody here, as it concerns another slot too or its flow
    /// is not known to be of the share.
    pub fn pass(&mut self, slot: Slot, stamp: Stamp, cause: Cause) {
        let Stamp { steerer, sequence } = stamp;
        self.asking.pass(&Arrival::new(slot, steerer, Some(sequence), ()), cause);
        self.asking.flush(false, &self.home.view, &mut self.sent);
    }

    /// A message from another instance of the share.
    pub fn message<S>(
        &mut self,
        from: InstanceId,
        message: Message<O, A, C>,
        store: &mut S,
        now: Nanos,
    ) where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        self.handle(from, message, store, now);
        self.run(store, now);
    }

    /// The next packet that may go on. What [`Next::Decide`] asks must be said before the next
    /// call.
    pub fn next<S>(&mut self, store: &mut S, now: Nanos) -> Option<Next<P, A>>
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        let next = self.asking.next(&self.home.view, &mut self.sent);
        self.run(store, now);
        // What was just sent may have come back from this very instance.
        next.or_else(|| self.asking.next(&self.home.view, &mut self.sent))
    }

    /// Sends what is collected in a poll round, and hands over so many pieces of state at most;
    /// whether there are more.
    pub fn step<S>(&mut self, pieces: usize, store: &mut S, now: Nanos) -> bool
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        self.asking.flush(true, &self.home.view, &mut self.sent);
        let mut work = Work { store, now, sent: &mut self.sent };
        let more = self.handover.step(pieces, &mut self.home, &mut work);
        self.run(store, now);
        more
    }

    /// Gives up what has been waited for for too long.
    pub fn handle_timeout<S>(&mut self, store: &mut S, now: Nanos)
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        self.asking.handle_timeout(now, &mut self.home.counters);
        self.home.handle_timeout(&mut Work { store, now, sent: &mut self.sent });
        self.run(store, now);
    }

    /// When [`Member::handle_timeout`] must be called, if ever.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.asking.poll_timeout().into_iter().chain(self.home.poll_timeout()).min()
    }

    /// The answer to an operation whose packet has gone on without ([`Next::Unanswered`]): it was
    /// executed, and the driver may have what it did taken back.
    pub fn poll_stray(&mut self) -> Option<A> {
        self.asking.poll_stray()
    }

    /// The packets that wait here, of an instance that has failed.
    pub fn into_packets(self) -> impl Iterator<Item = P> {
        self.asking.into_packets()
    }

    /// The next message, and to whom.
    pub fn poll_output(&mut self) -> Option<(InstanceId, Message<O, A, C>)> {
        self.sent.pop()
    }

    /// The number of the view, once this instance has done all that the change to it takes: it is
    /// told once, for the coordinator. Of an instance that leaves, and at the end of the share, no
    /// packet waits any more, and what is left of it may be forgotten when all have settled.
    pub fn poll_settled(&mut self) -> Option<u64> {
        if self.handover.settled {
            return None;
        }
        let shares = self.home.view.has_member(self.home.me);
        let is_over = self.handover.is_over(&self.home) && (shares || self.asking.is_empty());
        self.handover.settled = is_over;
        is_over.then_some(self.home.view.number)
    }

    /// Packets and operations that wait here for an answer or for their turn.
    pub fn waiting(&self) -> usize {
        self.asking.len()
    }

    /// Operations that wait here, as at their home, for the state of their slot.
    pub fn held(&self) -> usize {
        self.home.rows.iter().map(|row| row.held.len()).sum()
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.home.counters
    }

    /// The home of a slot, as this instance sees it.
    pub fn home(&self, slot: Slot) -> InstanceId {
        self.home.view.home(slot, self.home.me)
    }

    /// Whether it acts on its own state of a slot alone: before a share, and when it has left one.
    /// Until it has handed over what it has of the slot that is not its own: what it changed in that
    /// would be forgotten with it, if it had been copied before.
    fn is_alone(&self, slot: Slot) -> bool {
        let view = &self.home.view;
        let has_left = !view.is_alone() && !view.has_member(self.home.me);
        view.number == 0 || (has_left && !self.handover.owes(slot))
    }

    fn take<S>(
        &mut self,
        need: Need<O>,
        arrival: Arrival<P>,
        first: bool,
        (store, now): (&mut S, Nanos),
    ) -> Turn<P>
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        let Home { view, counters, .. } = &mut self.home;
        let turn = self.asking.packet(need, arrival, first, (view, now, &mut self.sent), counters);
        self.asking.flush(false, &self.home.view, &mut self.sent);
        self.run(store, now);
        turn
    }

    /// Takes what was sent to this instance by itself, until nothing is.
    fn run<S>(&mut self, store: &mut S, now: Nanos)
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        while let Some(message) = self.sent.pop_own() {
            self.handle(self.home.me, message, store, now);
        }
    }

    fn handle<S>(&mut self, from: InstanceId, message: Message<O, A, C>, store: &mut S, now: Nanos)
    where
        S: Store<Op = O, Answer = A, Piece = C>,
    {
        let mut work = Work { store, now, sent: &mut self.sent };
        let Self { home, handover, asking, .. } = self;
        match message {
            Message::Operation(operation) => home.operation(operation, &mut work),
            Message::Passed(passed) => home.pass(passed, &mut work),
            Message::Fence { view, owed } => handover.fence((from, view, owed), home, &mut work),
            // One that takes part no more has failed: of what it had, not all comes. It may have been
            // asked in vain elsewhere.
            Message::Ledger(_) | Message::Handed(_) | Message::Piece(..) | Message::Answer(_)
                if from != home.me && !home.view.has_participant(from) => {}
            Message::Ledger(ledger) => {
                if !home.view.is_alone() {
                    work.store.giving(ledger.slot, from);
                }
                home.learn(*ledger);
            }
            Message::Handed(slot) => {
                if !home.view.is_alone() {
                    work.store.given(slot, from);
                }
                handover.handed(from, slot, home, &mut work);
            }
            Message::Piece(slot, piece) => {
                // When the share ends, homes keep what they hand over.
                let giver = (!home.view.is_alone()).then_some(from);
                work.store.join(slot, piece, giver, now);
            }
            Message::Answer(answer) => asking.answer(answer),
        }
    }
}

#[cfg(test)]
mod tests;
