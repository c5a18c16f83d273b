//! What the network functions of several instances share: what they know of sources.
//!
//! A share makes what is known of each source that its filter names as a whole one for all its
//! instances. A function says what a packet needs of it ([`Concern`]), executes operations where
//! the source has its home, and takes in their answers. What it wants changed without an answer
//! waits at the function until its instance hands it in.

mod groups;
mod sources;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::share::Slot;
use weir_state_transfer::{FlowKey, Nanos, ShareId, StateFilter, WorkerId};

use super::chain::Chain;
use super::chain::ChainConfig;
use super::firewall;
use super::function::{FlowState, Shown};
use super::ids;
use super::origin::Origin;
use crate::worker::Packet;
use groups::Change;
pub use groups::Group;
pub(super) use groups::{Giving, Groups};
pub(super) use sources::{Countable, Known, KnownSources, Shareable};
pub(crate) use store::Shared;

/// Which sources a share is of, and how they are divided into slots.
#[derive(Debug)]
pub(crate) struct Sharing {
    pub(crate) id: ShareId,
    pub(crate) filter: StateFilter,
    pub(crate) slots: usize,
    /// The secret of the share.
    pub(crate) key: u64,
}

/// What a packet is about, of what is shared.
#[derive(Clone, Debug)]
pub(crate) struct Concern {
    pub(crate) share: ShareId,
    /// Where its source is.
    pub(crate) slot: Slot,
    /// Without the answer to this it can not be processed.
    pub(crate) ask: Option<Operation>,
}

/// An operation on what a function knows of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The place of the function in its chain, the same at all instances.
    function: u8,
    origin: Origin,
    what: FunctionOperation,
}

/// A change that needs no answer: nobody waits for it.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) operation: Operation,
    /// It comes behind the packets that this worker has steered here.
    pub(crate) steerer: WorkerId,
}

/// The operation of one kind of function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FunctionOperation {
    Firewall(firewall::Operation),
    Ids(ids::Operation),
}

/// The answer to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    function: u8,
    what: FunctionAnswer,
}

/// The answer of one kind of function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FunctionAnswer {
    /// Nobody needs one.
    Nothing,
    Firewall(firewall::Admission),
}

/// Some of what a function knows of the sources of a slot.
#[derive(Clone, Debug)]
pub struct Piece {
    function: u8,
    what: FunctionPiece,
}

/// The piece of one kind of function.
#[derive(Clone, Debug)]
pub(super) enum FunctionPiece {
    Firewall(Vec<Counted<firewall::Source>>),
    Ids(Vec<Counted<ids::Source>>),
}

/// What is known of a source, and as which replica it is counted there.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    pub(super) origin: Origin,
    pub(super) source: S,
    pub(super) by: Replica,
}

impl Sharing {
    /// Whether it is of a source.
    pub(super) fn has(&self, origin: &Origin) -> bool {
        self.filter.picks(&origin.flow_id(), Extent::Contains)
    }

    /// The slots of both ends of a flow that it is of: either may be the source.
    pub(crate) fn slots_of_ends(&self, key: &FlowKey) -> impl Iterator<Item = Slot> + '_ {
        let (service, ends) = (key.service(), [key.src(), key.dst()]);
        let origins = ends.into_iter().map(move |address| Origin { service, address });
        origins.filter(|origin| self.has(origin)).map(|origin| self.slot(&origin))
    }

    /// The slot of a source.
    pub(super) fn slot(&self, origin: &Origin) -> Slot {
        Slot::of(origin, self.key, self.slots)
    }
}

impl ChainConfig {
    /// What each function needs for a share of what it knows; none for those that share nothing.
    pub(crate) fn groups(&self, sharing: &Arc<Sharing>) -> Vec<Option<Group>> {
        let shares = self.functions.iter().map(super::FunctionConfig::shares);
        shares.map(|shares| shares.then(|| Group::new(sharing))).collect()
    }
}

impl Chain {
    /// Has the functions share from here on, with [what each needs](ChainConfig::groups). Each must
    /// still look at what it knows: [`Chain::index`].
    pub(crate) fn share(&mut self, sharing: &Arc<Sharing>, groups: Vec<Option<Group>>) {
        for (function, group) in self.functions.iter_mut().zip(groups) {
            if let Some((shared, group)) = function.shared_mut().zip(group) {
                shared.share(group);
            }
        }
        self.sharing.push(sharing.clone());
    }

    /// Has the functions, one behind the other, find the slots of so many of the sources that they
    /// knew; whether all have.
    pub(crate) fn index(&mut self, share: ShareId, sources: usize) -> bool {
        let mut known = self.functions.iter_mut().filter_map(|function| function.sources_mut());
        known.all(|known| known.index(share, sources))
    }

