//! The rings between user space and the kernel, as types that cannot be mistaken for each other.
//!
//! A ring is an array of 2^n slots and two running indices: the producer writes slots and then
//! its index, the consumer reads slots and then writes its own. Each end keeps what it last saw
//! of the other's index, so that the shared words are read and written once a burst.

mod memory;

use crate::sync::Ordering;
use crate::sys::Mapping;
use memory::Shared;

/// Ring of received packets: kernel to user.
pub type Rx = Consumer<Descriptor>;
/// Ring of packets to send: user to kernel.
pub type Tx = Producer<Descriptor>;
/// Ring of empty chunks to receive into, by address: user to kernel.
pub type Fill = Producer<Chunk>;
/// Ring of chunks whose packets have left, by address: kernel to user.
pub type Completion = Consumer<Chunk>;

/// A packet in the UMEM (`struct xdp_desc`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Where the data begins, from the start of the UMEM.
    pub address: u64,
    /// Bytes of data.
    pub len: u32,
    /// Flags; 0 for a packet in one piece.
    pub options: u32,
}

/// The address of a chunk, from the start of the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Chunk(pub u64);

/// The end of a ring that writes.
#[derive(Debug)]
pub struct Producer<T> {
    shared: Shared<T>,
    /// Next slot to write; running.
    head: u32,
    /// The consumer's index as last seen: slots before it have been read.
    tail_seen: u32,
}

impl<T: Copy> Producer<T> {
    /// Number of values that can be pushed, looking at the consumer's index only if fewer than
    /// `wanted` are known to fit.
    #[inline]
    pub fn room(&mut self, wanted: u32) -> u32 {
        if self.room_seen() < wanted {
            // Acquire: the consumer's reads of the slots happen before they are written again.
            self.tail_seen = self.shared.consumer().load(Ordering::Acquire);
        }
        self.room_seen()
    }

    /// Writes the next slot; the consumer sees it after [`publish`](Producer::publish).
    ///
    /// # Panics
    /// If [`room`](Producer::room) was not made sure of.
    #[inline]
    pub fn push(&mut self, value: T) {
        assert!(self.room_seen() > 0, "push asks for room first");
        // SAFETY: `head - tail_seen` is below the ring's size, so the slot's last value has been
        // read by the consumer (Acquire in `room`), which stays off the slot until `publish`; and
        // `&mut self` is the only producer.
        self.shared.slot(self.head).with_mut(|slot| unsafe { slot.write(value) });
        self.head = self.head.wrapping_add(1);
    }

    /// Lets the consumer see all values pushed.
    #[inline]
    pub fn publish(&mut self) {
        // Release: the writes of the slots happen before the consumer's reads.
        self.shared.producer().store(self.head, Ordering::Release);
    }

    /// Number of values pushed that the consumer has not read; looks at its index.
    #[inline]
    pub fn pending(&mut self) -> u32 {
        self.tail_seen = self.shared.consumer().load(Ordering::Acquire);
        self.head.wrapping_sub(self.tail_seen)
    }

    /// Whether the kernel asks to be woken by a system call.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Number of slots.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.shared.size
    }

    #[inline]
    fn room_seen(&self) -> u32 {
        // An index of the kernel's that makes no sense leaves no room.
        self.shared.size.saturating_sub(self.head.wrapping_sub(self.tail_seen))
    }
}

/// The end of a ring that reads.
#[derive(Debug)]
pub struct Consumer<T> {
    shared: Shared<T>,
    /// Next slot to read; running.
    tail: u32,
    /// The producer's index as last seen: slots before it have been written.
    head_seen: u32,
}

impl<T: Copy> Consumer<T> {
    /// Number of values to be popped, looking at the producer's index only if fewer than `wanted`
    /// are known.
    #[inline]
    pub fn available(&mut self, wanted: u32) -> u32 {
        if self.available_seen() < wanted {
            // Acquire: the producer's writes of the slots happen before they are read.
            self.head_seen = self.shared.producer().load(Ordering::Acquire);
        }
        self.available_seen()
    }

    /// Reads the next value that [`available`](Consumer::available) has seen, if any.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.available_seen() == 0 {
            return None;
        }
        // SAFETY: the producer has written the slot (Acquire in `available`) and stays off it
        // until `release`; every bit pattern is a `Descriptor` or `Chunk`; `&mut self` is the
        // only consumer.
        let value = self.shared.slot(self.tail).with(|slot| unsafe { slot.read() });
        self.tail = self.tail.wrapping_add(1);
        Some(value)
    }

    /// Lets the producer write again the slots of all values popped.
    #[inline]
    pub fn release(&mut self) {
        // Release: the reads of the slots happen before the producer's writes.
        self.shared.consumer().store(self.tail, Ordering::Release);
    }

    /// Number of slots.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.shared.size
    }

    #[inline]
    fn available_seen(&self) -> u32 {
        let available = self.head_seen.wrapping_sub(self.tail);
        // An index of the kernel's that makes no sense offers nothing.
        if available > self.shared.size { 0 } else { available }
    }
}

/// User space's end of a ring that it writes, in memory mapped from the kernel, new and empty.
pub(crate) fn producer<T: Copy>(
    mapping: Mapping,
    offsets: &libc::xdp_ring_offset,
    size: u32,
) -> Producer<T> {
    Producer { shared: Shared::in_kernel(mapping, offsets, size), head: 0, tail_seen: 0 }
}

