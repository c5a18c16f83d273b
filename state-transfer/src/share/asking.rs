//! The member side of a share: asks homes, and lets packets go on in the order in which they came.

use std::collections::{BTreeSet, VecDeque};

use super::home::Counters;
use super::lanes::Lanes;
use super::limits::Limits;
use super::message::{
    Answer, Cause, Lane, Message, Operation, OperationId, Outcome, Passed, Stamp,
};
use super::places::Places;
use super::request::Mode;
use super::sent::Sent;
use super::slot::Slot;
use super::turn::{Arrival, Need, Next, Turn};
use super::view::View;

use crate::id::{InstanceId, WorkerId};
use crate::time::Nanos;

/// Ranges of packets without an operation that wait to be sent, at most.
const PASSED_MAX: usize = 64;

/// What waits at an instance.
#[derive(Clone, Debug, Hash)]
pub(super) struct Asking<O, A, P> {
    me: InstanceId,
    mode: Mode,
    limits: Limits,
    lanes: Lanes<Entry<O, A, P>>,
    /// Entries in all lanes.
    len: usize,
    next_number: u64,
    /// Lanes whose first packet may be able to go on.
    ready: VecDeque<Lane>,
    passed: Vec<Passed>,
    /// What steerers have stamped to this instance.
    places: Places,
    /// Nothing has to be given up before.
    due: Option<Nanos>,
    /// Operations that were sent, and whose packets have gone on without an answer: as many at most
    /// as may wait, the last.
    given_up: BTreeSet<u64>,
    /// What came back for them.
    stray: VecDeque<A>,
}

#[derive(Clone, Debug, Hash)]
enum Entry<O, A, P> {
    /// Its turn has not come, and what it needs is not known before.
    Undecided(Arrival<P>),
    /// It needs nothing but its turn.
    Passing(P),
    Asked(Asked<O, A, P>),
}

#[derive(Clone, Debug, Hash)]
struct Asked<O, A, P> {
    /// Given when it is sent: those of a lane are sent in the order of their numbers.
    number: Option<u64>,
    op: O,
    arrival: Arrival<()>,
    packet: Option<P>,
    /// To whom it was sent, once it has been.
    to: Option<InstanceId>,
    fate: Fate<A>,
    since: Nanos,
}

#[derive(Clone, Debug, Hash)]
enum Fate<A> {
    Open,
    Told(Outcome<A>),
    GivenUp,
}

impl<O: Clone, A, P> Asking<O, A, P> {
    pub(super) fn new(me: InstanceId, mode: Mode, limits: Limits) -> Self {
        let steerers = if mode == Mode::Strict { limits.steerers } else { 0 };
        Self {
            me,
            mode,
            limits,
            lanes: Lanes::default(),
            len: 0,
            next_number: 0,
            ready: VecDeque::new(),
            passed: Vec::new(),
            places: Places::new(limits.slots, steerers),
            due: None,
            given_up: BTreeSet::new(),
            stray: VecDeque::new(),
        }
    }

