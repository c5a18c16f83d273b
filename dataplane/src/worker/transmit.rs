//! The ways out of a worker: its own transmit queues, and those of others by ring.

use weir_frame::{Frame, Pool};
use weir_state_transfer::{PortId, WorkerId};

use super::mesh::RingEnds;
use crate::moves::DrainTarget;
use crate::packet::DropReason;
use crate::port::{Claim, FarQueue, TxQueue};

/// The way out to each port, by port number.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    paths: Vec<Path>,
}

#[derive(Debug, Default)]
enum Path {
    #[default]
    None,
    /// This worker's own queue.
    Own(Box<TxQueue>),
    /// The queue of another worker, for a port that has fewer queues than there are workers.
    Via(WorkerId, FarQueue),
}

/// Why a frame can not be sent.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// There is no such port, or it is down.
    PortDown(Frame),
    /// The transmit ring is full.
    RingFull(Frame),
    /// The ring to the worker that transmits for this one is full, and what may wait outside too.
    HandoverFull(Frame),
}

impl Egress {
    pub(crate) fn set_own(&mut self, queue: Box<TxQueue>) {
        let port = queue.port;
        *self.path(port) = Path::Own(queue);
    }

    pub(crate) fn set_via(&mut self, port: PortId, worker: WorkerId, far: FarQueue) {
        *self.path(port) = Path::Via(worker, far);
    }

    /// Queues a frame for the port; whether it went to another worker. A full ring is flushed
    /// once before it counts as full.
    #[inline]
    pub(crate) fn send(
        &mut self,
        port: PortId,
        frame: Frame,
        rings: &mut RingEnds,
        pool: &mut Pool,
    ) -> Result<bool, NotSent> {
        match self.paths.get_mut(usize::from(port.0)) {
            Some(Path::Own(queue)) if queue.is_down() => Err(NotSent::PortDown(frame)),
            Some(Path::Own(queue)) => {
                if let Err(frame) = queue.send(frame) {
                    queue.flush(pool);
                    queue.send(frame).map_err(NotSent::RingFull)?;
                }
                Ok(false)
            }
            Some(Path::Via(worker, _)) => {
                rings.to(*worker).transmit(port, frame).map_err(NotSent::HandoverFull)?;
                Ok(true)
            }
            Some(Path::None) | None => Err(NotSent::PortDown(frame)),
        }
    }

    /// Whether a port takes one more frame at once of those that have a claim to so much of it. A queue
    /// without room is flushed once before it counts as full.
    ///
    /// # Errors
    ///
    /// What is in the way.
    pub(crate) fn check_open(
        &mut self,
        port: PortId,
        claim: Claim,
        rings: &mut RingEnds,
        pool: &mut Pool,
    ) -> Result<(), DropReason> {
        match self.paths.get_mut(usize::from(port.0)) {
            Some(Path::Own(queue)) if queue.is_down() => Err(DropReason::PortDown),
            Some(Path::Own(queue)) => {
                let has_room = queue.has_room(claim) || {
                    queue.flush(pool);
                    queue.has_room(claim)
                };
                has_room.then_some(()).ok_or(DropReason::TxRingFull)
            }
            Some(Path::Via(_, far)) if far.is_down() => Err(DropReason::PortDown),
            Some(Path::Via(worker, far)) => {
                let senders = rings.outboxes.len();
                let outbox = rings.to(*worker);
                match outbox.has_room() {
                    true if far.has_room(claim, senders, outbox.waiting()) => Ok(()),
                    true => Err(DropReason::TxRingFull),
                    false => Err(DropReason::TxHandoverFull),
                }
            }
            Some(Path::None) | None => Err(DropReason::PortDown),
        }
    }

    /// Sends what is queued and frees what has left.
    pub(crate) fn flush(&mut self, pool: &mut Pool) {
        for queue in self.own_mut() {
            queue.flush(pool);
        }
    }

    /// Reads the kernel's own counters.
    pub(crate) fn read_statistics(&self) {
        for queue in self.own() {
            queue.read_statistics();
        }
    }

    /// Gives up the queues, which must be drained.
    pub(crate) fn take_own(&mut self) -> Vec<TxQueue> {
        std::mem::take(&mut self.paths)
            .into_iter()
            .filter_map(|path| match path {
                Path::Own(queue) => Some(*queue),
                Path::Via(..) | Path::None => None,
            })
            .collect()
    }

    /// Workers that transmit for this one.
    pub(crate) fn transmitters(&self) -> Vec<WorkerId> {
        let mut workers: Vec<_> = self
            .paths
            .iter()
            .filter_map(|path| match path {
                Path::Via(worker, _) => Some(*worker),
                Path::Own(_) | Path::None => None,
            })
            .collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    /// What must have left so that everything queued up to here has, in the order of the ports.
    pub(crate) fn drain_target(&self) -> DrainTarget {
        self.own().map(TxQueue::submitted).collect()
    }

    /// Whether everything up to a target has left, or leaves before what others send from here on.
    pub(crate) fn has_drained(&self, target: &DrainTarget) -> bool {
        self.own().zip(target).all(|(queue, target)| queue.has_drained(*target))
    }

    /// Whether everything queued has left, or never will.
    pub(crate) fn is_drained(&self) -> bool {
        self.own().all(TxQueue::is_drained)
    }

    /// Packets queued whose frames have not come back.
    pub(crate) fn in_flight(&self) -> u64 {
        self.own().map(TxQueue::in_flight).sum()
    }

    fn own(&self) -> impl Iterator<Item = &TxQueue> {
        self.paths.iter().filter_map(|path| match path {
            Path::Own(queue) => Some(&**queue),
            Path::Via(..) | Path::None => None,
        })
    }

    fn own_mut(&mut self) -> impl Iterator<Item = &mut TxQueue> {
        self.paths.iter_mut().filter_map(|path| match path {
            Path::Own(queue) => Some(&mut **queue),
            Path::Via(..) | Path::None => None,
        })
    }

    fn path(&mut self, port: PortId) -> &mut Path {
        let index = usize::from(port.0);
        if self.paths.len() <= index {
            self.paths.resize_with(index + 1, Path::default);
        }
        &mut self.paths[index]
    }
}
