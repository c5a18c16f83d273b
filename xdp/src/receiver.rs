//! Receiving: from the rx ring into frames, and frames into the fill ring.

use weir_frame::{Frame, Loans, Pool};

use crate::ring::{Chunk, Fill, Rx};

/// The rx and fill ring of a socket, and the frames lent through them.
///
/// At most as many frames are lent as the fill ring has slots: so the rx ring, which is not
/// smaller, never overflows, and the pool knows what a queue takes.
#[derive(Debug)]
pub(crate) struct Receiver {
    ring: Rx,
    fill: Fill,
    loans: Loans,
    bad_descriptors: u64,
}

impl Receiver {
    pub(crate) fn new(ring: Rx, fill: Fill, loans: Loans) -> Receiver {
        Receiver { ring, fill, loans, bad_descriptors: 0 }
    }

    /// Hands up to `max` packets to `out`; returns how many.
    #[inline]
    pub(crate) fn receive(&mut self, max: usize, mut out: impl FnMut(Frame)) -> usize {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let burst = self.ring.available(max).min(max);
        if burst == 0 {
            return 0;
        }
        let mut packets = 0;
        for descriptor in (0..burst).map_while(|_| self.ring.pop()) {
            match self.loans.take_back(descriptor.address, descriptor.len) {
                Ok(frame) => {
                    out(frame);
                    packets += 1;
                }
                Err(_) => self.bad_descriptors += 1,
            }
        }
        self.ring.release();
        packets
    }

    /// Lends frames of `pool` until the fill ring is stocked; returns how many.
    #[inline]
    pub(crate) fn refill(&mut self, pool: &mut Pool) -> usize {
        let missing = self.fill.size().saturating_sub(self.loans.outstanding() as u32);
        if missing == 0 {
            return 0;
        }
        let wanted = missing.min(self.fill.room(missing));
        let mut lent = 0;
        for frame in (0..wanted).map_while(|_| pool.alloc()) {
            self.fill.push(Chunk(self.loans.lend(frame)));
            lent += 1;
        }
        if lent > 0 {
            self.fill.publish();
        }
        lent
    }

    pub(crate) fn needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    pub(crate) fn lent(&self) -> usize {
        self.loans.outstanding()
    }

    pub(crate) fn bad_descriptors(&self) -> u64 {
        self.bad_descriptors
    }

    pub(crate) fn give_up(&mut self) -> Loans {
        self.loans.take()
    }
}

#[cfg(test)]
mod tests {
    use weir_frame::{FrameSize, HomeId, Homes, Region};

    use super::*;
    use crate::ring::{Consumer, Descriptor, Producer, testing};

    /// A receiver, and the kernel's ends of its rings.
    struct Bench {
        receiver: Receiver,
        pool: Pool,
        rx: Producer<Descriptor>,
        fill: Consumer<Chunk>,
    }

    fn bench(frames: u32, slots: u32) -> Bench {
        let (region, all) = Region::heap(frames, FrameSize::B2048);
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        pool.adopt(all);
        let (rx, ring) = testing::pair(slots, false);
        let (fill_end, fill) = testing::pair(slots, false);
        Bench { receiver: Receiver::new(ring, fill_end, Loans::new(&region)), pool, rx, fill }
    }

    impl Bench {
        /// Receives a packet of `len` bytes, as the kernel does.
        fn arrive(&mut self, len: u32) {
            assert!(self.fill.available(1) > 0);
            let Chunk(address) = self.fill.pop().unwrap();
            self.fill.release();
            self.send_up(address, len);
        }

        fn send_up(&mut self, address: u64, len: u32) {
            assert!(self.rx.room(1) > 0);
            self.rx.push(Descriptor { address, len, options: 0 });
            self.rx.publish();
        }

        fn receive(&mut self, max: usize) -> Vec<Frame> {
            let mut out = Vec::new();
            self.receiver.receive(max, |frame| out.push(frame));
            out
        }
    }

    #[test]
    fn packets_come_up_in_order_and_no_more_than_asked_for() {
        let mut bench = bench(64, 16);
        assert_eq!(bench.receiver.refill(&mut bench.pool), 16);
        (0..10).for_each(|n| bench.arrive(60 + n));
        let lens: Vec<usize> = bench.receive(4).iter().map(Frame::len).collect();
        assert_eq!(lens, [60, 61, 62, 63]);
        assert_eq!(bench.receive(32).len(), 6);
        assert_eq!(bench.receive(32).len(), 0);
    }

    #[test]
    fn no_more_is_lent_than_the_fill_ring_holds() {
        let mut bench = bench(64, 16);
        bench.receiver.refill(&mut bench.pool);
        (0..10).for_each(|_| bench.arrive(60));
        assert_eq!(bench.receiver.refill(&mut bench.pool), 0);
        let received = bench.receive(3);
        assert_eq!(bench.receiver.refill(&mut bench.pool), 3);
        assert_eq!(bench.receiver.lent(), 16);
        assert_eq!(bench.pool.len() + received.len() + 16, 64);
    }

    #[test]
    fn an_empty_pool_stocks_what_it_can() {
        let mut bench = bench(10, 16);
        assert_eq!(bench.receiver.refill(&mut bench.pool), 10);
        assert_eq!(bench.receiver.refill(&mut bench.pool), 0);
        assert_eq!(bench.fill.available(16), 10);
    }

    #[test]
    fn a_descriptor_that_names_no_lent_frame_is_counted_and_not_believed() {
        let mut bench = bench(64, 16);
        bench.receiver.refill(&mut bench.pool);
        bench.send_up(u64::MAX, 60);
        bench.send_up(0, 60);
        bench.arrive(1793);
        bench.arrive(1792);
        assert_eq!(bench.receive(32).len(), 1);
        assert_eq!(bench.receiver.bad_descriptors(), 3);
    }
}
