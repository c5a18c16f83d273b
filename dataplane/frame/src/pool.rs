//! A worker's free list.

use std::vec::Drain;

use crate::frame::{Frame, HEADROOM};
use crate::homes::{HomeId, Homes, PARTITIONS};

/// Free frames of one worker, and those of other workers on their way home.
///
/// Allocates memory when it is made; afterwards only while the frames on their way to one worker
/// are more than ever before.
#[derive(Debug)]
pub struct Pool {
    home: HomeId,
    homes: Homes,
    free: Vec<Frame>,
    away: Box<[Vec<Frame>; PARTITIONS]>,
    /// Bit `h` is set if `away[h]` has frames.
    away_homes: u64,
}

/// Frames on their way to one worker that need no memory to be allocated.
const AWAY_USUAL: usize = 256;

impl Pool {
    /// Makes the empty pool of the worker `home`.
    ///
    /// # Panics
    /// If `home` is not below [`PARTITIONS`].
    #[must_use]
    pub fn new(home: HomeId, homes: &Homes) -> Pool {
        assert!(usize::from(home.0) < PARTITIONS, "a home is below {PARTITIONS}");
        Pool {
            home,
            homes: homes.clone(),
            free: Vec::with_capacity(homes.frames()),
            away: Box::new(std::array::from_fn(|_| Vec::with_capacity(AWAY_USUAL))),
            away_homes: 0,
        }
    }

    /// Takes a free frame, empty and with [`HEADROOM`], if there is one.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    /// Empties a frame and puts it on the free list, or with those on their way to its home.
    #[inline]
    pub fn free(&mut self, mut frame: Frame) {
        frame.reset(HEADROOM);
        let home = self.homes.home(&frame);
        if home == self.home {
            self.free.push(frame);
        } else {
            self.away[usize::from(home.0)].push(frame);
            self.away_homes |= 1 << home.0;
        }
    }

    /// Frees each of `frames`: what comes in from other workers, or is handed out at the start.
    pub fn adopt(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            self.free(frame);
        }
    }

    /// Takes up to `max` frames on their way to `home`, for the ring to that worker.
    ///
    /// Frames left in the iterator are dropped; ask for no more than the ring takes.
    ///
    /// # Panics
    /// If `home` is not below [`PARTITIONS`].
    pub fn take_away(&mut self, home: HomeId, max: usize) -> Drain<'_, Frame> {
        let away = &mut self.away[usize::from(home.0)];
        let rest = away.len().saturating_sub(max);
        if rest == 0 {
            self.away_homes &= !(1 << home.0);
        }
        away.drain(rest..)
    }

    /// Takes every free frame, to give them to others when the worker goes.
    pub fn take_free(&mut self) -> Drain<'_, Frame> {
        self.free.drain(..)
    }

    /// The homes for which frames wait in this pool.
    pub fn away_homes(&self) -> impl Iterator<Item = HomeId> + use<> {
        let mut rest = self.away_homes;
        std::iter::from_fn(move || {
            let home = rest.trailing_zeros();
            rest &= rest.checked_sub(1)?;
            Some(HomeId(home as u8))
        })
    }

    /// Number of frames on their way to other workers.
    #[must_use]
    pub fn away_len(&self) -> usize {
        self.away_homes().map(|home| self.away[usize::from(home.0)].len()).sum()
    }

    /// Number of free frames.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whether no frame is free.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// The worker whose pool this is.
    #[must_use]
    pub fn home(&self) -> HomeId {
        self.home
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameSize, Region};

    #[test]
    fn a_foreign_frame_goes_home_by_the_batch() {
        let (region, frames) = Region::heap(128, FrameSize::B2048);
        let homes = Homes::new(&region);
        homes.share_out(2);
        let mut pools = [Pool::new(HomeId(0), &homes), Pool::new(HomeId(1), &homes)];
        let [here, there] = &mut pools;
        here.adopt(frames);
        assert_eq!((here.len(), here.away_len()), (64, 64));
        assert_eq!(here.away_homes().collect::<Vec<_>>(), [HomeId(1)]);
        there.adopt(here.take_away(HomeId(1), 10));
        assert_eq!((here.away_len(), there.len()), (54, 10));
        there.adopt(here.take_away(HomeId(1), 100));
        assert_eq!((here.away_len(), there.len()), (0, 64));
        assert_eq!(here.away_homes().count(), 0);
    }

    #[test]
    fn a_freed_frame_is_empty_when_it_is_allocated_again() {
        let (region, mut frames) = Region::heap(1, FrameSize::B2048);
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        let mut frame = frames.pop().unwrap();
        frame.write(b"old").unwrap();
        frame.push_front(20).unwrap();
        pool.free(frame);
        let frame = pool.alloc().unwrap();
        assert_eq!((frame.len(), frame.headroom()), (0, usize::from(HEADROOM)));
        assert!(pool.alloc().is_none());
    }
}
