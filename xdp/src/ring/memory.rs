//! The memory of a ring: mapped from the kernel, or plain.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::{AtomicU32, Slot};
use crate::sys::Mapping;

/// Where the parts of a ring are, and what keeps them there.
#[derive(Debug)]
pub(super) struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    slots: NonNull<Slot<T>>,
    /// A power of two.
    pub(super) size: u32,
    _memory: Memory<T>,
}

#[derive(Debug)]
enum Memory<T> {
    Kernel { _mapping: Mapping },
    Plain { _ring: Arc<Plain<T>> },
}

// SAFETY: the pointers lead into `_memory`, which is owned or shared by count. The words are
// atomics; a slot belongs to one end at a time, as `push` and `pop` prove; T is plain data.
unsafe impl<T: Copy + Send> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn producer(&self) -> &AtomicU32 {
        // SAFETY: it points into `_memory`, which lives as long as `self`, at an aligned word
        // that both ends access atomically only.
        unsafe { self.producer.as_ref() }
    }

    pub(super) fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.consumer.as_ref() }
    }

    pub(super) fn flags(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.flags.as_ref() }
    }

    pub(super) fn slot(&self, index: u32) -> &Slot<T> {
        let index = index & (self.size - 1);
        // SAFETY: `slots` points to `size` slots within `_memory`; the mask keeps `index` below.
        let slot = unsafe { self.slots.add(index as usize) };
        // SAFETY: the slot lives as long as `self`, and a cell may be shared.
        unsafe { slot.as_ref() }
    }

    pub(super) fn in_kernel(
        mapping: Mapping,
        offsets: &libc::xdp_ring_offset,
        size: u32,
    ) -> Shared<T> {
        assert!(size.is_power_of_two(), "the kernel takes no other size");
        let bytes = offsets.desc as usize + size as usize * size_of::<T>();
        assert!(bytes <= mapping.len(), "the ring is mapped whole");
        let at = |offset: u64| {
            assert!(offset as usize + size_of::<u32>() <= mapping.len(), "within the mapping");
            // SAFETY: the offset is within the mapping: asserted.
            unsafe { mapping.start().add(offset as usize) }
        };
        let (producer, consumer) = (at(offsets.producer).cast(), at(offsets.consumer).cast());
        let (flags, slots) = (at(offsets.flags).cast(), at(offsets.desc).cast());
        let aligned = [producer, consumer, flags].iter().all(|word| word.is_aligned());
        assert!(aligned && slots.cast::<T>().is_aligned(), "the kernel aligns rings");
        Shared {
            producer,
            consumer,
            flags,
            slots,
            size,
            _memory: Memory::Kernel { _mapping: mapping },
        }
    }

    pub(super) fn in_plain(ring: &Arc<Plain<T>>) -> Shared<T> {
        Shared {
            producer: NonNull::from(&ring.producer),
            consumer: NonNull::from(&ring.consumer),
            flags: NonNull::from(&ring.flags),
            slots: NonNull::from(&*ring.slots).cast(),
            size: ring.slots.len() as u32,
            _memory: Memory::Plain { _ring: Arc::clone(ring) },
        }
    }
}

/// A ring in plain memory.
#[derive(Debug)]
pub(super) struct Plain<T> {
    producer: AtomicU32,
    consumer: AtomicU32,
    flags: AtomicU32,
    slots: Box<[Slot<T>]>,
}

impl<T: Default> Plain<T> {
    /// An empty ring of `size` slots, a power of two, with both indices at `start`.
    pub(super) fn new(size: u32, wakeup: bool, start: u32) -> Plain<T> {
        assert!(size.is_power_of_two(), "the size of a ring is a power of two");
        Plain {
            producer: AtomicU32::new(start),
            consumer: AtomicU32::new(start),
            flags: AtomicU32::new(if wakeup { libc::XDP_RING_NEED_WAKEUP } else { 0 }),
            slots: (0..size).map(|_| Slot::new(T::default())).collect(),
        }
    }
}
