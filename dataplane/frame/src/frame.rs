//! The packet buffer.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::prefetch::prefetch_line;
use crate::region::Shared;

/// Bytes in front of the data of an empty frame: where the kernel puts what AF_XDP receives.
pub const HEADROOM: u16 = 256;

/// One packet: the only owner of one chunk of a region, and where in it the data lies.
///
/// 16 bytes, passed by value. A frame that is dropped comes home to its region
/// ([`Region::reclaim`](crate::Region::reclaim)); [`Pool::free`](crate::Pool::free) is the fast
/// way.
pub struct Frame {
    region: NonNull<Shared>,
    index: u32,
    /// Invariant: `head + len` is at most the chunk's size.
    head: u16,
    len: u16,
}

// SAFETY: a frame is the only way to the bytes of its chunk, `&Frame` only reads them, and what
// it points to is `Sync` and lives as long as the frame does not come home.
unsafe impl Send for Frame {}
// SAFETY: as for `Send`.
unsafe impl Sync for Frame {}

impl Frame {
    /// Makes the frame of a chunk that has none.
    ///
    /// # Safety
    /// `region` is alive, `index` is one of its chunks, no other frame of that chunk exists nor
    /// will while this one does, and `head + len` is at most the chunk's size.
    pub(crate) unsafe fn from_parts(
        region: NonNull<Shared>,
        index: u32,
        head: u16,
        len: u16,
    ) -> Frame {
        Frame { region, index, head, len }
    }

    /// Number of the chunk within its region, from 0.
    #[must_use]
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Where the packet begins, in bytes from the start of the region's area.
    #[must_use]
    #[inline]
    pub fn offset(&self) -> usize {
        self.index as usize * self.size() + self.headroom()
    }

