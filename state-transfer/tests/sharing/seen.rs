//! What an observer of the whole node sees, and what must never happen.

use weir_state_transfer::InstanceId;
use weir_state_transfer::share::{Mode, Slot};

use crate::linear::{Record, linearizable};
use crate::model::{Model, Packet};
use crate::scope::{Act, Kind, Load, Scope};
use crate::store::{Executed, Visit, Visitors, own, visit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A packet was processed twice.
    ProcessedTwice(u8),
    /// A packet was processed before one that had come before it.
    Overtaken(u8),
    /// An operation was executed twice.
    ExecutedTwice(u8),
    /// An operation was executed before one that had to be before it.
    OutOfOrder(u8),
    /// No order of the operations explains what they gave back.
    NotLinearizable(Slot),
    /// The state is not at its home alone, or not whole.
    State(Slot),
    /// Nobody knows any more of what an instance did before it shared, or after it had left.
    Forgotten(u8),
    /// An operation was executed before its home knew that all it has of its slot is its own.
    NotGiven(u8),
    /// Something waits for ever.
    Stuck,
    /// A packet was neither processed nor counted as lost.
    Lost(u8),
    /// A packet was lost though there was room, and time.
    LostInVain(u8),
    /// A home gave up a place in an order though nothing was lost, and there was room, and time.
    GivenUpInVain(u64),
}

/// By packet, or by slot.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Seen {
    pub(crate) processed: u64,
    /// Dropped on the way, or with an instance that has failed.
    pub(crate) dropped: u64,
    /// Refused, late, or without an answer.
    pub(crate) lost: u64,
    /// Operations that were asked for, by packet; and which had returned before each.
    asked: Vec<Option<(Slot, Visitors)>>,
    returned: u64,
    pub(crate) answers: Vec<Option<Visitors>>,
    /// Where it was executed last.
    executed: Vec<Option<u8>>,
    /// When it came to its instance, and its place in the order of its steerer.
    arrived: Vec<(u8, Option<u64>)>,
    arrivals: u8,
    /// The last that was processed, by instance, slot and steerer.
    last: Vec<(u8, Slot, u8, u8)>,
    /// The last that was executed, by slot and what it must be in order with.
    order: Vec<(Slot, u8, u64)>,
    pub(crate) failed: Vec<u8>,
    /// Slots of which state was lost with an instance.
    pub(crate) bereft: Vec<Slot>,
    /// What instances did when they did not share, or no more: each on what it had itself.
    alone: u64,
    /// Those of them that were done while others shared, with their instances.
    apart: Vec<(u8, u8, Slot)>,
    /// Who joined later, and what had returned by then.
    joined: Vec<(u8, u64)>,
}

impl Seen {
    pub(crate) fn new(scope: &Scope) -> Self {
        let packets = scope.packets();
        Self {
            asked: vec![None; packets],
            answers: vec![None; packets],
            executed: vec![None; packets],
            arrived: vec![(0, None); packets],
            ..Self::default()
        }
    }

    pub(crate) fn arrive(&mut self, packet: &Packet, sequence: Option<u64>) {
        self.arrivals += 1;
        self.arrived[usize::from(packet.id)] = (self.arrivals, sequence);
    }

    pub(crate) fn ask(&mut self, packet: &Packet) {
        self.asked[usize::from(packet.id)] = Some((packet.load.slot, self.returned));
    }

    pub(crate) fn join(&mut self, instance: u8) {
        self.joined.push((instance, self.returned));
    }

    /// Instances that joined later.
    pub(crate) fn joined(&self) -> usize {
        self.joined.len()
    }

    pub(crate) fn answer(&mut self, id: u8, answer: Visitors) {
        self.answers[usize::from(id)] = Some(answer);
        self.returned |= 1 << id;
    }

    /// A packet is processed at its instance.
    pub(crate) fn process(&mut self, scope: &Scope, packet: &Packet) -> Result<(), Violation> {
        let id = packet.id;
        if self.processed >> id & 1 == 1 {
            return Err(Violation::ProcessedTwice(id));
        }
        self.processed |= 1 << id;
        let (at, _) = self.arrived[usize::from(id)];
        // Of two steerers a strict share says nothing here.
        let steerer = if scope.mode == Mode::Strict { packet.steerer } else { 0 };
        let key = (packet.load.to, packet.load.slot, steerer);
        let known = self.last.iter_mut().find(|last| (last.0, last.1, last.2) == key);
        match known {
            Some(last) if last.3 > at => return Err(Violation::Overtaken(id)),
            Some(last) => last.3 = at,
            None => self.last.push((key.0, key.1, key.2, at)),
        }
        self.last.sort_unstable();
        Ok(())
    }

