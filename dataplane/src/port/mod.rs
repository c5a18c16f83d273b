//! Ports: where packets enter and leave. Each queue of a port is a receive and a transmit half.

mod gate;
pub mod memory;
pub mod pcap;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use weir_frame::{Frame, Pool};
use weir_state_transfer::PortId;

use crate::counters::{RxCounters, TxCounters};
use gate::Gate;

/// Packets taken from a queue at once.
pub const BURST: usize = 32;

/// The receive half of a queue, polled by one worker.
#[derive(Debug)]
pub struct RxQueue {
    /// The port.
    pub port: PortId,
    /// The number of the queue at its port.
    pub queue: u16,
    /// What is counted here.
    pub counters: Arc<RxCounters>,
    /// Whether the other end is on this machine and leaves checksums to be completed.
    pub partial_checksums: bool,
    backend: Rx,
}

/// How packets come in.
#[derive(Debug)]
pub enum Rx {
    /// An AF_XDP socket.
    AfXdp(weir_xdp::Rx),
    /// A capture file.
    Pcap(pcap::PcapRx),
    /// Memory.
    Memory(memory::MemoryRx),
}

/// The transmit half of a queue, owned by one worker.
#[derive(Debug)]
pub struct TxQueue {
    /// The port.
    pub port: PortId,
    /// What is counted here.
    pub counters: Arc<TxCounters>,
    backend: Tx,
    /// Whether something was sent that has not been flushed.
    dirty: bool,
    gate: Arc<Gate>,
    /// Whether this queue has shut the gate: its device was down when it was flushed, and what
    /// waited then has not all left.
    stuck: bool,
    gone: bool,
}

/// What a worker sees of the transmit queue of another that sends for it.
#[derive(Clone, Debug, Default)]
pub struct FarQueue {
    counters: Arc<TxCounters>,
    gate: Arc<Gate>,
    slots: u64,
}

/// How much of a transmit queue packets may fill that might wait as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// One half: the other is for what can not wait, and for what others have on the way there.
    Half,
    /// All of it, as what can not wait: some of what comes may find no room then.
    All,
}

/// Whether a device takes packets, as a flush finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    /// What is queued waits until it is up.
    Down,
    /// What is queued never leaves.
    Gone,
}

/// How packets go out.
#[derive(Debug)]
pub enum Tx {
    /// An AF_XDP socket.
    AfXdp(weir_xdp::Tx),
    /// A capture file.
    Pcap(Box<pcap::PcapTx>),
    /// Memory.
    Memory(memory::MemoryTx),
}

impl RxQueue {
    /// A queue of a port. `partial_checksums` says whether the other end is on this machine and
    /// leaves checksums to be completed.
    pub fn new(port: PortId, queue: u16, partial_checksums: bool, backend: Rx) -> Self {
        Self { port, queue, counters: Arc::default(), partial_checksums, backend }
    }

    /// Takes a burst of packets, and stocks the port with free frames to receive into.
    #[inline]
    pub fn receive(&mut self, pool: &mut Pool, out: &mut ArrayVec<Frame, BURST>) {
        match &mut self.backend {
            Rx::AfXdp(rx) => {
                let room = out.remaining_capacity();
                rx.receive(pool, room, |frame| out.push(frame));
            }
            Rx::Pcap(rx) => rx.receive(pool, out),
            Rx::Memory(rx) => rx.receive(pool, out),
        }
        if !out.is_empty() {
            self.counters.packets.add(out.len() as u64);
            self.counters.bytes.add(out.iter().map(|frame| frame.len() as u64).sum());
        }
    }

    /// Frames lent to the port to receive into.
    pub fn lent(&self) -> usize {
        match &self.backend {
            Rx::AfXdp(rx) => rx.lent(),
            Rx::Pcap(_) => 0,
            Rx::Memory(rx) => rx.lent(),
        }
    }

