//! Two ends of state, the logic between them, and a stream that loses, repeats, spoils and breaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;

use super::{FLOW, chunk, id, ready};
use crate::{
    FlowId, Nanos,
    chunk::Chunk,
    transfer::{
        Amount, Destination, DestinationCommand, Ended, Message, Outcome, Piece, Reply, Source,
        SourceCommand, Verdict, WINDOW,
    },
};

/// State by flow.
pub(super) type State = BTreeMap<FlowId, Vec<u8>>;

/// How likely each fault is at each step, in per mille.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lose: u32,
    pub(super) repeat: u32,
    pub(super) spoil: u32,
    /// A chunk is taken by another that is one, too.
    pub(super) replace: u32,
    pub(super) break_off: u32,
    /// The destination's end does not take a put.
    pub(super) refuse: u32,
    /// It can not undo.
    pub(super) stick: u32,
    pub(super) give_up: u32,
    /// A verdict or its answer is lost on a connection of its own.
    pub(super) unreached: u32,
    /// A sidecar dies, with all that it knows.
    pub(super) crash: u32,
    /// The destination's end is started again, and has forgotten everything.
    pub(super) forget: u32,
}

/// Messages that the stream holds.
const HELD_BY_STREAM: usize = 3;

/// One run.
pub(super) struct World {
    rng: Rng,
    faults: Faults,
    now: Nanos,
    pub(super) source: State,
    pub(super) destination: State,
    /// What both were at first.
    pub(super) first: (State, State),
    left: VecDeque<Vec<u8>>,
    pub(super) leaving: Option<Source>,
    pub(super) arriving: Option<Destination>,
    /// Pieces that were put, in this order.
    put: Vec<FlowId>,
    taken: Amount,
    /// What is on the way; none when the stream is broken.
    there: VecDeque<Message>,
    back: VecDeque<Reply>,
    connected: bool,
    /// Work of the drivers that is not done yet.
    puts: VecDeque<Vec<Piece>>,
    deleting: bool,
    undoing: bool,
    settling: Option<Verdict>,
    pub(super) stuck: bool,
    /// How often the destination's end was started, and that by which its driver recognises it.
    started: (u32, u32),
    /// Chunks that were put in the place of others.
    replaced: BTreeSet<Vec<u8>>,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut source = State::new();
        for port in 0..rng.u16(0..600) {
            let body = vec![1; if rng.u32(0..40) == 0 { 300_000 } else { rng.usize(0..90) }];
            source.insert(id(port), chunk(FLOW, port, &body));
        }
        let shared = rng.u16(0..20);
        let destination: State = (590..620)
            .chain(0..shared)
            .map(|port| (id(port), chunk(FLOW, port, b"of the destination")))
            .collect();
        let mut arriving = ready("any");
        assert_eq!(arriving.poll_command(), None);
        Self {
            now: Nanos(1),
            left: source.values().cloned().collect(),
            first: (source.clone(), destination.clone()),
            source,
            destination,
            leaving: Some(Source::new()),
            arriving: Some(arriving),
            put: Vec::new(),
            taken: Amount::default(),
            there: VecDeque::new(),
            back: [Reply::Credit(WINDOW)].into(),
            connected: true,
            puts: VecDeque::new(),
            deleting: false,
            undoing: false,
            settling: None,
            stuck: false,
            started: (1, 1),
            replaced: BTreeSet::new(),
            rng,
            faults,
        }
    }

    /// Runs until nothing can happen any more.
    pub(super) fn run(&mut self) {
        for _ in 0..200_000 {
            self.fault();
            let steps: [fn(&mut Self) -> bool; 7] = [
                Self::deliver_there,
                Self::deliver_back,
                Self::give,
                Self::put,
                Self::delete,
                Self::undo,
                Self::settle,
            ];
            let first = self.rng.usize(0..steps.len());
            let acted = (0..steps.len()).any(|turn| steps[(first + turn) % steps.len()](self));
            self.outputs();
            self.check_credit();
            if !acted && !self.pass_time() {
                return;
            }
        }
        panic!("it does not end");
    }

    fn chance(&mut self, likely: u32) -> bool {
        self.rng.u32(0..1_000) < likely
    }

    fn fault(&mut self) {
        let faults = self.faults;
        if self.connected && self.chance(faults.break_off) {
            self.cut();
        }
        if self.chance(faults.give_up)
            && let Some(leaving) = &mut self.leaving
        {
            leaving.give_up(self.now);
            if self.connected && leaving.ended() == Some(Ended::Undone) {
                self.cut();
            }
        }
        // What it forgets behind the receipt is lost, as without a move.
        let is_open = |arriving: &Destination| !arriving.holds() && arriving.ended().is_none();
        if self.arriving.as_ref().is_some_and(is_open) && self.chance(faults.forget) {
            self.started.0 += 1;
            self.destination.clear();
        }
        if self.chance(faults.crash) && self.rng.bool() {
            self.leaving = None;
            (self.deleting, self.settling) = (false, None);
            self.cut();
        } else if self.chance(faults.crash) {
            self.arriving = None;
            self.puts.clear();
            self.undoing = false;
            self.cut();
        }
        self.outputs();
    }

    /// The stream breaks: what is on the way is lost, and both ends see it.
    fn cut(&mut self) {
        self.connected = false;
        self.there.clear();
        self.back.clear();
        if let Some(leaving) = &mut self.leaving {
            leaving.broken_off(self.now);
        }
        if let Some(arriving) = &mut self.arriving {
            arriving.broken_off();
        }
    }

    fn deliver_there(&mut self) -> bool {
        let Some(mut message) = self.there.pop_front() else { return false };
        if self.chance(self.faults.lose) {
            return true;
        }
        if self.chance(self.faults.repeat) {
            self.there.push_front(message.clone());
        }
        if let Message::Chunks { chunks, .. } = &mut message {
            let place = self.rng.usize(0..chunks.len());
            if self.chance(self.faults.spoil) {
                let byte = self.rng.usize(0..chunks[place].len());
                chunks[place][byte] ^= 1 << self.rng.u32(0..8);
            } else if self.chance(self.faults.replace) {
                let mut other = Chunk::decode(&chunks[place]).expect("a chunk");
                other.body.reverse();
                other.version += 1;
                chunks[place] = other.encode().expect("a chunk");
                self.replaced.insert(chunks[place].clone());
            }
        }
        let same = self.is_same();
        if let Some(arriving) = &mut self.arriving {
            match message {
                Message::End(_) if !same => arriving.failed(),
                message => arriving.message(message, self.now),
            }
        }
        true
    }

    /// Whether the destination's end is the one that the transfer was opened to.
    fn is_same(&self) -> bool {
        self.started.0 == self.started.1
    }

    /// Whether the destination's end has forgotten something.
    pub(super) fn forgot(&self) -> bool {
        self.started.0 > 1
    }

    fn deliver_back(&mut self) -> bool {
        let Some(reply) = self.back.pop_front() else { return false };
        if self.chance(self.faults.lose) {
            return true;
        }
        if self.chance(self.faults.repeat) {
            self.back.push_front(reply);
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.reply(reply, self.now);
        }
        true
    }

    fn give(&mut self) -> bool {
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.wants()) else {
            return false;
        };
        let count = self.rng.usize(1..300).min(self.left.len());
        leaving.give(self.left.drain(..count));
        if self.left.is_empty() {
            leaving.finish();
        }
        true
    }

    fn put(&mut self) -> bool {
        let Some(pieces) = self.puts.pop_front() else { return false };
        let refused = self.chance(self.faults.refuse);
        let count = if refused { self.rng.usize(0..pieces.len()) } else { pieces.len() };
        let mut amount = Amount::default();
        for piece in pieces.into_iter().take(count) {
            amount.add(&piece.bytes);
            self.put.push(piece.id.clone());
            self.destination.insert(piece.id, piece.bytes);
        }
        let same = self.is_same();
        let Some(arriving) = &mut self.arriving else { return true };
        if refused || !same {
            arriving.failed();
        } else {
            self.taken = self.taken.plus(amount);
            arriving.taken(amount, self.now);
        }
        true
    }

    fn delete(&mut self) -> bool {
        let Some(leaving) = self.leaving.as_mut().filter(|_| self.deleting) else { return false };
        let count = self.rng.usize(1..200);
        (0..count).for_each(|_| drop(self.source.pop_first()));
        if self.source.is_empty() {
            self.deleting = false;
            leaving.deleted(self.now);
        }
        self.check_losses();
        true
    }

    fn undo(&mut self) -> bool {
        if !self.undoing || !self.puts.is_empty() {
            return false;
        }
        self.undoing = false;
        let stuck = !self.put.is_empty() && self.chance(self.faults.stick);
        self.stuck |= stuck;
        for id in self.put.drain(..).filter(|_| !stuck) {
            match self.first.1.get(&id) {
                Some(before) => drop(self.destination.insert(id, before.clone())),
                None => drop(self.destination.remove(&id)),
            }
        }
        if let Some(arriving) = &mut self.arriving {
            arriving.undone(!stuck);
        }
        self.check_losses();
        true
    }

    /// A verdict on a connection of its own, answered when it has been carried out.
    fn settle(&mut self) -> bool {
        let Some(verdict) = self.settling else { return false };
        if self.chance(self.faults.unreached) {
            self.settling = None;
            if let Some(leaving) = &mut self.leaving {
                leaving.not_settled(self.now);
            }
            return true;
        }
        let lost = self.chance(self.faults.unreached);
        let answer = match &mut self.arriving {
            Some(arriving) => {
                arriving.verdict(verdict);
                let Some(outcome) = arriving.ended() else { return false };
                Some(outcome)
            }
            None => None,
        };
        self.settling = None;
        let Some(leaving) = &mut self.leaving else { return true };
        if lost {
            leaving.not_settled(self.now);
        } else {
            leaving.settled(answer);
        }
        true
    }

    /// What both ends want done, as their drivers take it.
    fn outputs(&mut self) {
        while self.connected
            && self.there.len() < HELD_BY_STREAM
            && let Some(message) = self.leaving.as_mut().and_then(Source::poll_message)
        {
            self.there.push_back(message);
        }
        while let Some(next) = self.leaving.as_mut().and_then(Source::poll_command) {
            match next {
                SourceCommand::Delete => self.deleting = true,
                SourceCommand::Settle(verdict) => self.settling = Some(verdict),
            }
        }
        while let Some(next) = self.arriving.as_mut().and_then(Destination::poll_command) {
            match next {
                DestinationCommand::Reply(reply) if self.connected => self.back.push_back(reply),
                DestinationCommand::Reply(_) => {}
                DestinationCommand::Put(pieces) => self.puts.push_back(pieces),
                DestinationCommand::Undo => self.undoing = true,
            }
        }
    }

    /// Nothing can happen before time has passed; whether something will.
    fn pass_time(&mut self) -> bool {
        let deadlines = [
            self.leaving.as_ref().and_then(Source::poll_timeout),
            self.arriving.as_ref().and_then(Destination::poll_timeout),
        ];
        match deadlines.into_iter().flatten().min() {
            Some(deadline) => self.now = self.now.max(deadline),
            // The time of the operation is over.
            None => match &mut self.leaving {
                Some(leaving) if leaving.ended().is_none() => leaving.give_up(self.now),
                _ => return false,
            },
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.handle_timeout(self.now);
        }
        if let Some(arriving) = &mut self.arriving {
            arriving.handle_timeout(self.now);
        }
        self.outputs();
        true
    }

    /// What the source knew of each flow is at one end or at both. What the destination knew of one
    /// is there, unless it has forgotten that itself or what the source knew has taken its place.
    pub(super) fn check_losses(&self) {
        let found = |id| [self.source.get(id), self.destination.get(id)].into_iter().flatten();
        for (id, chunk) in &self.first.0 {
            assert!(found(id).any(|there| there == chunk), "what the source knew of {id} is lost");
        }
        for (id, chunk) in self.first.1.iter().filter(|_| !self.forgot()) {
            let there = self.destination.get(id).expect("the destination has it");
            let came = self.first.0.get(id) == Some(there) || self.replaced.contains(there);
            assert!(came || there == chunk, "what the destination knew of {id} is lost");
        }
    }

    fn check_credit(&self) {
        if let Some(leaving) = &self.leaving {
            let (sent, taken) = (leaving.sent(), self.taken);
            assert!(sent.within(taken.plus(WINDOW)), "{sent:?} is sent of which {taken:?} is put");
        }
    }

    /// How both have ended; none of one that died.
    pub(super) fn ended(&self) -> (Option<Ended>, Option<Outcome>) {
        let leaving = self.leaving.as_ref().map(|leaving| leaving.ended().expect("it has ended"));
        let arriving = self.arriving.as_ref().map(|one| one.ended().expect("it has ended"));
        (leaving, arriving)
    }

    /// What the destination has when all came.
    pub(super) fn all(&self) -> State {
        let mut all = self.first.1.clone();
        all.extend(self.first.0.clone());
        all
    }
}
