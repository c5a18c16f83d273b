//! What is counted of sources while instances share it, join, leave, fail and end their lives, and
//! move homes: nothing is lost and nothing counts twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::share::Store as _;
use weir_state_transfer::southbound::{Cursor, Get};
use weir_state_transfer::{Chunk, InstanceId, ServiceId, SteeringHash};

use super::*;
use crate::nf::firewall::{Config, Limits, Rate, Rules};
use crate::nf::ids::Attempt;
use crate::nf::{ChainConfig, FunctionConfig, REPLICAS_OF_A_LIFE, Timestamp};

const SLOTS: usize = 4;
const SOURCES: u8 = 6;
const NOW: Nanos = Nanos(1 << 40);

/// Instances by their numbers, and what they count.
struct World {
    rng: fastrand::Rng,
    config: ChainConfig,
    alive: BTreeMap<u8, Chain>,
    /// In the order of their beginnings.
    order: Vec<u8>,
    lives: [u64; 8],
    share: Option<(Arc<Sharing>, Vec<u8>)>,
    homes: [u8; SLOTS],
    /// By source: connections that are open, attempts.
    truth: BTreeMap<Origin, (i128, u64)>,
    copies: Vec<(usize, Chunk)>,
}

impl World {
    fn new(rng: fastrand::Rng) -> Self {
        let rule = "all: accept any".parse().expect("a rule");
        let rate = Rate { per_second: 1, burst: 1 << 30 };
        let limits = Limits { connections_max: Some(1 << 30), rate: Some(rate), sources_max: 64 };
        let rules = Rules::new(vec![rule]).expect("one rule");
        let firewall = Config { rules, limits, ..Config::default() };
        let ids = ids::Config::default();
        let functions = vec![FunctionConfig::Firewall(firewall), FunctionConfig::Ids(ids)];
        let config = ChainConfig::new(functions, Timestamp(0)).expect("two functions");
        let (alive, order, lives) = (BTreeMap::new(), Vec::new(), [0; 8]);
        let (homes, truth, copies) = ([0; SLOTS], BTreeMap::new(), Vec::new());
        Self { rng, config, alive, order, lives, share: None, homes, truth, copies }
    }

    fn any(&mut self, of: &[u8]) -> u8 {
        of[self.rng.usize(..of.len())]
    }

    fn members(&self) -> Vec<u8> {
        self.share.iter().flat_map(|(_, members)| members.iter().copied()).collect()
    }