    /// Reads the kernel's own drop counters into [`RxQueue::counters`]: a system call.
    pub fn read_statistics(&self) {
        if let Rx::AfXdp(rx) = &self.backend
            && let Ok(statistics) = rx.statistics()
        {
            self.counters.ring_full.set(statistics.rx_ring_full);
            self.counters.fill_ring_empty.set(statistics.rx_fill_ring_empty);
            self.counters.too_long.set(statistics.rx_too_long);
        }
    }

    /// What becomes readable when packets are there; none for a port that must be polled.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backend {
            Rx::AfXdp(rx) => Some(rx.as_fd()),
            Rx::Pcap(_) | Rx::Memory(_) => None,
        }
    }
}

impl TxQueue {
    /// A queue of a port.
    pub fn new(port: PortId, backend: Tx) -> Self {
        let (counters, gate) = (Arc::default(), Arc::default());
        Self { port, counters, backend, dirty: false, gate, stuck: false, gone: false }
    }

    /// Lets queues of one port share its gate, so that they are down together; to be called
    /// before anything is sent.
    pub(crate) fn share_gate<'a>(queues: impl Iterator<Item = &'a mut Self>) {
        let gate = Arc::<Gate>::default();
        queues.for_each(|queue| queue.gate = gate.clone());
    }

    /// What others see of it, once it shares the gate of its port.
    pub(crate) fn far_end(&self) -> FarQueue {
        let (counters, gate) = (self.counters.clone(), self.gate.clone());
        FarQueue { counters, gate, slots: self.slots() }
    }

    /// Whether the port is down: it takes no packet until what waits in its transmit rings, here
    /// or at another worker, has left; none ever when its device is gone.
    #[inline]
    pub fn is_down(&self) -> bool {
        self.gate.is_shut()
    }

    /// Whether everything up to a number of submitted packets has left, or leaves before anything
    /// that is sent to the port from here on.
    pub(crate) fn has_drained(&self, submitted: u64) -> bool {
        self.stuck || self.completed() >= submitted
    }

    /// Queues a frame for transmission at the next flush.
    ///
    /// # Errors
    ///
    /// Gives the frame back when the transmit ring is full.
    #[inline]
    pub fn send(&mut self, frame: Frame) -> Result<(), Frame> {
        let bytes = frame.len() as u64;
        match &mut self.backend {
            Tx::AfXdp(tx) => tx.send(frame),
            Tx::Pcap(tx) => tx.send(frame),
            Tx::Memory(tx) => tx.send(frame),
        }?;
        self.dirty = true;
        self.counters.packets.add(1);
        self.counters.bytes.add(bytes);
        Ok(())
    }

    /// Whether one more packet can be queued.
    pub(crate) fn has_room(&mut self, claim: Claim) -> bool {
        let has_slot = match &mut self.backend {
            Tx::AfXdp(tx) => tx.has_room(),
            Tx::Pcap(tx) => tx.has_room(),
            Tx::Memory(tx) => tx.has_room(),
        };
        has_slot && self.in_flight() < claim.of(self.slots())
    }

    /// Packets that can be in flight at one time.
    fn slots(&self) -> u64 {
        match &self.backend {
            Tx::AfXdp(tx) => u64::from(tx.slots()),
            Tx::Pcap(_) => pcap::TX_SLOTS as u64,
            Tx::Memory(tx) => tx.slots() as u64,
        }
    }

    /// Sends what is queued, and frees the frames that have left.
    pub fn flush(&mut self, pool: &mut Pool) {
        if !self.dirty && self.in_flight() == 0 {
            return;
        }
        let link = match &mut self.backend {
            Tx::AfXdp(tx) => {
                let before = tx.counters().down;
                tx.flush(pool);
                match tx.counters().down > before {
                    _ if tx.is_gone() => Link::Gone,
                    true => Link::Down,
                    false => Link::Up,
                }
            }
            Tx::Pcap(tx) => {
                tx.flush(pool);
                Link::Up
            }
            Tx::Memory(tx) => tx.flush(pool),
        };
        self.dirty = false;
        self.counters.completed.set(self.completed());
        if let Tx::AfXdp(tx) = &self.backend {
            self.counters.live.set(tx.live_counters().packets);
        }
        self.turn_gate(link);
        if link == Link::Gone {
            // A frame that the kernel had taken before may still come back.
            self.gone = true;
            self.counters.gone.set(1);
            self.counters.lost.set(self.in_flight());
        }
    }

    fn turn_gate(&mut self, link: Link) {
        if link != Link::Up && !self.stuck {
            self.stuck = true;
            self.gate.shut();
        } else if link == Link::Up && self.stuck && self.is_drained() {
            self.stuck = false;
            self.gate.open();
        }
    }

    /// Reads the kernel's own counters into [`TxQueue::counters`]: a system call.
    pub fn read_statistics(&self) {
        if let Tx::AfXdp(tx) = &self.backend
            && let Ok(statistics) = tx.statistics()
        {
            self.counters.invalid.set(statistics.tx_invalid + tx.live_counters().invalid);
            self.counters.refused.set(tx.counters().refused);
        }
    }

    /// Packets queued, ever.
    pub fn submitted(&self) -> u64 {
        match &self.backend {
            Tx::AfXdp(tx) => tx.submitted(),
            Tx::Pcap(tx) => tx.submitted(),
            Tx::Memory(tx) => tx.submitted(),
        }
    }

    /// Packets that have left, ever.
    pub fn completed(&self) -> u64 {
        match &self.backend {
            Tx::AfXdp(tx) => tx.completed(),
            Tx::Pcap(tx) => tx.completed(),
            Tx::Memory(tx) => tx.completed(),
        }
    }

    /// Packets queued whose frames have not come back.
    pub fn in_flight(&self) -> u64 {
        self.submitted() - self.completed()
    }

    /// Whether everything queued has left, or never will.
    pub fn is_drained(&self) -> bool {
        self.gone || self.in_flight() == 0
    }
}

