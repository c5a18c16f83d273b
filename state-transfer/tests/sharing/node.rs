//! What the node does with the share: it carries out what the coordinator wants, asks for changes,
//! and loses instances.

use std::time::Duration;

use weir_state_transfer::share::{Command, Event, Member, Message, Phase, Slot, Surroundings};
use weir_state_transfer::{InstanceId, mark};

use crate::model::{ID, Model, Packet, Told};
use crate::scope::{Act, Kind, instances};
use crate::seen::Violation;
use crate::store::{Visit, Visitors, visit};

impl Model {
    /// Carries out what the coordinator wants; only that instances adopt views takes time.
    pub(crate) fn command(&mut self) {
        while let Some(command) = self.coordinator.poll_command() {
            match command {
                Command::Prepare(id, at) => {
                    debug_assert_eq!(id, ID);
                    self.coming.extend(at.iter().map(|instance| usize::from(instance.0)));
                }
                Command::Adopt(_, view) => {
                    for participant in view.participants() {
                        self.ends[usize::from(participant.0)].commands.push_back(view.clone());
                    }
                    self.last_view = Some(view);
                }
                Command::Stamp(id, view, members) => {
                    debug_assert_eq!(id, ID);
                    self.stamped = members;
                    self.markers += self.steered.iter().map(Vec::len).sum::<usize>();
                    self.marked_for = view;
                    let queues = self.steered.iter_mut().flatten();
                    queues.for_each(|queue| queue.push_back(None));
                    self.mark();
                }
                Command::Forget(_, at) => {
                    self.going.extend(at.iter().map(|instance| usize::from(instance.0)));
                }
                Command::Steady(_) | Command::End(..) => {}
            }
        }
    }

    /// Removes ends that have nothing to take any more, and makes new ones.
    pub(crate) fn replace(&mut self) {
        for at in std::mem::take(&mut self.going) {
            if self.rings.iter().any(|to| !to[at].is_empty()) {
                self.going.push(at);
            } else {
                self.ends[at].member = None;
            }
        }
        for at in std::mem::take(&mut self.coming) {
            if self.going.contains(&at) {
                self.coming.push(at);
                continue;
            }
            let me = InstanceId(at as u8);
            let member = Member::new(me, self.scope.mode, self.scope.limits);
            self.ends[at].member = Some(member);
            self.coordinator.event(ID, Event::Prepared(me));
            self.command();
        }
    }

    /// Takes the markers that are next: when it was the last, all that was stamped for other
    /// members has come.
    pub(crate) fn mark(&mut self) {
        let before = self.markers;
        for queue in self.steered.iter_mut().flatten() {
            while queue.pop_front_if(|next| next.is_none()).is_some() {
                self.markers -= 1;
            }
        }
        if before > 0 && self.markers == 0 {
            self.coordinator.event(ID, Event::Stamped(self.marked_for));
            self.command();
        }
    }

    /// An instance that does not share, or no more, acts on what it has of a slot itself.
    pub(crate) fn alone(&mut self, at: usize, packet: &Packet) -> Result<(), Violation> {
        if !matches!(packet.load.kind, Kind::Plain | Kind::Dropped) {
            visit(
                &mut self.ends[at].store.slots[usize::from(packet.load.slot.0)],
                &Visit(packet.id),
            );
            self.seen.visit_alone(packet);
        }
        self.seen.process(&self.scope, packet)
    }

    pub(crate) fn act(&mut self) -> Result<bool, Violation> {
        let steady = self.coordinator.get(ID).is_none_or(|share| share.phase == Phase::Steady);
        let act = self.scope.acts[self.acted].clone();
        if !steady && !matches!(act, Act::Fail(_)) {
            return Ok(false);
        }
        self.acted += 1;
        match act {
            Act::Change(members) => {
                let moves = mark::Coordinator::new(1, Duration::from_secs(1));
                let around = Surroundings { moves: &moves, removing: &[] };
                let changed = self.coordinator.change(ID, &instances(&members), &around, self.now);
                changed.expect("it is steady");
            }
            Act::End => self.coordinator.end(ID).expect("it has not ended"),
            Act::Fail(instance) => self.fail(instance),
        }
        self.command();
        Ok(true)
    }

    fn fail(&mut self, instance: u8) {
        let at = usize::from(instance);
        let store = &self.ends[at].store;
        let slots = (0..self.scope.limits.slots as u16).map(Slot);
        let lost = slots.filter(|slot| store.slots[usize::from(slot.0)] != 0);
        let mut bereft: Vec<_> = lost.collect();
        self.ends[at].failed = true;
        self.ends[at].member = None;
        for other in 0..self.ends.len() {
            // State that was on its way is lost with it.
            let lost = self.rings[at][other].iter().chain(&self.rings[other][at]);
            bereft.extend(lost.filter_map(slot_of_state));
            if !self.scope.late {
                self.rings[at][other].clear();
            }
            self.rings[other][at].clear();
        }
        self.seen.fail(instance, &bereft);
        for steered in &mut self.steered {
            steered[at].retain(Option::is_none);
        }
        let packets = (0..self.scope.packets() as u8).map(|id| (id, self.place(id)));
        for (id, (steerer, n)) in packets.collect::<Vec<_>>() {
            if n < self.received[steerer] && self.scope.script[steerer][n].to == instance {
                self.seen.dropped |= 1 << id;
            }
        }
        self.mark();
        self.coordinator.fail(ID, InstanceId(instance));
    }

    /// The visitors of a slot of whom others know than this instance, or will hear.
    pub(crate) fn known(&self, but: usize, slot: Slot) -> Visitors {
        let mut known = 0;
        for (at, end) in self.ends.iter().enumerate().filter(|(_, end)| !end.failed) {
            known |= if at == but { 0 } else { end.store.slots[usize::from(slot.0)] };
            for message in self.rings[at].iter().flatten() {
                if let Message::Piece(of, piece) = message {
                    known |= if *of == slot { *piece } else { 0 };
                }
            }
        }
        known
    }
}

/// The slot of which a message has state.
pub(crate) fn slot_of_state(message: &Told) -> Option<Slot> {
    match message {
        Message::Piece(slot, _) => Some(*slot),
        Message::Ledger(_) | Message::Handed(_) | Message::Fence { .. } => None,
        Message::Operation(_) | Message::Answer(_) | Message::Passed(_) => None,
    }
}
