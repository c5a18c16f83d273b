//! The ledger of frames lent to the kernel through one pair of rings.

use std::ptr::NonNull;

use crate::frame::Frame;
use crate::region::{NOBODY, Region};
use crate::sync::Ordering;

/// Says which frames are lent to the kernel, and turns the addresses that it returns into frames
/// again, trusting none of them.
///
/// Dropping a ledger that has frames outstanding gives them up: the kernel may write to them, so
/// they stay lent, and the region is never freed. [`recover`](Loans::recover) them instead.
#[derive(Debug)]
pub struct Loans {
    region: Region,
    /// Marks the chunks of this ledger in the region; no other ledger has the same.
    id: u32,
    outstanding: usize,
}

impl Loans {
    /// Opens an empty ledger for frames of `region`.
    #[must_use]
    pub fn new(region: &Region) -> Loans {
        Loans { region: region.clone(), id: region.shared().new_ledger(), outstanding: 0 }
    }

    /// Lends a frame, and says where in the region's area its data begins.
    ///
    /// # Panics
    /// If the frame is of another region.
    #[inline]
    pub fn lend(&mut self, frame: Frame) -> u64 {
        let shared = self.region.shared();
        assert!(frame.region() == NonNull::from(shared), "a ledger lends frames of its region");
        let head = frame.headroom() as u64;
        let index = frame.into_index();
        // Relaxed: only a holder of the frame writes a name here, and it returns here to be read.
        shared.owners[index as usize].store(self.id, Ordering::Relaxed);
        self.outstanding += 1;
        (u64::from(index) << shared.shift) + head
    }

    /// Takes back the frame at `address`, whose data begins there and is `len` bytes long.
    ///
    /// # Errors
    /// If no such bytes are in a chunk of the region, or this ledger has not lent it.
    #[inline]
    pub fn take_back(&mut self, address: u64, len: u32) -> Result<Frame, BadDescriptor> {
        let shared = self.region.shared();
        let index = address >> shared.shift;
        let Some(owner) = usize::try_from(index).ok().and_then(|i| shared.owners.get(i)) else {
            return Err(BadDescriptor::OutsideRegion { address });
        };
        let size = 1 << shared.shift;
        let head = address & (size - 1);
        if head + u64::from(len) > size {
            return Err(BadDescriptor::CrossesChunk { address, len });
        }
        if owner.load(Ordering::Relaxed) != self.id {
            return Err(BadDescriptor::NotLent { address });
        }
        owner.store(NOBODY, Ordering::Relaxed);
        self.outstanding -= 1;
        // SAFETY: the chunk bears this ledger's id. Only `lend` of this ledger writes it, in
        // exchange for the one frame of the chunk, and this function and `recover` write over it
        // before they make the frame again; by coherence a ledger reads its own last write or a
        // later one, and others write only once they hold the frame. So the frame is lent, and
        // no other exists. `index` is below `frames`, and head + len within the chunk: checked.
        Ok(unsafe {
            Frame::from_parts(NonNull::from(shared), index as u32, head as u16, len as u16)
        })
    }

    /// Number of frames lent.
    #[must_use]
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The region whose frames this ledger lends.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Gives all lent frames to a ledger that is returned, and leaves this one empty.
    #[must_use]
    pub fn take(&mut self) -> Loans {
        let empty = Loans::new(&self.region);
        std::mem::replace(self, empty)
    }

    /// Takes back every lent frame, each empty, once the kernel has let go of them: after its
    /// end of the rings was closed.
    #[must_use]
    pub fn recover(mut self) -> Vec<Frame> {
        let shift = self.region.shared().shift;
        let mut frames = Vec::with_capacity(self.outstanding);
        for index in 0..self.region.frames() {
            let address = (u64::from(index) << shift) + u64::from(crate::HEADROOM);
            if let Ok(frame) = self.take_back(address, 0) {
                frames.push(frame);
            }
        }
        frames
    }
}

/// An address or length from the kernel's end of a ring that names no frame lent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDescriptor {
    /// The address is not in the region.
    #[error("address {address:#x} is outside the region")]
    OutsideRegion {
        /// The address, from the region's start.
        address: u64,
    },
    /// The data would leave its chunk.
    #[error("{len} bytes at address {address:#x} cross a chunk")]
    CrossesChunk {
        /// The address, from the region's start.
        address: u64,
        /// Length of the data in bytes.
        len: u32,
    },
    /// The chunk was not lent by this ledger, or has been taken back.
    #[error("the frame at address {address:#x} is not lent here")]
    NotLent {
        /// The address, from the region's start.
        address: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameSize;

    #[test]
    fn a_lent_frame_returns_with_the_data_that_the_kernel_names() {
        let (region, mut frames) = Region::heap(4, FrameSize::B2048);
        let mut loans = Loans::new(&region);
        let mut frame = frames.pop().unwrap();
        frame.write(b"abcdef").unwrap();
        let address = loans.lend(frame);
        assert_eq!(address, 3 * 2048 + 256);
        assert_eq!(loans.outstanding(), 1);
        let frame = loans.take_back(address + 2, 3).unwrap();
        assert_eq!(frame.data(), b"cde");
        assert_eq!(loans.outstanding(), 0);
    }

    #[test]
    fn what_was_not_lent_here_is_refused() {
        let (region, mut frames) = Region::heap(4, FrameSize::B2048);
        let (mut ours, mut theirs) = (Loans::new(&region), Loans::new(&region));
        let address = ours.lend(frames.pop().unwrap());
        let not_lent = BadDescriptor::NotLent { address };
        assert_eq!(theirs.take_back(address, 0).unwrap_err(), not_lent);
        let crossing = BadDescriptor::CrossesChunk { address, len: 1793 };
        assert_eq!(ours.take_back(address, 1793).unwrap_err(), crossing);
        for outside in [4 * 2048, u64::MAX] {
            let error = BadDescriptor::OutsideRegion { address: outside };
            assert_eq!(ours.take_back(outside, 0).unwrap_err(), error);
        }
        let huge = ours.take_back(address, u32::MAX).unwrap_err();
        assert_eq!(huge, BadDescriptor::CrossesChunk { address, len: u32::MAX });
        drop(ours.take_back(address, 1792).unwrap());
        assert_eq!(ours.take_back(address, 0).unwrap_err(), not_lent);
    }

    #[test]
    #[should_panic(expected = "frames of its region")]
    fn a_frame_of_another_region_is_not_lent() {
        let (region, _frames) = Region::heap(1, FrameSize::B2048);
        let (_other, mut frames) = Region::heap(1, FrameSize::B2048);
        Loans::new(&region).lend(frames.pop().unwrap());
    }

    #[test]
    fn all_lent_frames_are_recovered_and_no_others() {
        let (region, mut frames) = Region::heap(10, FrameSize::B2048);
        let (mut ours, mut theirs) = (Loans::new(&region), Loans::new(&region));
        for frame in frames.drain(..4) {
            ours.lend(frame);
        }
        for frame in frames.drain(..3) {
            theirs.lend(frame);
        }
        let moved = ours.take();
        assert_eq!(ours.outstanding(), 0);
        assert!(ours.recover().is_empty());
        let back = moved.recover();
        assert_eq!(back.iter().map(Frame::index).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(back.iter().all(Frame::is_empty));
        assert_eq!(theirs.recover().len(), 3);
    }
}