    /// An operation is executed at an instance.
    pub(crate) fn execute(
        &mut self,
        scope: &Scope,
        at: u8,
        (executed, known): (Executed, Visitors),
        packet: &Packet,
    ) -> Result<(), Violation> {
        let Executed { slot, visitor: id, before, .. } = executed;
        if self.is_known(id, slot, known) {
            return Err(Violation::ExecutedTwice(id));
        }
        self.executed[usize::from(id)] = Some(at);
        if packet.load.kind == Kind::Blind {
            self.answer(id, before);
        }
        let (arrived, sequence) = self.arrived[usize::from(id)];
        let arrived = u64::from(arrived);
        let (to, steerer) = (packet.load.to, packet.steerer);
        let mut places = vec![(16 + 4 * to + steerer, arrived)];
        match (scope.mode, sequence) {
            (Mode::Strong, _) => places.push((to, arrived)),
            (Mode::Strict, Some(sequence)) => places.push((8 + steerer, sequence)),
            (Mode::Strict, None) => {}
        }
        for (with, place) in places {
            match self.order.iter_mut().find(|(of, other, _)| (*of, *other) == (slot, with)) {
                Some((.., last)) if *last > place => return Err(Violation::OutOfOrder(id)),
                Some((.., last)) => *last = place,
                None => self.order.push((slot, with, place)),
            }
        }
        self.order.sort_unstable();
        Ok(())
    }

    /// An operation is executed when the share has ended, on the instance's own replica.
    ///
    /// # Errors
    /// When it had been executed before the end.
    pub(crate) fn execute_alone(
        &mut self,
        packet: &Packet,
        known: Visitors,
    ) -> Result<(), Violation> {
        let (id, slot) = (packet.id, packet.load.slot);
        if self.is_known(id, slot, known) || self.alone >> id & 1 == 1 {
            return Err(Violation::ExecutedTwice(id));
        }
        self.alone |= 1 << id;
        Ok(())
    }

    /// An instance that takes no part acts by itself.
    pub(crate) fn visit_alone(&mut self, packet: &Packet) {
        let Load { to, slot, .. } = packet.load;
        self.alone |= 1 << packet.id;
        self.apart.push((packet.id, to, slot));
    }

    /// An instance is gone, with the state of these slots.
    pub(crate) fn fail(&mut self, instance: u8, slots: &[Slot]) {
        self.failed.push(instance);
        self.bereave(slots);
    }

    /// State of these slots is lost: with an instance that has failed, or handed over to it.
    pub(crate) fn bereave(&mut self, slots: &[Slot]) {
        self.order.retain(|(slot, ..)| !slots.contains(slot));
        self.bereft.extend(slots);
    }

    /// Whether an operation was executed, and what it did is not lost: with its home, or with an
    /// instance to which that had given its slot, and that has failed. `known` are the visitors of
    /// whom anybody knows; when the share has ended, of whom the instance itself does.
    fn is_known(&self, id: u8, slot: Slot, known: Visitors) -> bool {
        let is_lost = |at: u8| {
            self.bereft.contains(&slot) && (self.failed.contains(&at) || known >> id & 1 == 0)
        };
        self.executed[usize::from(id)].is_some_and(|at| !is_lost(at))
    }