    /// Its operations have numbers from here on.
    pub(super) fn number_from(&mut self, first: u64) {
        self.next_number = self.next_number.max(first);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Packets and operations that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a packet of the lane waits: others must not overtake it.
    pub(super) fn waits<Q>(&self, arrival: &Arrival<Q>) -> bool {
        self.waits_in(self.lane(arrival.slot, arrival.steerer))
    }

    /// A strong share keeps the order in which all packets of a slot come to the instance, a
    /// strict one that of each steerer: there an operation waits for others of its steerer only,
    /// which may be elsewhere, so packets of two steerers must not wait for each other.
    fn lane(&self, slot: Slot, steerer: WorkerId) -> Lane {
        Lane { slot, steerer: (self.mode == Mode::Strict).then_some(steerer) }
    }

    fn waits_in(&self, lane: Lane) -> bool {
        self.lanes.get(lane).is_some_and(|queue| queue.iter().any(Entry::has_packet))
    }

    /// Takes a packet: at its turn, `first` of those that wait, or behind them.
    pub(super) fn packet<C>(
        &mut self,
        need: Need<O>,
        mut arrival: Arrival<P>,
        first: bool,
        (view, now, sent): (&View, Nanos, &mut Sent<O, A, C>),
        counters: &mut Counters,
    ) -> Turn<P> {
        if let Some(place) = arrival.sequence {
            self.places.see(arrival.slot, arrival.steerer, place);
        } else if !first {
            arrival.follows = self.places.last(arrival.slot, arrival.steerer);
        }
        let lane = self.lane(arrival.slot, arrival.steerer);
        let waits = !first && self.waits_in(lane);
        let entries = match need {
            Need::Unknown | Need::Nothing => usize::from(waits),
            Need::Update(_) => 1 + usize::from(waits),
            Need::Answer(_) => 1,
        };
        if self.len + entries > self.limits.waiting {
            counters.full += 1;
            self.pass(&arrival, Cause::Skipped);
            return Turn::Full(arrival.packet);
        }
        let turn = match need {
            Need::Unknown if waits => self.push(lane, Entry::Undecided(arrival), first),
            Need::Unknown => Turn::Decide(arrival),
            Need::Nothing => {
                self.pass(&arrival, Cause::Noop);
                self.pass_on(lane, arrival.packet, waits)
            }
            Need::Update(op) => {
                let (arrival, packet) = arrival.split();
                let asked = self.asked(op, arrival, None, now);
                self.put(lane, asked, first);
                self.pass_on(lane, packet, waits)
            }
            Need::Answer(op) => {
                let (arrival, packet) = arrival.split();
                let asked = self.asked(op, arrival, Some(packet), now);
                self.push(lane, asked, first)
            }
        };
        self.send(lane, view, sent);
        turn
    }

    /// A packet of a place in the order causes no operation.
    pub(super) fn pass<Q>(&mut self, arrival: &Arrival<Q>, cause: Cause) {
        let (slot, steerer) = (arrival.slot, arrival.steerer);
        let Some(place) = arrival.sequence else { return };
        self.places.see(slot, steerer, place);
        let passed = Passed { slot, steerer, first: place, last: place, cause };
        if !self.passed.iter_mut().any(|before| before.extend(&passed)) {
            self.passed.push(passed);
        }
    }

    /// Sends what was passed, if it is more than may wait or `all`.
    pub(super) fn flush<C>(&mut self, all: bool, view: &View, sent: &mut Sent<O, A, C>) {
        if all || self.passed.len() > PASSED_MAX {
            for passed in self.passed.drain(..) {
                if view.is_alone() {
                    continue;
                }
                sent.push(view.home(passed.slot, self.me), Message::Passed(passed));
            }
        }
    }

    /// The answer to an operation.
    pub(super) fn answer(&mut self, answer: Answer<A>) {
        let Answer { number, lane, outcome } = answer;
        if self.given_up.remove(&number) {
            self.stray.extend(outcome.done());
            return;
        }
        if self.lanes.get(lane).is_none() {
            return;
        }
        let stray = &mut self.stray;
        let told = self.lanes.with(lane, |queue| {
            let asked = queue.iter_mut().find_map(|entry| match entry {
                Entry::Asked(asked) if asked.number == Some(number) => Some(asked),
                Entry::Asked(_) | Entry::Undecided(_) | Entry::Passing(_) => None,
            });
            let Some(asked) = asked else { return false };
            match asked.fate {
                Fate::Open => asked.fate = Fate::Told(outcome),
                Fate::GivenUp if asked.packet.is_some() && asked.to.take().is_some() => {
                    stray.extend(outcome.done());
                }
                Fate::GivenUp | Fate::Told(_) => {}
            }
            true
        });
        if told && !self.ready.contains(&lane) {
            self.ready.push_back(lane);
        }
    }

    /// The next packet that may go on.
    pub(super) fn next<C>(&mut self, view: &View, sent: &mut Sent<O, A, C>) -> Option<Next<P, A>> {
        while let Some(lane) = self.ready.front().copied() {
            // What was behind an undecided packet may be sent once that has been decided.
            self.send(lane, view, sent);
            match self.pop(lane) {
                Some(Entry::Undecided(arrival)) => return Some(Next::Decide(arrival)),
                Some(Entry::Passing(packet)) => return Some(Next::Process(packet)),
                Some(Entry::Asked(asked)) => {
                    let Some(packet) = asked.packet else { continue };
                    if let (Fate::GivenUp, Some(_), Some(number)) =
                        (&asked.fate, asked.to, asked.number)
                    {
                        self.given_up.insert(number);
                        if self.given_up.len() > self.limits.waiting {
                            self.given_up.pop_first();
                        }
                    }
                    return Some(match asked.fate {
                        Fate::Told(Outcome::Done(answer)) => Next::Answered(packet, answer),
                        Fate::Told(Outcome::Late) => Next::Late(packet),
                        Fate::GivenUp | Fate::Open => Next::Unanswered(packet),
                    });
                }
                None => drop(self.ready.pop_front()),
            }
        }
        None
    }

    /// An answer that has come for a packet that had gone on without.
    pub(super) fn poll_stray(&mut self) -> Option<A> {
        self.stray.pop_front()
    }

    /// The packets that wait.
    pub(super) fn into_packets(self) -> impl Iterator<Item = P> {
        self.lanes.into_all().filter_map(|entry| match entry {
            Entry::Undecided(arrival) => Some(arrival.packet),
            Entry::Passing(packet) => Some(packet),
            Entry::Asked(asked) => asked.packet,
        })
    }

    /// Sends again what was sent to others than the homes by this view: who hands a slot over
    /// forgets what waits in it, and who takes that over may fail with it.
    pub(super) fn adopt<C>(&mut self, view: &View, sent: &mut Sent<O, A, C>) {
        for lane in self.lanes.busy() {
            let home = view.home(lane.slot, self.me);
            self.lanes.with(lane, |queue| {
                for entry in queue {
                    let Entry::Asked(Asked { to, fate: Fate::Open, .. }) = entry else { continue };
                    *to = to.filter(|asked| *asked == home);
                }
            });
            self.send(lane, view, sent);
        }
    }

    /// Gives up what has waited for too long. An update keeps nobody: it waits for what is in front
    /// of it, and for its home, which executes it in the end or is another then.
    pub(super) fn handle_timeout(&mut self, now: Nanos, counters: &mut Counters) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        let patience = self.limits.patience;
        for lane in self.lanes.busy() {
            let (mut given_up, mut due) = (0, None);
            self.lanes.with(lane, |queue| {
                for entry in queue {
                    let Entry::Asked(Asked { since, fate, packet, .. }) = entry else {
                        continue;
                    };
                    match fate {
                        Fate::Open if packet.is_none() => {}
                        Fate::Open if *since + patience <= now => {
                            *fate = Fate::GivenUp;
                            given_up += 1;
                        }
                        Fate::Open => due = due.or(Some(*since + patience)),
                        Fate::Told(_) | Fate::GivenUp => {}
                    }
                }
            });
            counters.unanswered += given_up;
            self.due = self.due.into_iter().chain(due).min();
            if given_up > 0 && !self.ready.contains(&lane) {
                self.ready.push_back(lane);
            }
        }
    }

