//! Broken protocols: what passes between shipped workers is changed, and the checks must notice.

use std::collections::{BTreeMap, BTreeSet};

use weir_api::dataplane::v1 as api;
use weir_dataplane::instance::{FlowHasher, MovedFlows, Part};
use weir_dataplane::node::Node;
use weir_dataplane::worker::{Item, Message, Splice};
use weir_state_transfer::{MoveId, Nanos, WorkerId};

use crate::memory_node::MemoryNode;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: items pass splices as they are.
    None,
    /// Packets of a moved flow are not held: the destination is told at once that all has come.
    NoHold,
    /// A marker overtakes the packet in front of it.
    MarkerEarly,
    /// The source exports before the last marker: markers are forged that no steerer has sent.
    MarkerForged,
    /// The destination transmits before the frames of the source have left: they are completed
    /// when they are not taken yet.
    CompletedEarly,
    /// What was held is released out of order.
    ReleasedOutOfOrder,
    /// What network functions know of a flow does not go along.
    StatesForgotten,
    /// State is deleted instead of moved.
    Deleted,
    /// A packet is counted twice in the state that is moved.
    CountedTwice,
    /// END overtakes the piece in front of it.
    EndEarly,
    /// A NAT chooses ports by another hash than flows are steered by.
    PortsAstray,
    /// The state overtakes the packets in front of it that wait for their next hops.
    ParkedLate,
    /// State of several flows does not arrive.
    MultiFlowForgotten,
    /// Moves that shall keep order promise no more than that nothing is lost.
    OnlyLossFree,
    /// Moves that shall keep order promise nothing.
    NoGuarantee,
}

impl Fault {
    /// Whether it is in what network functions know.
    pub(crate) fn is_of_functions(self) -> bool {
        matches!(self, Self::StatesForgotten | Self::MultiFlowForgotten)
    }

    /// Whether it is not in the rings between workers.
    pub(crate) fn is_spared_splices(self) -> bool {
        matches!(
            self,
            Self::CompletedEarly | Self::PortsAstray | Self::OnlyLossFree | Self::NoGuarantee
        )
    }
}

/// The rings between all workers, each cut, with a fault in between.
#[derive(Debug)]
pub(crate) struct Relays {
    splices: BTreeMap<(WorkerId, WorkerId), Splice>,
    fault: Fault,
    hasher: FlowHasher,
    /// Moves of which a forged item has been sent.
    forged: BTreeSet<MoveId>,
    /// Packets that wait for next hops, until the state that they were in front of has passed.
    late: BTreeMap<(WorkerId, WorkerId), Vec<Item>>,
}

impl Relays {
    /// Cuts every ring of a node at rest.
    pub(crate) fn new(node: &mut MemoryNode, fault: Fault, slots: usize, seed: u64) -> Self {
        let ids: Vec<_> = node.workers.keys().copied().collect();
        let mut splices = BTreeMap::new();
        for (to, worker) in &mut node.workers {
            for from in &ids {
                let splice = worker.splice(*from, slots).expect("all workers are connected");
                splices.insert((*from, *to), splice);
            }
        }
        let hasher = FlowHasher::with_seed(seed);
        let late = BTreeMap::new();
        Self { splices, fault, hasher, forged: BTreeSet::new(), late }
    }

    /// Passes on all that was sent to a worker.
    pub(crate) fn pass(&mut self, to: WorkerId) {
        let towards = self.splices.iter_mut().filter(|((_, receiver), _)| *receiver == to);
        for (ring, splice) in towards {
            let mut items: Vec<_> = std::iter::from_fn(|| splice.take()).collect();
            if self.fault == Fault::ParkedLate {
                let late = self.late.entry(*ring).or_default();
                late.extend(items.extract_if(.., |item| matches!(item, Item::Parked(..))));
                if items.iter().any(|item| matches!(item, Item::Move(_, Message::End))) {
                    items.append(late);
                }
            }
            tamper(self.fault, &self.hasher, &mut items);
            items.into_iter().for_each(|item| splice.pass(item));
            splice.flush();
        }
    }

