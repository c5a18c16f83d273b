//! The memory of all frames of a process, and the way home for frames that are dropped.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::frame::{Frame, HEADROOM};
use crate::memory::{HugePages, Memory};
use crate::reclaim::{Chain, Stack};
use crate::sync::{AtomicU32, Ordering};

/// A handle to packet memory, cut into equal chunks that one [`Frame`] each owns.
///
/// When the last handle goes, the memory is freed if every frame has come home, and otherwise
/// left to the frames that are still about.
#[derive(Clone, Debug)]
pub struct Region {
    handle: Arc<Handle>,
}

impl Region {
    /// Makes a region of `frames` chunks on the heap, and hands out all its frames.
    ///
    /// # Panics
    /// If `frames` is 0 or the memory cannot be had.
    #[must_use]
    pub fn heap(frames: u32, size: FrameSize) -> (Region, Vec<Frame>) {
        assert!(frames > 0, "a region has at least one frame");
        let bytes = frames as usize * size.bytes();
        Region::over(Memory::heap(bytes), frames, size)
    }

    /// Maps a region of `frames` chunks, aligned to pages and faulted in, as UMEM wants it.
    ///
    /// # Errors
    /// What `mmap` says, or `InvalidInput` if `frames` is 0. Huge pages that cannot be had are
    /// no error: the region then uses normal pages.
    pub fn anonymous(
        frames: u32,
        size: FrameSize,
        huge: HugePages,
    ) -> io::Result<(Region, Vec<Frame>)> {
        let memory = Memory::map(Region::bytes(frames, size)?, huge)?;
        Ok(Region::over(memory, frames, size))
    }

    /// Maps a region of `frames` chunks over what `fd` names, so that the kernel can read packets
    /// where they are: a BPF array, whose memory is zeroed, never shrinks and is written by nobody
    /// else while it is mapped here.
    ///
    /// # Errors
    /// What `mmap` says, or `InvalidInput` if `frames` is 0.
    ///
    /// # Safety
    /// `fd` names at least so many bytes, all initialised, which stay there while they are mapped,
    /// and which nobody else writes.
    pub unsafe fn of_descriptor(
        frames: u32,
        size: FrameSize,
        fd: BorrowedFd<'_>,
    ) -> io::Result<(Region, Vec<Frame>)> {
        let memory = Memory::shared(Region::bytes(frames, size)?, fd)?;
        Ok(Region::over(memory, frames, size))
    }

    fn bytes(frames: u32, size: FrameSize) -> io::Result<usize> {
        if frames == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a region of no frames"));
        }
        Ok(frames as usize * size.bytes())
    }

    /// Number of frames, wherever they are.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.shared().frames
    }

    /// Size of a chunk.
    #[must_use]
    pub fn frame_size(&self) -> FrameSize {
        if self.shared().shift == FrameSize::B2048.shift() {
            FrameSize::B2048
        } else {
            FrameSize::B4096
        }
    }

    /// Start and length in bytes of the memory, as registered for a UMEM.
    #[must_use]
    pub fn area(&self) -> (NonNull<u8>, usize) {
        let shared = self.shared();
        (shared.memory.base(), (shared.frames as usize) << shared.shift)
    }

    /// Takes the frames that were dropped rather than freed, each empty with [`HEADROOM`].
    ///
    /// Those that the caller does not take out of the iterator go back.
    #[must_use]
    pub fn reclaim(&self) -> Reclaimed<'_> {
        Reclaimed { region: self, chain: self.shared().stack.take() }
    }

    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: `Shared` is freed by `Handle::drop` only, and `self` keeps the handle.
        unsafe { self.handle.shared.as_ref() }
    }

    fn over(memory: Memory, frames: u32, size: FrameSize) -> (Region, Vec<Frame>) {
        let shared = NonNull::from(Box::leak(Box::new(Shared {
            memory,
            shift: size.shift(),
            frames,
            owners: (0..frames).map(|_| AtomicU32::new(NOBODY)).collect(),
            ledgers: AtomicU32::new(NOBODY),
            stack: Stack::new(frames),
        })));
        let all = (0..frames)
            // SAFETY: the memory is new, so no frame of it exists; the range gives each index,
            // all below `frames`, once. HEADROOM is less than the smallest chunk.
            .map(|index| unsafe { Frame::from_parts(shared, index, HEADROOM, 0) })
            .collect();
        (Region { handle: Arc::new(Handle { shared }) }, all)
    }
}

/// Size of the chunk behind a frame, in bytes; what the kernel allows for an aligned UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// 2,048 bytes: received frames of up to 1,792.
    B2048,
    /// 4,096 bytes: received frames of up to 3,840.
    B4096,
}

impl FrameSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    const fn shift(self) -> u32 {
        match self {
            FrameSize::B2048 => 11,
            FrameSize::B4096 => 12,
        }
    }
}

/// Iterator of [`Region::reclaim`].
#[derive(Debug)]
pub struct Reclaimed<'a> {
    region: &'a Region,
    chain: Chain,
}