    fn store(&mut self, at: u8) -> Shared<'_> {
        let share = self.share.as_ref().expect("there is one").0.id;
        Shared { chain: self.alive.get_mut(&at).expect("it is alive"), share }
    }

    fn begin_life(&mut self) {
        let Some(number) = (0..8).find(|number| !self.alive.contains_key(number)) else { return };
        let life = &mut self.lives[usize::from(number)];
        *life += 1;
        let replica =
            Replica { instance: number.into(), incarnation: 77 + *life * REPLICAS_OF_A_LIFE };
        let chain = Chain::new(&self.config, &SteeringHash::new(0x6d5a), replica);
        self.alive.insert(number, chain);
        self.order.push(number);
    }

    /// A life ends; the longest-lived takes it over.
    fn end_life(&mut self, number: u8) {
        self.order.retain(|other| *other != number);
        let gone = self.alive.remove(&number).expect("it is alive");
        let heir = self.alive.get_mut(&self.order[0]).expect("one stays");
        heir.inherit(gone);
    }

    /// A connection of a source begins or ends at an instance, or an attempt of it fails.
    fn count(&mut self, at: u8) {
        let origin = origin(self.rng.u8(..SOURCES));
        let (open, attempts) = self.truth.entry(origin).or_default();
        let (function, what) = match self.rng.u8(..3) {
            0 => {
                *open += 1;
                let begin = firewall::Operation::Begin { opens: true };
                (0, FunctionOperation::Firewall(begin))
            }
            1 => {
                *open -= 1;
                (0, FunctionOperation::Firewall(firewall::Operation::End))
            }
            _ => {
                *attempts += 1;
                let to = ([192, 0, 2, 1].into(), 80);
                let attempt = Attempt { source: origin, to, at: Timestamp(1 << 40) };
                (1, FunctionOperation::Ids(ids::Operation::Attempt(attempt)))
            }
        };
        self.operate(at, &Operation { function, origin, what });
    }

    /// Executes an operation of an instance where its source has its home.
    fn operate(&mut self, at: u8, operation: &Operation) {
        let shared = self.share.as_ref().filter(|(_, members)| members.contains(&at));
        let slot = shared.map(|(sharing, _)| sharing.slot(&operation.origin));
        let home = slot.map_or(at, |slot| self.homes[usize::from(slot.0)]);
        self.alive.get_mut(&home).expect("it is alive").execute(operation, NOW);
    }

    /// What an instance wants changed elsewhere is.
    fn hand_in(&mut self, at: u8) {
        while let Some((_, _, update)) =
            self.alive.get_mut(&at).unwrap().next_update(&|_| true, NOW)
        {
            self.operate(at, &update.operation);
        }
    }

    /// The next home of a slot is one of `candidates`, to which `givers` give what they have. It may
    /// be another before that is done: then the first gives what it has, too.
    fn hand_over(&mut self, slot: Slot, givers: &[u8], candidates: &[u8]) {
        let (mut givers, mut to) = (givers.to_vec(), self.any(candidates));
        self.rng.shuffle(&mut givers);
        while let Some(giver) = givers.pop() {
            if giver == to {
                continue;
            }
            self.store(to).giving(slot, InstanceId(giver));
            let (mut cursor, mut all) = (Cursor::default(), true);
            while let Some(piece) = self.store(giver).copy(slot, &mut cursor) {
                self.store(to).join(slot, piece, Some(InstanceId(giver)), NOW);
                all &= self.rng.u8(..8) > 0;
            }
            if all {
                self.store(to).given(slot, InstanceId(giver));
                self.store(giver).remove(slot);
            } else {
                givers.extend([giver, to]);
                to = self.any(candidates);
            }
        }
        self.homes[usize::from(slot.0)] = to;
    }

    fn join(&mut self, number: u8) {
        let (sharing, members) = self.share.as_mut().expect("there is one");
        members.push(number);
        let (sharing, members) = (sharing.clone(), members.clone());
        let chain = self.alive.get_mut(&number).expect("it is alive");
        chain.share(&sharing, self.config.groups(&sharing));
        assert!(chain.index(sharing.id, 1_000));
        for slot in slots() {
            self.hand_over(slot, &[number, self.homes[usize::from(slot.0)]], &members);
        }
    }

    fn start(&mut self) {
        let id = ShareId(self.rng.u64(..));
        let filter = "any".parse().expect("a filter");
        let sharing = Arc::new(Sharing { id, filter, slots: SLOTS, key: 5 });
        let first = self.any(&self.order.clone());
        self.share = Some((sharing, Vec::new()));
        self.homes = [first; SLOTS];
        self.join(first);
    }

    /// A member gives all that it has, or, if it fails, keeps it.
    fn leave(&mut self, number: u8, fails: bool) {
        let (sharing, members) = self.share.as_mut().expect("there is one");
        members.retain(|member| *member != number);
        let (id, others) = (sharing.id, members.clone());
        for slot in
            slots().filter(|slot| self.homes[usize::from(slot.0)] == number).collect::<Vec<_>>()
        {
            let mut givers = vec![number];
            if fails {
                // Some of it has come to another.
                givers = vec![self.any(&others)];
                self.store(givers[0]).giving(slot, InstanceId(number));
                if let Some(piece) = self.store(number).copy(slot, &mut Cursor::default()) {
                    self.store(givers[0]).join(slot, piece, Some(InstanceId(number)), NOW);
                }
            }
            self.hand_over(slot, &givers, &others);
        }
        self.alive.get_mut(&number).expect("it is alive").unshare(id);
    }

    /// Everybody gets a replica of what the homes have.
    fn end(&mut self) {
        let members = self.members();
        for slot in slots() {
            let (home, mut cursor) = (self.homes[usize::from(slot.0)], Cursor::default());
            while let Some(piece) = self.store(home).copy(slot, &mut cursor) {
                for other in members.iter().filter(|member| **member != home) {
                    self.store(*other).join(slot, piece.clone(), None, NOW);
                }
            }
        }
        let (sharing, members) = self.share.take().expect("there is one");
        for member in members {
            self.alive.get_mut(&member).expect("it is alive").unshare(sharing.id);
        }
    }

    fn put(&mut self, at: u8, (function, chunk): &(usize, Chunk)) {
        let chain = self.alive.get_mut(&at).expect("it is alive");
        let now = chain.moment(NOW);
        chain.functions[*function].put_multi_flow(chunk, now).expect("it was such state");
        self.hand_in(at);
    }

    fn step(&mut self) {
        let at = self.any(&self.order.clone());
        let members = self.members();
        match self.rng.u8(..40) {
            0 if self.alive.len() < 6 => self.begin_life(),
            1 if self.alive.len() > 1 && !members.contains(&at) => self.end_life(at),
            2 if members.is_empty() => self.start(),
            2 | 3 if !members.is_empty() && !members.contains(&at) => self.join(at),
            4 if members.len() > 1 && members.contains(&at) => {
                let fails = self.rng.u8(..3) == 0;
                self.leave(at, fails);
            }
            5 if !members.is_empty() && self.rng.bool() => self.end(),
            6 if !members.is_empty() => {
                let slot = Slot(self.rng.u16(..SLOTS as u16));
                self.hand_over(slot, &[self.homes[usize::from(slot.0)]], &members);
            }
            7 => self.copies.extend(chunks(&self.alive[&at])),
            8 if !self.copies.is_empty() => {
                let copy = self.copies[self.rng.usize(..self.copies.len())].clone();
                self.put(at, &copy);
            }
            9 | 10 => {
                // Without a sweep, which may forget what copies in another place still have.
                let (hosts, chain) = (self.rng.usize(1..4), self.alive.get_mut(&at).unwrap());
                chain.take_over(hosts, chain.moment(NOW));
                self.hand_in(at);
            }
            _ => self.count(at),
        }
    }

    /// All comes together at one instance.
    fn come_together(&mut self) -> u8 {
        if self.share.is_some() {
            self.end();
        }
        while let [_, other, ..] = self.order[..] {
            self.end_life(other);
        }
        let last = self.order[0];
        let chain = self.alive.get_mut(&last).expect("one stays");
        while chain.is_inheriting() {
            chain.take_over(16, chain.moment(NOW));
        }
        last
    }
}