    /// Forges what no item that passes is the occasion for, once a move has flipped.
    pub(crate) fn forge(&mut self, node: &Node) {
        if ![Fault::NoHold, Fault::MarkerForged].contains(&self.fault) {
            return;
        }
        let instances = node.list_instances(Nanos(0)).instances;
        let worker = |id: u32| {
            let found = instances.iter().find(|instance| instance.id == id);
            found.map(|instance| WorkerId(u8::try_from(instance.worker).expect("a small number")))
        };
        for moving in node.list_moves() {
            let id = MoveId(moving.id);
            let flipped = moving.phase() == api::MovePhase::Draining;
            if let (true, Some(from), Some(to)) = (flipped, worker(moving.from), worker(moving.to))
                && self.forged.insert(id)
            {
                self.forge_for(id, from, to);
            }
        }
    }

    fn forge_for(&mut self, id: MoveId, source: WorkerId, destination: WorkerId) {
        for ((from, to), splice) in &mut self.splices {
            if self.fault == Fault::NoHold && (*from, *to) == (source, destination) {
                splice.pass(Item::Move(id, Message::End));
            } else if self.fault == Fault::MarkerForged && *to == source {
                splice.pass(Item::Marker { id, back: false });
            }
        }
    }
}

/// Changes items that pass from one worker to another, oldest first.
fn tamper(fault: Fault, hasher: &FlowHasher, items: &mut [Item]) {
    let swap = |items: &mut [Item], wrong: fn(&Item, &Item) -> bool| {
        for n in 1..items.len() {
            if wrong(&items[n - 1], &items[n]) {
                items.swap(n - 1, n);
            }
        }
    };
    match fault {
        Fault::None
        | Fault::NoHold
        | Fault::MarkerForged
        | Fault::CompletedEarly
        | Fault::PortsAstray
        | Fault::ParkedLate
        | Fault::OnlyLossFree
        | Fault::NoGuarantee => {}
        Fault::MultiFlowForgotten => items.iter_mut().for_each(|item| {
            if let Item::Move(_, Message::MultiFlow(state)) = item {
                state.pieces.clear();
            }
        }),
        Fault::MarkerEarly => swap(items, |before, item| {
            matches!((before, item), (Item::Packet(..), Item::Marker { .. }))
        }),
        Fault::EndEarly => swap(items, |before, item| {
            let piece = matches!(before, Item::Move(_, Message::Bucket(..) | Message::Flows(_)));
            piece && matches!(item, Item::Move(_, Message::End))
        }),
        Fault::ReleasedOutOfOrder => items.chunk_by_mut(both_relayed).for_each(<[Item]>::reverse),
        Fault::StatesForgotten => items.iter_mut().for_each(forget_states),
        Fault::Deleted => items.iter_mut().for_each(delete),
        Fault::CountedTwice => items.iter_mut().for_each(|item| count_twice(item, hasher)),
    }
}

fn both_relayed(before: &Item, item: &Item) -> bool {
    let relayed = |item: &Item| matches!(item, Item::Move(_, Message::Relay(_)));
    relayed(before) && relayed(item)
}

fn delete(item: &mut Item) {
    match item {
        Item::Move(_, Message::Bucket(_, part)) => **part = Part::new(8),
        Item::Move(_, Message::Flows(flows)) => *flows = MovedFlows::default(),
        _ => {}
    }
}

fn forget_states(item: &mut Item) {
    if let Item::Move(_, Message::Flows(flows)) = item {
        flows.states_mut().for_each(|states| *states = None);
    }
}

fn count_twice(item: &mut Item, hasher: &FlowHasher) {
    match item {
        Item::Move(_, Message::Bucket(_, part)) => {
            let keys: Vec<_> = part.iter().map(|entry| entry.key).collect();
            for key in keys {
                if let Some(slot) = part.find(&key, hasher.hash(&key)) {
                    part.entry_mut(slot).packets += 1;
                }
            }
        }
        Item::Move(_, Message::Flows(flows)) => {
            flows.entries_mut().iter_mut().for_each(|entry| entry.packets += 1);
        }
        _ => {}
    }
}
