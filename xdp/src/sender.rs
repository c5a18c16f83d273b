//! Sending: frames into the tx ring, and out of the completion ring.

use std::io;

use weir_frame::{Frame, Loans, Pool};

use crate::ring::{Completion, Descriptor, Tx};

/// Shortest frame that is given to the kernel: an Ethernet header. A descriptor of no bytes would
/// never be completed.
pub(crate) const SHORTEST: usize = 14;

/// Calls in a row that neither send nor complete anything, after which a flush gives up.
const STALLS_MAX: u32 = 16;

/// The tx and completion ring of a socket, and the frames lent through them.
#[derive(Debug)]
pub(crate) struct Sender {
    ring: Tx,
    completion: Completion,
    loans: Loans,
    submitted: u64,
    completed: u64,
    gone: bool,
    counters: TxCounters,
}

/// What went wrong in sending; running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxCounters {
    /// Packets that the device dropped: no carrier, or longer than the peer's MTU.
    pub refused: u64,
    /// Flushes that ended because the device is down; the packets stay in the ring.
    pub down: u64,
    /// Flushes that gave up because nothing moved; the packets stay in the ring.
    pub stalled: u64,
    /// Flushes that ended in an error that is not foreseen; the packets stay in the ring.
    pub failed: u64,
    /// Completions that named no frame lent here.
    pub bad_completions: u64,
}

impl Sender {
    pub(crate) fn new(ring: Tx, completion: Completion, loans: Loans) -> Sender {
        let counters = TxCounters::default();
        Sender { ring, completion, loans, submitted: 0, completed: 0, gone: false, counters }
    }

    /// Puts a frame in the tx ring, to leave at the next flush.
    #[inline]
    pub(crate) fn send(&mut self, frame: Frame) -> Result<(), Frame> {
        if !self.has_room() || frame.len() < SHORTEST {
            return Err(frame);
        }
        let len = frame.len() as u32;
        let address = self.loans.lend(frame);
        self.ring.push(Descriptor { address, len, options: 0 });
        self.submitted += 1;
        Ok(())
    }

    /// Whether one more frame can be queued.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.room(1) > 0
    }

    /// Number of frames that can be queued, looking at the kernel's index only if fewer than `wanted`
    /// are known to fit.
    #[inline]
    pub(crate) fn room(&mut self, wanted: u32) -> usize {
        // A full completion ring would stop the kernel, so no more is lent than it holds.
        let lent_max = self.completion.size() as usize;
        let unlent = lent_max.saturating_sub(self.loans.outstanding());
        unlent.min(self.ring.room(wanted) as usize)
    }

    /// Number of packets in the ring that the kernel has not taken.
    #[inline]
    pub(crate) fn pending(&mut self) -> u32 {
        self.ring.pending()
    }

    /// Frames that can be lent at one time.
    pub(crate) fn slots(&self) -> u32 {
        self.completion.size().min(self.ring.size())
    }

    /// Has the kernel send, by `kick`, until the ring is empty, and frees what has left.
    /// Returns how many packets are still in the ring.
    ///
    /// A kick moves at most 32 packets and its answer does not say how many, so the rings are
    /// looked at; each pass but [`STALLS_MAX`] in a row makes one of them shorter. A device that
    /// is gone is not asked again.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        pool: &mut Pool,
        mut kick: impl FnMut() -> io::Result<()>,
    ) -> u32 {
        self.ring.publish();
        self.reap(pool);
        let mut pending = self.ring.pending();
        let mut stalls = 0;
        while pending > 0 && !self.gone && self.ring.needs_wakeup() {
            if !self.kick(&mut kick) {
                break;
            }
            let (completed, before) = (self.reap(pool), pending);
            pending = self.ring.pending();
            if pending < before || completed > 0 {
                stalls = 0;
                continue;
            }
            stalls += 1;
            if stalls == STALLS_MAX {
                self.counters.stalled += 1;
                break;
            }
        }
        pending
    }

    /// Asks the kernel to send what is in the ring, which may be nothing; whether the device is there
    /// and up, as far as it says.
    #[inline]
    pub(crate) fn kick(&mut self, mut kick: impl FnMut() -> io::Result<()>) -> bool {
        let Err(error) = kick() else { return true };
        match error.raw_os_error().unwrap_or(0) {
            // 32 have left, or the kernel is short of room: the rings tell.
            libc::EAGAIN | libc::ENOBUFS | libc::EINTR => return true,
            libc::EBUSY => {
                self.counters.refused += 1;
                return true;
            }
            libc::ENETDOWN => self.counters.down += 1,
            // The device was removed, or left the namespace. That unbinds the socket, which can not
            // be bound a second time.
            libc::ENXIO => self.gone = true,
            _ => self.counters.failed += 1,
        }
        false
    }

    /// Frees the frames that have left; returns how many.
    #[inline]
    fn reap(&mut self, pool: &mut Pool) -> u32 {
        let mut completed = 0;
        if self.completion.available(1) == 0 {
            return 0;
        }
        while let Some(chunk) = self.completion.pop() {
            match self.loans.take_back(chunk.0, 0) {
                Ok(frame) => {
                    pool.free(frame);
                    completed += 1;
                }
                Err(_) => self.counters.bad_completions += 1,
            }
        }
        self.completion.release();
        self.completed += u64::from(completed);
        completed
    }

    pub(crate) fn submitted(&self) -> u64 {
        self.submitted
    }

    pub(crate) fn completed(&self) -> u64 {
        self.completed
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(crate) fn lent(&self) -> usize {
        self.loans.outstanding()
    }

    pub(crate) fn counters(&self) -> TxCounters {
        self.counters
    }

    pub(crate) fn give_up(&mut self) -> Loans {
        self.loans.take()
    }
}