impl FarQueue {
    /// Whether the port is down, see [`TxQueue::is_down`].
    pub(crate) fn is_down(&self) -> bool {
        self.gate.is_shut()
    }

    /// Whether the queue has room for one more packet of a sender, one of so many, that has this many on
    /// their way to it. With a claim to one half, less than that is in flight, and what all have on the
    /// way is not more than the other.
    pub(crate) fn has_room(&self, claim: Claim, senders: usize, on_their_way: usize) -> bool {
        let TxCounters { packets, completed, .. } = &*self.counters;
        let in_flight = packets.get().saturating_sub(completed.get());
        let claimed = claim.of(self.slots);
        in_flight < claimed
            && match claim {
                Claim::Half => (senders * (on_their_way + 1)) as u64 <= claimed,
                Claim::All => in_flight + (on_their_way as u64) < claimed,
            }
    }
}

impl Claim {
    /// How many of the slots of a queue.
    fn of(self, slots: u64) -> u64 {
        match self {
            Self::Half => slots / 2,
            Self::All => slots,
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_frame::{FrameSize, HomeId, Homes, Region};

    use super::memory::{Wire, memory};
    use super::*;

    fn frame(pool: &mut Pool, number: u8) -> Frame {
        let mut frame = pool.alloc().unwrap();
        frame.write(&[number; 60]).unwrap();
        frame
    }

    fn take(wire: &mut Wire) -> Option<u8> {
        let frame = wire.take()?;
        let number = frame.data()[0];
        wire.complete(frame);
        Some(number)
    }

    #[test]
    fn what_all_have_on_the_way_to_a_queue_fits_into_half_of_it_and_each_may_have_some() {
        let far = FarQueue { slots: 64, ..FarQueue::default() };
        for senders in 1..=16 {
            let may_send = |own: &usize| far.has_room(Claim::Half, senders, *own);
            let each = (0..64).take_while(may_send).count();
            assert!(each > 0 && senders * each <= 32, "{senders} senders have {each} each");
        }
    }

    #[test]
    fn what_waits_at_a_port_that_is_down_leaves_before_anything_else() {
        let (region, all) = Region::heap(16, FrameSize::B2048);
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        pool.adopt(all);
        let ((_, old, mut old_wire), (_, new, mut new_wire)) = (memory(4), memory(4));
        let mut old = TxQueue::new(PortId(0), Tx::Memory(old));
        let mut new = TxQueue::new(PortId(0), Tx::Memory(new));
        TxQueue::share_gate([&mut old, &mut new].into_iter());

        old.send(frame(&mut pool, 1)).unwrap();
        old.send(frame(&mut pool, 2)).unwrap();
        let sent = old.submitted();
        old_wire.set_down(true);
        assert!(!old.has_drained(sent) && !old.is_down(), "nobody has noticed");
        old.flush(&mut pool);
        assert!(old.is_down() && new.is_down());
        assert!(old.has_drained(sent) && !old.is_drained());

        old_wire.set_down(false);
        old.flush(&mut pool);
        assert_eq!((take(&mut old_wire), take(&mut old_wire)), (Some(1), Some(2)));
        assert!(new.is_down(), "it has not been seen to have left");
        old.flush(&mut pool);
        assert!(!old.is_down() && !new.is_down() && old.is_drained());

        new.send(frame(&mut pool, 3)).unwrap();
        new.flush(&mut pool);
        assert_eq!(take(&mut new_wire), Some(3));
        new.flush(&mut pool);
    }

    #[test]
    fn a_port_whose_device_is_gone_is_down_for_good_and_keeps_what_waits() {
        let (region, all) = Region::heap(16, FrameSize::B2048);
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        pool.adopt(all);
        let ((_, tx, mut wire), (_, other, other_wire)) = (memory(4), memory(4));
        let mut queue = TxQueue::new(PortId(0), Tx::Memory(tx));
        let mut other = TxQueue::new(PortId(0), Tx::Memory(other));
        TxQueue::share_gate([&mut queue, &mut other].into_iter());
        for number in 1..=3 {
            queue.send(frame(&mut pool, number)).unwrap();
        }
        let taken = wire.take().unwrap();
        wire.complete(taken);
        drop((wire, other_wire));
        for _ in 0..2 {
            queue.flush(&mut pool);
            other.flush(&mut pool);
            assert!(queue.is_down() && other.is_down());
            assert!(queue.is_drained() && queue.has_drained(queue.submitted()));
            let counters = &queue.counters;
            assert_eq!((counters.completed.get(), counters.lost.get()), (1, 2));
            assert_eq!((counters.gone.get(), other.counters.gone.get()), (1, 0));
            assert_eq!(pool.len(), 14);
        }
    }

    #[test]
    fn a_port_is_up_when_the_last_of_its_queues_has_sent_what_waited() {
        let (region, all) = Region::heap(16, FrameSize::B2048);
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        pool.adopt(all);
        let mut ends = [memory(4), memory(4)].map(|(_, tx, wire)| {
            wire.set_down(true);
            (TxQueue::new(PortId(0), Tx::Memory(tx)), wire)
        });
        TxQueue::share_gate(ends.iter_mut().map(|(queue, _)| queue));
        for (queue, _) in &mut ends {
            queue.send(frame(&mut pool, 7)).unwrap();
            queue.flush(&mut pool);
        }
        for n in 0..ends.len() {
            assert!(ends.iter().all(|(queue, _)| queue.is_down()), "{n} have sent");
            let (queue, wire) = &mut ends[n];
            wire.set_down(false);
            assert_eq!(take(wire), Some(7));
            queue.flush(&mut pool);
        }
        assert!(ends.iter().all(|(queue, _)| !queue.is_down()));
    }
}