impl Iterator for Reclaimed<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let shared = self.region.shared();
        let index = self.chain.next(&shared.stack)?;
        // SAFETY: `index` was on the stack, where only a frame of this region that ceased to
        // exist puts it, and taking the chain took it off: no other frame has it.
        Some(unsafe { Frame::from_parts(NonNull::from(shared), index, HEADROOM, 0) })
    }
}

impl Drop for Reclaimed<'_> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// What frames and handles point to. Fields that every packet reads come first and are never
/// written after creation; the stack lives on cache lines of its own.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shared {
    memory: Memory,
    pub(crate) shift: u32,
    pub(crate) frames: u32,
    /// The ledger that lent each chunk, or [`NOBODY`]; written by the owner of the frame when it
    /// lends, and by the ledger named there when it takes back.
    pub(crate) owners: Box<[AtomicU32]>,
    ledgers: AtomicU32,
    stack: Stack,
}

/// Owner of a chunk that is not lent.
pub(crate) const NOBODY: u32 = 0;

impl Shared {
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }

    /// The name of a new ledger, never [`NOBODY`] and never given twice.
    pub(crate) fn new_ledger(&self) -> u32 {
        let previous = self.ledgers.fetch_add(1, Ordering::Relaxed);
        previous.checked_add(1).expect("a process opens fewer than 2^32 sockets")
    }

    /// Notes that the frame at `index` ceased to exist. Takes a pointer, since `shared` may be
    /// freed by another thread once the index is on the stack.
    ///
    /// # Safety
    /// `shared` is alive, and the frame at `index` has not come home.
    pub(crate) unsafe fn come_home(shared: NonNull<Shared>, index: u32) {
        // SAFETY: alive, so the field has an address.
        let stack = unsafe { &raw const (*shared.as_ptr()).stack };
        // SAFETY: alive until all frames are home, and this one is not.
        unsafe { Stack::push(stack, index) };
    }
}

// SAFETY: `memory` is the only field that is not `Send` and `Sync` by itself. It is never
// changed, and the bytes behind it are reached only through frames, each of which is alone in
// naming its chunk.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

#[derive(Debug)]
struct Handle {
    shared: NonNull<Shared>,
}

// SAFETY: a handle gives out `&Shared`, which is `Send` and `Sync`, and frees it when it drops.
unsafe impl Send for Handle {}
// SAFETY: as for `Send`.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        let shared = self.shared;
        let home = {
            // SAFETY: only this function frees `Shared`, further down.
            let stack = unsafe { &shared.as_ref().stack };
            let mut chain = stack.take();
            std::iter::from_fn(|| chain.next(stack)).count()
        };
        // SAFETY: as above.
        let frames = unsafe { shared.as_ref() }.frames;
        if home == frames as usize {
            // SAFETY: it came from `Box::leak` in `over`. This is the last handle, and each frame
            // is home: its drop has made its successful push, the last access that it makes, and
            // the acquiring take above happens after it. So nobody can reach it any more.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
        }
        // Else frames are about, in hands or lent to the kernel: they keep the memory for ever.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_frames_are_handed_out_once_and_come_home_when_dropped() {
        let (region, frames) = Region::heap(16, FrameSize::B2048);
        let indices: Vec<u32> = frames.iter().map(Frame::index).collect();
        assert_eq!(indices, (0..16).collect::<Vec<_>>());
        assert_eq!(region.reclaim().count(), 0);
        drop(frames);
        let again: Vec<Frame> = region.reclaim().collect();
        assert_eq!(again.len(), 16);
        assert_eq!(region.reclaim().count(), 0);
    }

    #[test]
    fn a_reclaim_that_is_given_up_loses_nothing() {
        let (region, frames) = Region::heap(8, FrameSize::B2048);
        drop(frames);
        let kept: Vec<Frame> = region.reclaim().take(3).collect();
        assert_eq!(kept.len(), 3);
        assert_eq!(region.reclaim().count(), 5);
    }

    #[test]
    fn frames_outlive_the_last_handle() {
        let (region, mut frames) = Region::heap(2, FrameSize::B2048);
        drop(region);
        frames[1].write(b"still here").unwrap();
        assert_eq!(frames[1].data(), b"still here");
    }

    #[test]
    fn a_mapped_region_is_page_aligned_and_of_the_size_asked_for() {
        for huge in [HugePages::Try, HugePages::Off] {
            let (region, mut frames) = Region::anonymous(3, FrameSize::B4096, huge).unwrap();
            let (base, bytes) = region.area();
            assert_eq!(base.as_ptr() as usize % 4096, 0);
            assert_eq!(bytes, 3 * 4096);
            assert_eq!(region.frame_size(), FrameSize::B4096);
            frames[2].write(&[7; 3840]).unwrap();
            assert_eq!(frames[2].data(), [7; 3840]);
        }
    }

    #[test]
    fn a_mapped_region_of_no_frames_is_refused() {
        let error = Region::anonymous(0, FrameSize::B2048, HugePages::Off).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
