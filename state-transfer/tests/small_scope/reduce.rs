//! Partial order reduction: steps that commute with all others are not tried in every place.
//!
//! What is left out, and why it shows nothing new:
//!
//! * Preparing, and taking `Prepared`: until steerers flip, a source processes what it gets,
//!   prepared or not. What is asked to be undone while it prepares is explored without reduction.
//! * Asking the destination right after the node has decided to: until then nothing can tell.
//! * Taking a marker, an answer to undo, a relayed packet or the end of the relay: they only
//!   enable a later step of the same end, which may itself be late. (A relayed packet may find
//!   the hold full: then its place is explored.)
//! * Adopting a table when nothing is left to be steered: its marker may lie in the ring instead.
//! * Events of workers when nobody can ask to undo any more: the commands that follow from them
//!   may be late instead.
//! * Receiving before the first table is pending: the packet may lie in the ring instead, and
//!   nothing before depends on it.
//! * Frames that leave while no source waits for them: that a frame is still there is the case
//!   in which a later packet elsewhere is wrong.

use crate::model::{Item, Message, Model, Step, Worker};
use crate::node::{Command, Event};

impl Model {
    /// A step that may be taken first, before any other that is possible.
    pub(crate) fn eager(&self) -> Option<Step> {
        if !self.scope.reduce {
            return None;
        }
        if self.node.starts_first() {
            return Some(Step::Start);
        }
        let workers = self.workers.iter().enumerate();
        workers.filter_map(|(number, worker)| self.eager_at(number, worker)).next()
    }

    /// Whether nothing can be told from a packet that is received, or a frame that leaves, later.
    pub(crate) fn may_wait(&self, number: usize, step: Step) -> bool {
        let worker = &self.workers[number];
        self.scope.reduce
            && match step {
                Step::Receive(_) => worker.commands.is_empty() && worker.steered.is_first(),
                Step::Leave { .. } => !worker.sources.iter().any(|end| end.waits_for_frames()),
                _ => false,
            }
    }

    fn eager_at(&self, number: usize, worker: &Worker) -> Option<Step> {
        let all_received = worker.received == self.scope.script.get(number).map_or(0, Vec::len);
        let command = match worker.commands.front() {
            Some(Command::Prepare(_) | Command::Forget(_) | Command::Ask(_)) => true,
            Some(Command::Steer(_, flip)) => all_received && flip.to != number,
            None => false,
        };
        if command {
            return Some(Step::Command(number));
        }
        match worker.events.front() {
            Some(Event::Prepared(_)) => return Some(Step::Event(number)),
            Some(_) if self.node.undos == 0 => return Some(Step::Event(number)),
            Some(_) | None => {}
        }
        let is_ample = self.scope.hold >= self.scope.packets();
        let from = worker.rings.iter().enumerate().position(|(from, ring)| match ring.front() {
            Some(Item::Marker { .. }) => from != number,
            Some(Item::Move(_, Message::UndoAnswer { .. } | Message::RelayEnd)) => true,
            Some(Item::Move(_, Message::Relay(_))) => is_ample,
            Some(Item::Move(..) | Item::Packet(..)) | None => false,
        })?;
        Some(Step::Take { worker: number, from })
    }
}