    /// When [`Asking::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.due
    }

    fn asked(
        &mut self,
        op: O,
        arrival: Arrival<()>,
        packet: Option<P>,
        now: Nanos,
    ) -> Entry<O, A, P> {
        let due = now + self.limits.patience;
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
        Entry::Asked(Asked {
            number: None,
            op,
            arrival,
            packet,
            to: None,
            fate: Fate::Open,
            since: now,
        })
    }

    fn pass_on(&mut self, lane: Lane, packet: P, waits: bool) -> Turn<P> {
        if waits { self.push(lane, Entry::Passing(packet), false) } else { Turn::Process(packet) }
    }

    fn push(&mut self, lane: Lane, entry: Entry<O, A, P>, first: bool) -> Turn<P> {
        self.put(lane, entry, first);
        Turn::Kept
    }

    fn put(&mut self, lane: Lane, entry: Entry<O, A, P>, first: bool) {
        self.len += 1;
        self.lanes.with(lane, |queue| {
            // Where it was when its turn came: behind what has been sent before.
            let sent = queue.iter().take_while(|entry| entry.is_sent()).count();
            let at = if first { sent } else { queue.len() };
            queue.insert(at, entry);
        });
    }

    /// Takes the first of a lane, if it may go on. Operations without a packet keep nobody.
    fn pop(&mut self, lane: Lane) -> Option<Entry<O, A, P>> {
        let is_open = |entry: &Entry<O, A, P>| match entry {
            Entry::Asked(asked) => matches!(asked.fate, Fate::Open),
            Entry::Undecided(_) | Entry::Passing(_) => false,
        };
        let queue = self.lanes.get(lane)?;
        let at = queue.iter().position(|entry| entry.has_packet() || !is_open(entry))?;
        if is_open(&queue[at]) {
            return None;
        }
        self.len -= 1;
        self.lanes.with(lane, |queue| queue.remove(at))
    }

    /// Sends the operations of a lane that have not been, in their order, up to the first packet
    /// of which it is not known what it needs: its operation comes first.
    fn send<C>(&mut self, lane: Lane, view: &View, sent: &mut Sent<O, A, C>) {
        if self.lanes.get(lane).is_none() {
            return;
        }
        let home = view.home(lane.slot, self.me);
        let (instance, next_number) = (self.me, &mut self.next_number);
        self.lanes.with(lane, |queue| {
            let mut floor = None;
            for entry in queue {
                let asked = match entry {
                    Entry::Asked(asked) => asked,
                    Entry::Passing(_) => continue,
                    Entry::Undecided(_) => break,
                };
                if !matches!(asked.fate, Fate::Open) {
                    continue;
                }
                let number = *asked.number.get_or_insert_with(|| {
                    *next_number += 1;
                    *next_number
                });
                let floor = *floor.get_or_insert(number);
                if asked.to.is_none() {
                    asked.to = Some(home);
                    let id = OperationId { instance, number };
                    let Arrival { slot, steerer, sequence, follows, .. } = asked.arrival;
                    // At the end of the share there is no order among steerers any more.
                    let ordered = !view.is_alone();
                    let (sequence, follows) =
                        (sequence.filter(|_| ordered), follows.filter(|_| ordered));
                    let stamp = sequence.map(|sequence| Stamp { steerer, sequence });
                    let (view, op) = (view.number, asked.op.clone());
                    let operation = Operation { id, floor, view, lane, slot, stamp, follows, op };
                    sent.push(home, Message::Operation(operation));
                }
            }
        });
    }
}

impl<O, A, P> Entry<O, A, P> {
    fn is_sent(&self) -> bool {
        match self {
            Self::Undecided(_) | Self::Passing(_) => false,
            Self::Asked(asked) => asked.number.is_some(),
        }
    }

    fn has_packet(&self) -> bool {
        match self {
            Self::Undecided(_) | Self::Passing(_) => true,
            Self::Asked(asked) => asked.packet.is_some(),
        }
    }
}
