//! The two ends of a move on their workers: the same calls in the same order as the data plane,
//! a piece at a time.

mod destination;
mod source;

use std::fmt::{self, Write};
use std::hash::Hasher;

use weir_state_transfer::WorkerId;
use weir_state_transfer::mark::{Guarantee, Verdict};

use crate::model::{FlowState, Item, Message, Model, Packet, Violation};
use crate::node::Spec;
use crate::scope::Fault;

pub(crate) use destination::DestinationEnd;
pub(crate) use source::SourceEnd;

/// What arrives as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Group {
    Flow(u8),
    Bucket(u8),
}

impl Model {
    /// Gives a packet to an instance of a worker, unless a move holds it.
    pub(crate) fn deliver(
        &mut self,
        worker: usize,
        instance: u8,
        packet: Packet,
    ) -> Result<(), Violation> {
        let concerns = |spec: &Spec, at: u8| at == instance && spec.concerns(packet.flow);
        let Self { workers, tables, .. } = self;
        let ends = &mut workers[worker];
        let end = ends.destinations.iter_mut().find(|end| concerns(&end.spec, end.spec.to));
        if let Some(end) = end {
            if self.scope.fault == Some(Fault::NoHold) {
                return self.process(instance, packet);
            }
            let group = end.group(packet.flow);
            let came_by = |state: FlowState| state.came_by == end.spec.id;
            let arrived = match group {
                Group::Bucket(bucket) => end.arrived >> bucket & 1 == 1,
                Group::Flow(flow) => {
                    tables[usize::from(instance)][usize::from(flow)].is_some_and(came_by)
                }
            };
            let spec = end.spec;
            let verdict = end.destination.packet(group, arrived, packet);
            let fills = matches!(verdict, Verdict::Held { .. }) && end.destination.fills();
            if let (Verdict::Held { first: true }, Group::Flow(flow), false) =
                (&verdict, group, arrived)
            {
                self.send(worker, spec.from_worker, spec.id, Message::Pull(flow));
            }
            self.ask(worker, spec.id, fills);
            return self.settle(instance, &verdict);
        }
        match ends.sources.iter_mut().find(|end| concerns(&end.spec, end.spec.from)) {
            Some(end) => {
                if self.scope.fault == Some(Fault::DirectFirst) && end.source.is_undoing() {
                    return self.process(instance, packet);
                }
                let is_here = || {
                    self.scope.fault == Some(Fault::GoneProcessed)
                        || tables[usize::from(instance)][usize::from(packet.flow)].is_some()
                };
                let verdict = end.source.packet(WorkerId(packet.steerer), is_here, packet);
                self.settle(instance, &verdict)
            }
            None => self.process(instance, packet),
        }
    }

    fn settle(&mut self, instance: u8, verdict: &Verdict<Packet>) -> Result<(), Violation> {
        match *verdict {
            Verdict::Process(packet) => self.process(instance, packet),
            Verdict::Held { .. } => Ok(()),
            Verdict::Full(packet) => {
                if !self.is_broken(Fault::FullUncounted) {
                    self.seen.lost |= 1 << packet.id;
                }
                Ok(())
            }
            Verdict::InTransit(packet) => {
                debug_assert_eq!(self.scope.guarantee, Guarantee::None, "others hold it");
                if !self.is_broken(Fault::InTransitUncounted) {
                    self.seen.lost |= 1 << packet.id;
                }
                Ok(())
            }
            Verdict::Stray(packet) => {
                self.seen.strays += 1;
                self.process(instance, packet)
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, id: u8, message: Message) {
        self.push(from, to, Item::Move(id, message));
    }

    /// Asks the source to undo, if it must be asked.
    pub(crate) fn ask(&mut self, worker: usize, id: u8, must: bool) {
        let ends = &self.workers[worker].destinations;
        if let (true, Some(end)) = (must, ends.iter().find(|end| end.spec.id == id)) {
            self.send(worker, end.spec.from_worker, id, Message::Undo);
        }
    }

    /// A worker takes an item that another has pushed.
    pub(crate) fn item(&mut self, to: usize, from: usize, item: Item) -> Result<(), Violation> {
        match item {
            Item::Packet(instance, packet) => self.deliver(to, instance, packet),
            Item::Marker { id, back } => {
                self.marker(to, from, id, back);
                Ok(())
            }
            Item::Move(id, message) => match message {
                Message::Pull(_)
                | Message::Refused(_)
                | Message::Ended
                | Message::Undo
                | Message::Relay(_)
                | Message::RelayEnd => self.at_source(to, id, &message),
                Message::Bucket(..)
                | Message::Flow(..)
                | Message::Unknown(_)
                | Message::MultiFlow(_)
                | Message::End
                | Message::UndoAnswer { .. } => self.at_destination(to, id, &message),
            },
        }
    }

    /// A steerer's marker.
    pub(crate) fn marker(&mut self, worker: usize, steerer: usize, id: u8, back: bool) {
        let export_early = self.is_broken(Fault::ExportEarly);
        let steerer = WorkerId(steerer as u8);
        let ends = &mut self.workers[worker];
        if back {
            let end = ends.destinations.iter_mut().find(|end| end.spec.id == id);
            end.into_iter().for_each(|end| end.destination.marker(steerer));
        } else if let Some(end) = ends.sources.iter_mut().find(|end| end.spec.id == id) {
            end.source.marker(steerer);
            if export_early {
                let all = (0..64).map(WorkerId).filter(|id| end.steerers.contains(*id));
                all.for_each(|steerer| end.source.marker(steerer));
            }
        }
    }
}

/// Hashes what a value prints: all that it holds, whatever fields it may be given.
fn debug_into<H: Hasher>(value: &impl fmt::Debug, state: &mut H) {
    struct Into<'a, H>(&'a mut H);

    impl<H: Hasher> Write for Into<'_, H> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }

    write!(Into(state), "{value:?}").expect("hashing does not fail");
}