    /// Has the functions share no more: what they know is their own. What they needed for it is to
    /// be freed elsewhere, as there may be much of it.
    pub(crate) fn unshare(&mut self, share: ShareId) -> Vec<Option<Group>> {
        self.sharing.retain(|sharing| sharing.id != share);
        let shared = self.functions.iter_mut().map(|function| function.shared_mut());
        shared.map(|shared| shared.and_then(|shared| shared.unshare(share))).collect()
    }

    /// What a packet is about, of what is shared. `states` is what is known of its flow. It is
    /// looked at by the name that its flow has for the functions that share, which is not always
    /// that by which it came: a NAT may be behind them.
    pub(crate) fn concern(
        &self,
        states: Option<&[FlowState]>,
        packet: &Packet,
        now: Nanos,
    ) -> Option<Concern> {
        let now = self.moment(now);
        let state = |n: usize| states.and_then(|states| states.get(n));
        let mut meta = packet.meta;
        if let Some(nat) = self.functions.last().filter(|_| self.has_nat()) {
            meta.key = nat.known_as(state(self.functions.len() - 1), &meta.key, now)?;
        }
        let shown = Shown { frame: packet.frame.data(), meta: &meta, port: packet.port };
        let mut concern = None;
        for (n, function) in self.functions.iter().enumerate() {
            let Some((origin, ask)) = function.concern(state(n), shown, now) else { continue };
            let Some(sharing) = self.sharing_of(&origin) else { continue };
            let slot = sharing.slot(&origin);
            let asks = ask.is_some();
            let ask = ask.map(|what| Operation { function: n as u8, origin, what });
            concern = Some(Concern { share: sharing.id, slot, ask });
            if asks {
                break;
            }
        }
        concern
    }

    /// The packets that the functions are shown are of a steerer from here on: what they want changed
    /// comes behind those.
    pub(crate) fn steered_by(&mut self, steerer: WorkerId) {
        let shared = self.functions.iter_mut().filter_map(|function| function.shared_mut());
        shared.for_each(|shared| shared.steered_by(steerer));
    }

    /// The next packet is judged by what is shared: by this answer, or without one.
    pub(crate) fn judge_by(&mut self, answer: Option<&Answer>) {
        for (n, function) in self.functions.iter_mut().enumerate() {
            let own = answer.filter(|answer| usize::from(answer.function) == n);
            function.judge_by(own.map(|answer| &answer.what));
        }
    }

    /// The packet has been judged, or will not be: an answer that was not needed is taken back.
    pub(crate) fn judged(&mut self) {
        self.functions.iter_mut().for_each(|function| function.judged());
    }

    /// The next change that needs no answer of a share that has room for it, and where its source
    /// is. What is shared no more is changed here.
    pub(crate) fn next_update(
        &mut self,
        has_room: &dyn Fn(ShareId) -> bool,
        now: Nanos,
    ) -> Option<(ShareId, Slot, Update)> {
        for n in 0..self.functions.len() {
            while let Some(shared) = self.functions[n].shared_mut()
                && let Some((place, change)) = shared.next_update(has_room)
            {
                let Change { origin, what, steerer } = change;
                let operation = Operation { function: n as u8, origin, what };
                match place {
                    Some((share, slot)) => {
                        return Some((share, slot, Update { operation, steerer }));
                    }
                    None => drop(self.execute(&operation, now)),
                }
            }
        }
        None
    }

    /// Gives a change back that could not be handed in to a share.
    pub(crate) fn return_update(&mut self, share: ShareId, update: Update) {
        let Update { operation: Operation { function, origin, what }, steerer } = update;
        let function = self.functions.get_mut(usize::from(function));
        if let Some(shared) = function.and_then(|function| function.shared_mut()) {
            shared.return_update(share, Change { origin, what, steerer });
        }
    }

    /// Changes that wait to be handed in to a share.
    pub(crate) fn updates(&self, share: ShareId) -> usize {
        let shared = self.functions.iter().filter_map(|function| function.shared());
        shared.map(|shared| shared.updates(share)).sum()
    }

    /// Executes an operation on what is known here.
    pub(crate) fn execute(&mut self, operation: &Operation, now: Nanos) -> Answer {
        let now = self.moment(now);
        let Operation { function, origin, what } = operation;
        let n = usize::from(*function);
        let Self { functions, faults, changed_by_share, .. } = self;
        *changed_by_share = true;
        let what = functions.get_mut(n).map(|function| {
            faults.begin(n);
            let answer = function.execute(*origin, what, now);
            faults.end(super::During::Execution, true);
            answer
        });
        Answer { function: *function, what: what.unwrap_or(FunctionAnswer::Nothing) }
    }

    /// Whether a share has changed what is known here since this was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed_by_share)
    }

    fn sharing_of(&self, origin: &Origin) -> Option<&Sharing> {
        self.sharing.iter().find(|sharing| sharing.has(origin)).map(|sharing| &**sharing)
    }
}
