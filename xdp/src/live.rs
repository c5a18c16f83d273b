//! The way out by live frames: the kernel runs our program on frames of its own, which the program
//! fills with packets of ours and sends to the device.
//!
//! On devices where AF_XDP copies, bursts of more than some 16 packets cost less than by the socket, long
//! ones less than half; a single packet costs ten times as much. A run ends when its frames are with the device,
//! so that packets are free again at once.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use libbpf_rs::libbpf_sys as sys_bpf;
use libbpf_rs::{MapHandle, MapType};
use weir_frame::{Frame, FrameSize, Region};

use crate::sender::SHORTEST;
use crate::sys::{self, Mapping};

/// Most packets of a run: the other end of a veth has room for 256, and has to come round to them.
pub(crate) const RUN_MAX: usize = 128;
/// Longest packet, in bytes with its Ethernet header, that a frame of the kernel takes.
pub(crate) const LONGEST: usize = 3408;
/// Most bytes of metadata of a frame, which tell the program its queue.
const META_MAX: usize = 4 * 63;
/// Bytes that the program may look at behind the last frame.
const BEHIND: usize = 4096;
/// Most bytes of packet memory that the program reaches: twice its `STRIDE`.
const BYTES_MAX: usize = 2 * ((1 << 29) - 4096);

/// Packet memory that the programs of live frames can read.
#[derive(Debug)]
pub struct LiveMemory {
    map: MapHandle,
    region: Region,
}

impl LiveMemory {
    /// Makes packet memory of `frames` chunks in normal pages, and hands out all its frames.
    ///
    /// # Errors
    /// `InvalidInput` for none, or for 1 GiB and more; else what the kernel says.
    pub fn new(frames: u32, size: FrameSize) -> io::Result<(LiveMemory, Vec<Frame>)> {
        sys::raise_memlock();
        let bytes = frames as usize * size.bytes();
        if bytes > BYTES_MAX {
            let reason = "live frames need packet memory of less than 1 GiB";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let options = sys_bpf::bpf_map_create_opts {
            sz: size_of::<sys_bpf::bpf_map_create_opts>() as _,
            map_flags: sys_bpf::BPF_F_MMAPABLE,
            ..Default::default()
        };
        let value = (bytes + BEHIND) as u32;
        let map = MapHandle::create(MapType::Array, Some("memory"), 4, value, 1, &options)
            .map_err(io::Error::other)?;
        // SAFETY: the map was made here, is of more bytes than those of the frames, zeroed, and can
        // not shrink. Programs of ours read it, nobody writes it but through this mapping.
        let (region, all) = unsafe { Region::of_descriptor(frames, size, map.as_fd()) }?;
        Ok((LiveMemory { map, region }, all))
    }

    /// The region of the frames.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Bytes of all frames.
    pub(crate) fn bytes(&self) -> u32 {
        self.region.area().1 as u32
    }

    pub(crate) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// Words of the page where a run finds its packets, `struct ring` of `live.bpf.c`: which of them is next,
/// how many have been sent, and where each begins and how long it is.
const WORDS: usize = 1024;
const NEXT: usize = 0;
const SENT: usize = 1;
const PACKETS: usize = 2;

/// What a run has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Packets from the first on that the program has had.
    pub(crate) tried: usize,
    /// Those of them that have gone to the device: all, but for a bug.
    pub(crate) sent: usize,
}

/// The way out of one transmit queue by live frames, for [`Tx::set_live`](crate::Tx::set_live).
pub struct LiveTx {
    program: Arc<OwnedFd>,
    /// The page of [`WORDS`].
    ring: Mapping,
    queue: u32,
    open: Arc<AtomicBool>,
}

impl LiveTx {
    /// Longest packet that leaves as a live frame, in bytes with its Ethernet header.
    pub const LONGEST: usize = LONGEST;

    /// The way out of a queue; `rings` is the array that the program reads.
    pub(crate) fn new(
        program: Arc<OwnedFd>,
        rings: BorrowedFd<'_>,
        queue: u32,
        open: Arc<AtomicBool>,
    ) -> io::Result<LiveTx> {
        if 4 * queue as usize > META_MAX {
            let reason = "live frames leave by at most 64 queues";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let page = WORDS * size_of::<AtomicU32>();
        let ring = Mapping::ring(rings, page, u64::from(queue) * page as u64)?;
        Ok(LiveTx { program, ring, queue, open })
    }

    /// Whether the device takes live frames, as was last seen.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Sends packets, [`RUN_MAX`] at most, of [`SHORTEST`] to [`LONGEST`] bytes, to the device. Whether
    /// that takes them is not told here.
    ///
    /// # Errors
    /// What the kernel says; no packet has left then.
    pub(crate) fn run(&mut self, frames: &[Frame]) -> io::Result<Run> {
        let count = frames.len().min(RUN_MAX);
        let words = self.words();
        for (packet, frame) in words[PACKETS..].chunks_exact(2).zip(&frames[..count]) {
            packet[0].store(frame.offset() as u32, Ordering::Relaxed);
            packet[1].store(frame.len() as u32, Ordering::Relaxed);
        }
        words[NEXT].store(0, Ordering::Relaxed);
        words[SENT].store(0, Ordering::Relaxed);
        let begin = [0_u8; META_MAX + SHORTEST];
        let (meta, end) = (4 * self.queue, 4 * self.queue + SHORTEST as u32);
        let context = sys_bpf::xdp_md { data: meta, data_end: end, ..Default::default() };
        let mut options = sys_bpf::bpf_test_run_opts {
            sz: size_of::<sys_bpf::bpf_test_run_opts>() as _,
            data_in: begin.as_ptr().cast(),
            data_size_in: end,
            ctx_in: ptr::from_ref(&context).cast(),
            ctx_size_in: size_of_val(&context) as u32,
            repeat: count as i32,
            flags: sys_bpf::BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: count as u32,
            ..Default::default()
        };
        // SAFETY: the options name their size, and bytes and a structure that live for the time of the
        // call. Of the bytes, `end` are within the array: `new` bounds the queue.
        let answer =
            unsafe { sys_bpf::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut options) };
        let [tried, sent] = [NEXT, SENT].map(|word| words[word].load(Ordering::Relaxed) as usize);
        match (answer, tried) {
            (error @ ..0, 0) => Err(io::Error::from_raw_os_error(-error)),
            // The kernel may have had no memory for the rest.
            _ => Ok(Run { tried: tried.min(count), sent: sent.min(tried).min(count) }),
        }
    }

    fn words(&self) -> &[AtomicU32; WORDS] {
        // SAFETY: the mapping is of a page, aligned to one, and lives as long as `self`. Others access
        // it by whole words only: the program, during a run.
        unsafe { self.ring.start().cast().as_ref() }
    }
}

impl fmt::Debug for LiveTx {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LiveTx").field("queue", &self.queue).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_than_the_program_reaches_is_refused_before_any_is_taken() {
        for (frames, size) in [(1 << 19, FrameSize::B2048), (1 << 18, FrameSize::B4096)] {
            let error = LiveMemory::new(frames, size).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("less than 1 GiB"), "{error}");
        }
    }
}
