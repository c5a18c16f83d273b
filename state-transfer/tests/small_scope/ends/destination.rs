//! The destination's end: holds, takes in, releases, or relays back.

use std::hash::{Hash, Hasher};

use weir_state_transfer::WorkerId;
use weir_state_transfer::mark::{Destination, Guarantee, Steerers};

use super::{Group, debug_into};
use crate::model::{FlowState, Message, Model, Packet, Violation};
use crate::node::{Event, Spec};
use crate::scope::{Fault, Grouping, Room};

/// One move at its destination.
#[derive(Clone, Debug)]
pub(crate) struct DestinationEnd {
    pub(crate) spec: Spec,
    pub(crate) destination: Destination<Group, Packet>,
    steerers: Steerers,
    /// Buckets that have arrived, a bit each.
    pub(super) arrived: u8,
}

impl DestinationEnd {
    pub(crate) fn new(spec: Spec, steerers: Steerers, hold: usize, promise: Guarantee) -> Self {
        let destination = Destination::new(promise, steerers, hold);
        Self { spec, destination, steerers, arrived: 0 }
    }

    pub(crate) fn held(&self) -> usize {
        self.destination.hold().len()
    }

    pub(super) fn group(&self, flow: u8) -> Group {
        match self.spec.by {
            Grouping::Flow => Group::Flow(flow),
            Grouping::Bucket(size) => Group::Bucket(flow / size),
        }
    }
}

impl Model {
    pub(super) fn at_destination(
        &mut self,
        worker: usize,
        id: u8,
        message: &Message,
    ) -> Result<(), Violation> {
        let ends = &mut self.workers[worker].destinations;
        let Some(end) = ends.iter_mut().find(|end| end.spec.id == id) else {
            return Err(Violation::Astray);
        };
        let instance = end.spec.to;
        match *message {
            Message::Bucket(bucket, ref flows) => {
                end.arrived |= 1 << bucket;
                end.destination.arrived(Group::Bucket(bucket));
                for (flow, state) in flows {
                    self.put(instance, *flow, FlowState { came_by: id, ..*state })?;
                }
            }
            Message::Flow(flow, state) => {
                end.destination.arrived(Group::Flow(flow));
                self.put(instance, flow, FlowState { came_by: id, ..state })?;
            }
            Message::Unknown(flow) => end.destination.unknown(Group::Flow(flow)),
            Message::MultiFlow(packets) => {
                let refused = match self.scope.multi_flow {
                    Some(Room::Full) => packets,
                    Some(Room::Ample) | None => 0,
                };
                let from = end.spec.from_worker;
                self.multi_flow[usize::from(instance)] |= packets & !refused;
                if refused != 0 {
                    self.send(worker, from, id, Message::Refused(refused));
                }
            }
            Message::End => {
                end.destination.ended();
                let from = end.spec.from_worker;
                if self.scope.multi_flow.is_some() {
                    self.send(worker, from, id, Message::Ended);
                }
            }
            Message::UndoAnswer { accepted: true } => end.destination.undo_accepted(),
            Message::UndoAnswer { accepted: false } => end.destination.undo_refused(),
            _ => return Err(Violation::Astray),
        }
        Ok(())
    }

    fn put(&mut self, instance: u8, flow: u8, state: FlowState) -> Result<(), Violation> {
        self.seen.flying &= !(1 << flow);
        if self.is_broken(Fault::ChunkDropped) {
            return Ok(());
        }
        let entry = &mut self.tables[usize::from(instance)][usize::from(flow)];
        if entry.replace(state).is_some() {
            return Err(Violation::TwoOwners(flow));
        }
        self.one_owner(flow)
    }

    /// Carries a destination on; whether anything has changed.
    pub(crate) fn step_destination(
        &mut self,
        worker: usize,
        end: usize,
    ) -> Result<bool, Violation> {
        let ends = &mut self.workers[worker];
        let Spec { id, to, .. } = ends.destinations[end].spec;
        let destination = &mut ends.destinations[end].destination;
        if destination.is_relaying() {
            return Ok(self.relay(worker, end));
        }
        let released = destination.next_release();
        let swapped = match self.scope.fault {
            Some(Fault::ReleaseSwapped) => destination.next_release(),
            _ => None,
        };
        let done = destination.is_done();
        if done {
            ends.destinations.remove(end);
            ends.events.push_back(Event::Done(id));
        }
        let changed = done || released.is_some();
        for packet in swapped.into_iter().chain(released) {
            self.process(to, packet)?;
            if self.is_broken(Fault::Twice) {
                self.process(to, packet)?;
            }
        }
        Ok(changed)
    }

    fn relay(&mut self, worker: usize, end: usize) -> bool {
        let end_early = self.is_broken(Fault::RelayEndEarly);
        let Spec { id, from_worker, .. } = self.workers[worker].destinations[end].spec;
        if !self.has_room(worker, from_worker) {
            return false;
        }
        let relaying = &mut self.workers[worker].destinations[end];
        if end_early {
            let all = (0..64).map(WorkerId).filter(|id| relaying.steerers.contains(*id));
            all.for_each(|steerer| relaying.destination.marker(steerer));
        }
        let packet = relaying.destination.next_relay();
        let ended = relaying.destination.is_relayed();
        if ended {
            self.workers[worker].destinations.remove(end);
        }
        let relayed = packet.is_some();
        packet.into_iter().for_each(|packet| {
            self.send(worker, from_worker, id, Message::Relay(packet));
        });
        if ended {
            self.send(worker, from_worker, id, Message::RelayEnd);
        }
        relayed || ended
    }
}

impl Hash for DestinationEnd {
    fn hash<H: Hasher>(&self, state: &mut H) {
        debug_into(&self.destination, state);
        (self.spec.id, self.arrived).hash(state);
    }
}