    /// The packet.
    #[must_use]
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: `head + len` bytes from the chunk's start are within the chunk (invariant),
        // which is initialised (zeroed when mapped), alive while this frame is, and written
        // through this frame only, which is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(), usize::from(self.len)) }
    }

    /// The packet, to be changed in place.
    #[must_use]
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `data`; the frame is borrowed mutably, and no other names the chunk.
        unsafe { std::slice::from_raw_parts_mut(self.start(), usize::from(self.len)) }
    }

    /// Length of the packet in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the frame holds no packet.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes free in front of the packet.
    #[must_use]
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.head)
    }

    /// Bytes free behind the packet.
    #[must_use]
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.size() - self.headroom() - self.len()
    }

    /// Cuts or extends the packet at its end; bytes gained have any value.
    ///
    /// # Errors
    /// If the chunk ends before.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Result<(), NoRoom> {
        let room = self.size() - self.headroom();
        self.len = NoRoom::check(len, room)?;
        Ok(())
    }

    /// Extends the packet by `n` bytes in front, of any value.
    ///
    /// # Errors
    /// If the headroom is shorter.
    #[inline]
    pub fn push_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let n = NoRoom::check(n, self.headroom())?;
        self.head -= n;
        self.len += n;
        Ok(())
    }

    /// Takes `n` bytes off the packet's front.
    ///
    /// # Errors
    /// If the packet is shorter.
    #[inline]
    pub fn pull_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let n = NoRoom::check(n, self.len())?;
        self.head += n;
        self.len -= n;
        Ok(())
    }

    /// Empties the frame, with `headroom` bytes in front of the next contents (at most the
    /// chunk's size).
    #[inline]
    pub fn reset(&mut self, headroom: u16) {
        self.head = headroom.min(self.size() as u16);
        self.len = 0;
    }

    /// Replaces the packet by `packet`; the headroom stays.
    ///
    /// # Errors
    /// If the chunk ends before; the frame is then as it was.
    pub fn write(&mut self, packet: &[u8]) -> Result<(), NoRoom> {
        self.set_len(packet.len())?;
        self.data_mut().copy_from_slice(packet);
        Ok(())
    }

    /// Asks the processor for the first cache line of the packet.
    #[inline]
    pub fn prefetch(&self) {
        prefetch_line(self.start());
    }

    /// Gives up the frame without its coming home, for a ledger that answers for the chunk.
    pub(crate) fn into_index(self) -> u32 {
        ManuallyDrop::new(self).index
    }

    pub(crate) fn region(&self) -> NonNull<Shared> {
        self.region
    }

    fn shared(&self) -> &Shared {
        // SAFETY: a region frees itself only when all its frames have come home; this has not.
        unsafe { self.region.as_ref() }
    }

    fn size(&self) -> usize {
        1 << self.shared().shift
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        let shared = self.shared();
        let offset = ((self.index as usize) << shared.shift) + usize::from(self.head);
        // SAFETY: the chunk `index` is within the region, and `head` within the chunk or at its
        // end, so the sum stays within the allocation or at its end.
        unsafe { shared.base().as_ptr().add(offset) }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: the region is alive while a frame of it is not home, and this is the one frame
        // of its chunk, which ceases to exist here.
        unsafe { Shared::come_home(self.region, self.index) };
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Frame")
            .field("index", &self.index)
            .field("head", &self.head)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The frame has fewer bytes than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes wanted, and the frame has room for {room}")]
pub struct NoRoom {
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes there are.
    pub room: usize,
}

impl NoRoom {
    #[inline]
    fn check(wanted: usize, room: usize) -> Result<u16, NoRoom> {
        if wanted > room {
            return Err(NoRoom { wanted, room });
        }
        // No chunk is longer than 4,096 bytes, so what fits in one fits in 16 bits.
        Ok(wanted as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameSize, Region};

    #[test]
    fn a_frame_is_16_bytes_and_so_is_an_optional_one() {
        assert_eq!(size_of::<Frame>(), 16);
        assert_eq!(size_of::<Option<Frame>>(), 16);
    }

    #[test]
    fn headers_are_pushed_and_pulled_without_moving_the_packet() {
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        let frame = &mut frames[0];
        frame.write(b"payload").unwrap();
        frame.push_front(4).unwrap();
        frame.data_mut()[..4].copy_from_slice(b"head");
        assert_eq!(frame.data(), b"headpayload");
        assert_eq!(frame.headroom(), 252);
        frame.pull_front(4).unwrap();
        assert_eq!(frame.data(), b"payload");
        assert_eq!(frame.tailroom(), 2048 - 256 - 7);
    }

    #[test]
    fn no_operation_leaves_the_chunk() {
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        let frame = &mut frames[0];
        assert_eq!(frame.set_len(1793), Err(NoRoom { wanted: 1793, room: 1792 }));
        assert_eq!(frame.push_front(257), Err(NoRoom { wanted: 257, room: 256 }));
        assert_eq!(frame.pull_front(1), Err(NoRoom { wanted: 1, room: 0 }));
        frame.reset(u16::MAX);
        assert_eq!((frame.headroom(), frame.len(), frame.tailroom()), (2048, 0, 0));
    }

    #[test]
    fn frames_do_not_overlap_under_random_edits() {
        let mut random = weir_seed::rng();
        let (_region, mut frames) = Region::heap(8, FrameSize::B2048);
        let mut model = vec![Vec::new(); frames.len()];
        for _ in 0..5_000 {
            let which = random.usize(..frames.len());
            let (frame, expected) = (&mut frames[which], &mut model[which]);
            let n = random.usize(..300);
            match random.u8(..4) {
                0 => {
                    let packet: Vec<u8> = (0..n).map(|_| random.u8(..)).collect();
                    if frame.write(&packet).is_ok() {
                        *expected = packet;
                    }
                }
                1 if frame.push_front(n).is_ok() => {
                    frame.data_mut()[..n].fill(which as u8);
                    expected.splice(..0, std::iter::repeat_n(which as u8, n));
                }
                2 if frame.pull_front(n).is_ok() => drop(expected.drain(..n)),
                3 if n <= expected.len() => {
                    frame.set_len(n).unwrap();
                    expected.truncate(n);
                }
                _ => {}
            }
            for (frame, expected) in frames.iter().zip(&model) {
                assert_eq!(frame.data(), expected.as_slice());
            }
        }
    }
}