    /// What is checked when nothing more can happen.
    pub(crate) fn check_end(&self, model: &Model) -> Result<(), Violation> {
        let scope = &model.scope;
        let ample = scope.limits.waiting >= 16 && scope.limits.window >= 16;
        let in_vain = ample && !scope.fails() && !scope.timeouts;
        for id in 0..scope.packets() as u8 {
            if (self.processed | self.dropped | self.lost) >> id & 1 == 0 {
                return Err(Violation::Lost(id));
            }
            if self.lost >> id & 1 == 1 && in_vain {
                return Err(Violation::LostInVain(id));
            }
        }
        let given_up = model.given_up();
        if in_vain && given_up > 0 {
            return Err(Violation::GivenUpInVain(given_up));
        }
        (0..scope.limits.slots as u16).map(Slot).try_for_each(|slot| {
            if self.bereft.contains(&slot) {
                return Ok(());
            }
            self.check_apart(model, slot)?;
            self.check_state(model, slot)?;
            if self.is_linearizable(scope, slot) {
                Ok(())
            } else {
                Err(Violation::NotLinearizable(slot))
            }
        })
    }

    /// Whether the answers of a slot are explained by some order.
    pub(crate) fn is_linearizable(&self, scope: &Scope, slot: Slot) -> bool {
        let of_it = |id: &usize| {
            self.alone >> *id & 1 == 0 && self.asked[*id].is_some_and(|(of, _)| of == slot)
        };
        let ids: Vec<_> = (0..scope.packets()).filter(of_it).collect();
        // What had returned, as bits of those of this slot.
        let narrow = |before: u64| {
            let bits = ids.iter().enumerate().filter(|(_, id)| before >> **id & 1 == 1);
            bits.fold(0u64, |mask, (at, _)| mask | 1 << at)
        };
        let mut history: Vec<_> = ids
            .iter()
            .filter_map(|id| {
                let (_, before) = self.asked[*id]?;
                let op = Ok(Visit(*id as u8));
                let answer = self.answers[*id].map(|answer| answer & !self.alone);
                Some(Record { op, answer, before: narrow(before) })
            })
            .collect();
        for (instance, before) in &self.joined {
            let op = Err(own(InstanceId(*instance)));
            history.push(Record { op, answer: None, before: narrow(*before) });
        }
        let initial = scope.members.iter().fold(0, |all, member| all | own(InstanceId(*member)));
        linearizable(&history, initial, |visitors, op| match op {
            Ok(op) => visit(visitors, op),
            Err(own) => {
                *visitors |= own;
                0
            }
        })
    }

    /// The state of a slot is at its home, whole, and nowhere else; or everywhere, at the end.
    fn check_state(&self, model: &Model, slot: Slot) -> Result<(), Violation> {
        let scope = &model.scope;
        let joined = self.joined.iter().map(|(instance, _)| *instance);
        let owns = scope.members.iter().copied().chain(joined);
        let owns = owns.fold(0, |all, member| all | own(InstanceId(member)));
        let executed =
            self.executed.iter().enumerate().filter(|(id, at)| {
                at.is_some() && self.asked[*id].is_some_and(|(of, _)| of == slot)
            });
        let whole = executed.fold(owns, |all, (id, _)| all | 1 << id);
        let ended = scope.acts.contains(&Act::End);
        let last = model.shared_last();
        for (number, end) in model.ends.iter().enumerate() {
            let me = InstanceId(number as u8);
            if end.failed {
                continue;
            }
            let wanted = match &last {
                _ if self.never_shared(scope, number as u8) => own(me),
                Some(view) if ended && view.has_participant(me) => whole,
                Some(view) if !ended && view.home(slot, me) == me => whole,
                Some(_) | None => 0,
            };
            let has = end.store.slots[usize::from(slot.0)];
            // What it did alone is its own.
            if has & !self.alone != wanted & !self.alone {
                return Err(Violation::State(slot));
            }
        }
        Ok(())
    }

    /// Somebody knows of all that was done apart, unless it has failed.
    fn check_apart(&self, model: &Model, slot: Slot) -> Result<(), Violation> {
        let of_it =
            self.apart.iter().filter(|(_, at, of)| *of == slot && !self.failed.contains(at));
        let known = model.ends.iter().filter(|end| !end.failed);
        let known = known.fold(0, |all, end| all | end.store.slots[usize::from(slot.0)]);
        match of_it.into_iter().find(|(id, ..)| known >> id & 1 == 0) {
            Some((id, ..)) => Err(Violation::Forgotten(*id)),
            None => Ok(()),
        }
    }

    fn never_shared(&self, scope: &Scope, instance: u8) -> bool {
        !scope.members.contains(&instance)
            && self.joined.iter().all(|(joined, _)| *joined != instance)
    }
}
