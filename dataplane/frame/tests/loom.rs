//! The way home of dropped frames, under every interleaving that loom finds.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p weir-frame --release loom`.
#![cfg(loom)]
#![expect(unsafe_code, reason = "loom's cells stand for the bytes of the chunks")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use weir_frame::{Frame, FrameSize, Loans, Region};

/// What loom watches in place of the chunks: two accesses that are not ordered are an error.
struct Chunks(Vec<UnsafeCell<u32>>);

// SAFETY: the test touches a cell only while it has the frame of that index; that this orders
// the accesses is what the model checks.
unsafe impl Sync for Chunks {}
// SAFETY: as for `Sync`.
unsafe impl Send for Chunks {}

impl Chunks {
    fn new(frames: u32) -> Arc<Chunks> {
        Arc::new(Chunks((0..frames).map(|_| UnsafeCell::new(0)).collect()))
    }

    fn touch(&self, frame: &Frame) {
        // SAFETY: the pointer is to a live cell; loom panics if another access may overlap.
        self.0[frame.index() as usize].with_mut(|chunk| unsafe { *chunk += 1 });
    }
}

#[test]
fn loom_frames_dropped_by_two_threads_are_reclaimed_once_each() {
    loom::model(|| {
        let (region, mut frames) = Region::heap(3, FrameSize::B2048);
        let chunks = Chunks::new(3);
        let last = frames.pop().unwrap();
        let droppers: Vec<_> = frames
            .into_iter()
            .map(|frame| {
                let chunks = Arc::clone(&chunks);
                thread::spawn(move || {
                    chunks.touch(&frame);
                    drop(frame);
                })
            })
            .collect();
        chunks.touch(&last);
        drop(last);
        let mut home: Vec<Frame> = region.reclaim().collect();
        home.iter().for_each(|frame| chunks.touch(frame));
        for dropper in droppers {
            dropper.join().unwrap();
        }
        home.extend(region.reclaim());
        home.iter().for_each(|frame| chunks.touch(frame));
        let mut indices: Vec<u32> = home.iter().map(Frame::index).collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2]);
    });
}

#[test]
fn loom_two_takers_and_a_dropper_share_the_frames_out() {
    loom::model(|| {
        let (region, mut frames) = Region::heap(2, FrameSize::B2048);
        let chunks = Chunks::new(2);
        let late = frames.pop().unwrap();
        drop(frames);
        let taker = {
            let (region, chunks) = (region.clone(), Arc::clone(&chunks));
            thread::spawn(move || {
                // Taken and dropped again: the index leaves the stack and returns to it.
                region.reclaim().inspect(|frame| chunks.touch(frame)).count()
            })
        };
        let dropper = {
            let chunks = Arc::clone(&chunks);
            thread::spawn(move || {
                chunks.touch(&late);
                drop(late);
            })
        };
        let mut home: Vec<Frame> = region.reclaim().collect();
        home.iter().for_each(|frame| chunks.touch(frame));
        taker.join().unwrap();
        dropper.join().unwrap();
        home.extend(region.reclaim());
        assert_eq!(home.len(), 2);
        assert_ne!(home[0].index(), home[1].index());
    });
}

#[test]
fn loom_the_last_handle_goes_while_the_last_frame_is_dropped() {
    loom::model(|| {
        let (region, mut frames) = Region::heap(2, FrameSize::B2048);
        let late = frames.pop().unwrap();
        drop(frames);
        let dropper = thread::spawn(move || drop(late));
        drop(region);
        dropper.join().unwrap();
    });
}

#[test]
fn loom_a_frame_passes_between_ledgers_of_two_threads() {
    loom::model(|| {
        let (region, mut frames) = Region::heap(1, FrameSize::B2048);
        let mut first = Loans::new(&region);
        let address = first.lend(frames.pop().unwrap());
        let frame = first.take_back(address, 0).unwrap();
        let mut second = Loans::new(&region);
        let thread = thread::spawn(move || {
            let address = second.lend(frame);
            second.take_back(address, 0).is_ok()
        });
        // Whatever the other thread has done so far, the first ledger no longer has the frame.
        assert!(first.take_back(address, 0).is_err());
        assert!(thread.join().unwrap());
    });
}
