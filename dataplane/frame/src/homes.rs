//! Which worker each chunk belongs to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::frame::Frame;
use crate::region::Region;

/// Number of partitions of a region: so many workers can have frames at most.
pub const PARTITIONS: usize = 64;

/// The worker to whose free list a frame belongs; below [`PARTITIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HomeId(pub u8);

/// The table that gives each partition of a region's chunks a home; shared by all pools.
#[derive(Clone, Debug)]
pub struct Homes {
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table {
    frames: usize,
    shift: u32,
    /// Written by the thread that adds and removes workers; read by all pools.
    homes: [AtomicU8; PARTITIONS],
}

impl Homes {
    /// Cuts `region` into partitions that all belong to home 0.
    #[must_use]
    pub fn new(region: &Region) -> Homes {
        let partition = region.frames().div_ceil(PARTITIONS as u32).next_power_of_two();
        Homes {
            table: Arc::new(Table {
                frames: region.frames() as usize,
                shift: partition.trailing_zeros(),
                homes: [const { AtomicU8::new(0) }; PARTITIONS],
            }),
        }
    }

    /// Number of partitions that have chunks, 1 to [`PARTITIONS`].
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.table.frames.div_ceil(1 << self.table.shift)
    }

    /// Number of chunks in `partition`.
    #[must_use]
    pub fn partition_len(&self, partition: usize) -> usize {
        let len = 1 << self.table.shift;
        self.table.frames.saturating_sub(partition * len).min(len)
    }

    /// The home of `partition`.
    ///
    /// # Panics
    /// If there is no such partition.
    #[must_use]
    pub fn home_of_partition(&self, partition: usize) -> HomeId {
        HomeId(self.table.homes[partition].load(Ordering::Relaxed))
    }

    /// Gives `partition` to `home`; frames of it go there when they are next freed.
    ///
    /// # Panics
    /// If there is no such partition or home.
    pub fn assign(&self, partition: usize, home: HomeId) {
        assert!(usize::from(home.0) < PARTITIONS, "a home is below {PARTITIONS}");
        self.table.homes[partition].store(home.0, Ordering::Relaxed);
    }

    /// Shares the partitions out to homes 0 to `homes` - 1, as evenly as they go.
    ///
    /// # Panics
    /// If `homes` is 0 or above [`PARTITIONS`].
    pub fn share_out(&self, homes: usize) {
        assert!((1..=PARTITIONS).contains(&homes), "1 to {PARTITIONS} homes");
        let partitions = self.partitions();
        for partition in 0..partitions {
            self.assign(partition, HomeId((partition * homes / partitions) as u8));
        }
    }

    /// The home of `frame`.
    #[must_use]
    #[inline]
    pub fn home(&self, frame: &Frame) -> HomeId {
        let partition = (frame.index() >> self.table.shift) as usize % PARTITIONS;
        HomeId(self.table.homes[partition].load(Ordering::Relaxed))
    }

    /// Number of frames of the region.
    pub(crate) fn frames(&self) -> usize {
        self.table.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameSize;

    #[test]
    fn partitions_cover_every_chunk_once() {
        for frames in [1, 2, 63, 64, 65, 1000, 4096] {
            let (region, all) = Region::heap(frames, FrameSize::B2048);
            let homes = Homes::new(&region);
            assert!((1..=PARTITIONS).contains(&homes.partitions()), "{frames}");
            let sum: usize = (0..PARTITIONS).map(|p| homes.partition_len(p)).sum();
            assert_eq!(sum, frames as usize);
            for partition in 0..homes.partitions() {
                homes.assign(partition, HomeId(partition as u8));
            }
            let mut counted = [0; PARTITIONS];
            for frame in &all {
                counted[usize::from(homes.home(frame).0)] += 1;
            }
            for (partition, counted) in counted.into_iter().enumerate() {
                assert_eq!(counted, homes.partition_len(partition));
            }
        }
    }

    #[test]
    fn frames_are_shared_out_evenly() {
        let (region, all) = Region::heap(4096, FrameSize::B2048);
        let homes = Homes::new(&region);
        homes.share_out(4);
        for home in 0..4 {
            let count = all.iter().filter(|frame| homes.home(frame) == HomeId(home)).count();
            assert_eq!(count, 1024);
        }
    }
}