/// User space's end of a ring that it reads, in memory mapped from the kernel, new and empty.
pub(crate) fn consumer<T: Copy>(
    mapping: Mapping,
    offsets: &libc::xdp_ring_offset,
    size: u32,
) -> Consumer<T> {
    Consumer { shared: Shared::in_kernel(mapping, offsets, size), tail: 0, head_seen: 0 }
}

/// Rings in plain memory, so that a test can play the kernel's end.
pub mod testing {
    use std::sync::Arc;

    use super::memory::{Plain, Shared};
    use super::{Consumer, Producer};

    /// Makes a ring of `size` slots, a power of two, and returns both ends of it. Its producer
    /// needs wake-up if `wakeup` is set.
    ///
    /// # Panics
    /// If `size` is not a power of two.
    #[must_use]
    pub fn pair<T: Copy + Default>(size: u32, wakeup: bool) -> (Producer<T>, Consumer<T>) {
        pair_at(size, wakeup, 0)
    }

    /// As [`pair`], with both indices at `start`.
    pub(crate) fn pair_at<T: Copy + Default>(
        size: u32,
        wakeup: bool,
        start: u32,
    ) -> (Producer<T>, Consumer<T>) {
        let ring = Arc::new(Plain::new(size, wakeup, start));
        (
            Producer { shared: Shared::in_plain(&ring), head: start, tail_seen: start },
            Consumer { shared: Shared::in_plain(&ring), tail: start, head_seen: start },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{pair, pair_at};
    use super::*;

    #[test]
    fn nothing_is_seen_before_it_is_published_or_overwritten_before_it_is_released() {
        let (mut producer, mut consumer) = pair::<Chunk>(4, false);
        assert_eq!(producer.room(8), 4);
        (0..4).for_each(|n| producer.push(Chunk(n)));
        assert_eq!(consumer.available(1), 0);
        assert_eq!(consumer.pop(), None);
        producer.publish();
        assert_eq!(producer.pending(), 4);
        assert_eq!(consumer.available(1), 4);
        assert_eq!(consumer.pop(), Some(Chunk(0)));
        assert_eq!(producer.room(1), 0);
        consumer.release();
        assert_eq!((producer.pending(), producer.room(1)), (3, 1));
    }

    #[test]
    fn order_is_kept_over_the_wrap_of_the_indices() {
        let mut random = weir_seed::rng();
        let (mut producer, mut consumer) = pair_at::<Chunk>(8, false, u32::MAX - 500);
        let (mut sent, mut received) = (0, 0);
        while received < 2_000 {
            for _ in 0..producer.room(random.u32(..10)).min(random.u32(..10)) {
                producer.push(Chunk(sent));
                sent += 1;
            }
            producer.publish();
            for _ in 0..consumer.available(random.u32(..10)).min(random.u32(..10)) {
                assert_eq!(consumer.pop(), Some(Chunk(received)));
                received += 1;
            }
            consumer.release();
        }
    }

    #[test]
    fn an_index_that_makes_no_sense_offers_nothing() {
        let (mut producer, mut consumer) = pair::<Chunk>(4, false);
        producer.shared.producer().store(77, Ordering::Release);
        assert_eq!(consumer.available(1), 0);
        assert_eq!(consumer.pop(), None);
        consumer.shared.consumer().store(u32::MAX - 9, Ordering::Release);
        assert_eq!(producer.room(5), 0);
    }

    #[test]
    #[should_panic(expected = "room first")]
    fn a_full_ring_is_not_pushed() {
        let (mut producer, _consumer) = pair::<Chunk>(1, false);
        producer.push(Chunk(1));
        producer.push(Chunk(2));
    }
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test -p weir-xdp --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_model {
    use super::testing::pair;
    use super::*;

    #[test]
    fn loom_bursts_arrive_whole_and_in_order_through_a_ring_that_wraps() {
        loom::model(|| {
            let (mut producer, mut kernel) = pair::<Chunk>(2, false);
            let sender = loom::thread::spawn(move || {
                let mut next = 1;
                for _ in 0..3 {
                    for _ in 0..producer.room(2).min(4 - next as u32) {
                        producer.push(Chunk(next));
                        next += 1;
                    }
                    producer.publish();
                    loom::thread::yield_now();
                }
                next
            });
            let mut seen = 1;
            let mut drain = |kernel: &mut Consumer<Chunk>| {
                kernel.available(2);
                while let Some(chunk) = kernel.pop() {
                    assert_eq!(chunk, Chunk(seen));
                    seen += 1;
                }
                kernel.release();
            };
            drain(&mut kernel);
            drain(&mut kernel);
            let sent = sender.join().unwrap();
            drain(&mut kernel);
            assert_eq!(seen, sent);
        });
    }

    #[test]
    fn loom_a_slot_that_is_no_longer_pending_may_be_written_again() {
        loom::model(|| {
            let (mut producer, mut kernel) = pair::<Chunk>(1, false);
            producer.push(Chunk(1));
            producer.publish();
            let sender = loom::thread::spawn(move || {
                if producer.pending() == 0 {
                    producer.push(Chunk(2));
                    producer.publish();
                }
            });
            kernel.available(1);
            assert_eq!(kernel.pop(), Some(Chunk(1)));
            kernel.release();
            sender.join().unwrap();
        });
    }
}