#[cfg(test)]
mod tests {
    use weir_frame::{FrameSize, HomeId, Homes, Region};

    use super::*;
    use crate::ring::{Chunk, Consumer, Producer, testing};

    /// The kernel's ends of a sender's rings.
    struct Kernel {
        tx: Consumer<Descriptor>,
        completion: Producer<Chunk>,
        sent: Vec<Descriptor>,
        calls: u32,
    }

    impl Kernel {
        /// Sends up to 32 packets and says EAGAIN if more are left, as veth does.
        fn kick(&mut self) -> io::Result<()> {
            self.calls += 1;
            self.tx.available(33);
            for _ in 0..32 {
                if self.completion.room(1) == 0 {
                    break;
                }
                let Some(descriptor) = self.tx.pop() else { break };
                self.sent.push(descriptor);
                self.completion.push(Chunk(descriptor.address));
            }
            self.tx.release();
            self.completion.publish();
            if self.tx.available(1) > 0 { errno(libc::EAGAIN) } else { Ok(()) }
        }
    }

    fn errno(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    fn bench(frames: u32, slots: u32) -> (Sender, Pool, Kernel) {
        let (region, all) = Region::heap(frames, FrameSize::B2048);
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        pool.adopt(all);
        let (ring, tx) = testing::pair(slots, true);
        let (completion, completed) = testing::pair(slots, false);
        let sender = Sender::new(ring, completed, Loans::new(&region));
        (sender, pool, Kernel { tx, completion, sent: Vec::new(), calls: 0 })
    }

    fn queue(sender: &mut Sender, pool: &mut Pool, packets: usize) {
        for n in 0..packets {
            let mut frame = pool.alloc().unwrap();
            frame.write(&[n as u8; 60]).unwrap();
            sender.send(frame).unwrap();
        }
    }

    #[test]
    fn a_flush_kicks_until_all_have_left_and_frees_them() {
        let (mut sender, mut pool, mut kernel) = bench(256, 128);
        queue(&mut sender, &mut pool, 100);
        assert_eq!((sender.submitted(), sender.completed(), pool.len()), (100, 0, 156));
        assert_eq!(sender.flush(&mut pool, || kernel.kick()), 0);
        assert_eq!((kernel.calls, kernel.sent.len()), (4, 100));
        assert_eq!((sender.completed(), sender.lent(), pool.len()), (100, 0, 256));
        assert_eq!(sender.flush(&mut pool, || kernel.kick()), 0);
        assert_eq!(kernel.calls, 4);
    }

    #[test]
    fn a_full_ring_gives_the_frame_back_until_its_packets_complete() {
        let (mut sender, mut pool, mut kernel) = bench(64, 32);
        queue(&mut sender, &mut pool, 32);
        let mut frame = pool.alloc().unwrap();
        frame.write(&[9; 60]).unwrap();
        let frame = sender.send(frame).unwrap_err();
        assert_eq!(frame.data(), [9; 60]);
        sender.flush(&mut pool, || kernel.kick());
        sender.send(frame).unwrap();
    }

    #[test]
    fn a_frame_shorter_than_an_ethernet_header_is_given_back() {
        let (mut sender, mut pool, _kernel) = bench(4, 4);
        let mut frame = pool.alloc().unwrap();
        frame.write(&[0; 13]).unwrap();
        assert!(sender.send(frame).is_err());
    }

    #[test]
    fn a_kernel_in_which_nothing_moves_does_not_hold_the_worker() {
        let (mut sender, mut pool, mut kernel) = bench(64, 32);
        queue(&mut sender, &mut pool, 10);
        let mut calls = 0;
        let mut stuck = || {
            calls += 1;
            errno(libc::EAGAIN)
        };
        assert_eq!(sender.flush(&mut pool, &mut stuck), 10);
        assert_eq!((calls, sender.counters().stalled), (STALLS_MAX, 1));
        assert_eq!(sender.flush(&mut pool, || kernel.kick()), 0);
    }

    #[test]
    fn a_device_that_is_down_ends_the_flush_at_once() {
        let (mut sender, mut pool, _kernel) = bench(64, 32);
        queue(&mut sender, &mut pool, 10);
        for (error, down, failed) in [(libc::ENETDOWN, 1, 0), (libc::EBADF, 1, 1)] {
            assert_eq!(sender.flush(&mut pool, || errno(error)), 10);
            assert_eq!((sender.counters().down, sender.counters().failed), (down, failed));
        }
    }

    #[test]
    fn a_device_that_is_gone_is_not_asked_again_and_keeps_its_frames() {
        let (mut sender, mut pool, mut kernel) = bench(64, 32);
        queue(&mut sender, &mut pool, 10);
        assert_eq!(sender.flush(&mut pool, || errno(libc::ENXIO)), 10);
        assert!(sender.is_gone());
        assert_eq!(sender.flush(&mut pool, || kernel.kick()), 10);
        assert_eq!((kernel.calls, sender.lent(), pool.len()), (0, 10, 54));
    }

    #[test]
    fn packets_that_the_device_refuses_are_counted_and_freed() {
        let (mut sender, mut pool, mut kernel) = bench(64, 32);
        queue(&mut sender, &mut pool, 3);
        let left = sender.flush(&mut pool, || {
            kernel.tx.available(1);
            let refused = kernel.tx.pop().unwrap();
            kernel.tx.release();
            kernel.completion.room(1);
            kernel.completion.push(Chunk(refused.address));
            kernel.completion.publish();
            errno(libc::EBUSY)
        });
        assert_eq!((left, sender.counters().refused, pool.len()), (0, 3, 64));
    }

    #[test]
    fn a_completion_that_names_no_lent_frame_is_counted_and_not_believed() {
        let (mut sender, mut pool, mut kernel) = bench(64, 32);
        queue(&mut sender, &mut pool, 1);
        sender.flush(&mut pool, || kernel.kick());
        for bogus in [kernel.sent[0].address, u64::MAX] {
            kernel.completion.room(1);
            kernel.completion.push(Chunk(bogus));
        }
        kernel.completion.publish();
        sender.flush(&mut pool, || kernel.kick());
        assert_eq!((sender.counters().bad_completions, sender.completed()), (2, 1));
        assert_eq!(pool.len(), 64);
    }
}