fn origin(number: u8) -> Origin {
    Origin { service: ServiceId(0), address: [10, 0, 0, number].into() }
}

fn slots() -> impl Iterator<Item = Slot> {
    (0..SLOTS as u16).map(Slot)
}

fn chunks(chain: &Chain) -> Vec<(usize, Chunk)> {
    let get =
        Get { filter: &"any".parse().unwrap(), extent: Extent::Overlaps, max: 1_000, since: 0 };
    let mut all = Vec::new();
    for (n, function) in chain.functions.iter().enumerate() {
        let mut chunks = Vec::new();
        function.get_multi_flow(&get, &mut Cursor::default(), &mut chunks, chain.moment(NOW));
        all.extend(chunks.into_iter().map(|chunk| (n, chunk)));
    }
    all
}

/// By source: connections that are open, attempts.
fn counted(chain: &Chain) -> BTreeMap<Origin, (i128, u64)> {
    let mut counted: BTreeMap<Origin, (i128, u64)> = BTreeMap::new();
    for (function, Chunk { id, schema, body, .. }) in chunks(chain) {
        let (open, attempts) = counted.entry(Origin::of_id(&id).expect("a source")).or_default();
        let parts = if function == 0 {
            let source = firewall::Source::decode(schema, &body, NOW).expect("its own bytes");
            *open = source.open.value();
            source.open.up.parts().len().max(source.open.down.parts().len())
        } else {
            let source = ids::Source::decode(schema, &body).expect("its own bytes");
            *attempts = source.attempts().value();
            source.attempts().parts().len()
        };
        assert!(parts <= 1, "one instance is left");
    }
    counted
}

#[test]
fn what_is_shared_counts_once_whoever_joins_leaves_fails_or_ends_and_copies_add_nothing() {
    let mut rng = weir_seed::rng();
    for _ in 0..300 {
        let mut world = World::new(rng.fork());
        (0..3).for_each(|_| world.begin_life());
        (0..400).for_each(|_| world.step());
        let last = world.come_together();
        for late in [false, true] {
            if late {
                for copy in std::mem::take(&mut world.copies) {
                    world.put(last, &copy);
                }
            }
            let mut found = counted(&world.alive[&last]);
            found.retain(|_, counts| *counts != (0, 0));
            world.truth.retain(|_, counts| *counts != (0, 0));
            assert_eq!(found, world.truth, "late copies: {late}");
        }
    }
}
