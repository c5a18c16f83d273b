//! Frames counted by place: whatever is done with them, their number is the region's size.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::thread;

use weir_frame::{BadDescriptor, Frame, FrameSize, HomeId, Homes, Loans, Pool, Region};

const FRAMES: u32 = 256;
const WORKERS: usize = 3;

#[test]
fn the_sum_of_frames_by_place_is_the_size_of_the_region() {
    let mut places = Places::new(weir_seed::rng());
    for step in 0..20_000 {
        places.step();
        assert_eq!(places.count(), FRAMES as usize, "after step {step}");
    }
    let indices = places.collect();
    assert_eq!(indices.len(), FRAMES as usize);
    assert_eq!(indices.into_iter().collect::<HashSet<_>>().len(), FRAMES as usize);
}

#[test]
fn frames_dropped_by_many_threads_all_come_home() {
    let (region, mut frames) = Region::heap(4 * 1000, FrameSize::B2048);
    let parts: Vec<Vec<Frame>> = (0..4).map(|_| frames.split_off(frames.len() - 1000)).collect();
    let mut home: Vec<Frame> = thread::scope(|scope| {
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| drop(part))).collect();
        let mut early: Vec<Frame> = region.reclaim().collect();
        for thread in threads {
            thread.join().unwrap();
        }
        early.extend(region.reclaim());
        early
    });
    home.sort_by_key(Frame::index);
    assert_eq!(home.iter().map(Frame::index).collect::<Vec<_>>(), (0..4000).collect::<Vec<_>>());
}

/// Everywhere that a frame can be.
struct Places {
    random: fastrand::Rng,
    region: Region,
    pools: Vec<Pool>,
    homes: Homes,
    loans: Vec<(Loans, Vec<u64>)>,
    held: Vec<Frame>,
    dropped: usize,
}

impl Places {
    fn new(random: fastrand::Rng) -> Places {
        let (region, frames) = Region::heap(FRAMES, FrameSize::B2048);
        let homes = Homes::new(&region);
        homes.share_out(WORKERS);
        let mut pools: Vec<Pool> =
            (0..WORKERS).map(|home| Pool::new(HomeId(home as u8), &homes)).collect();
        pools[0].adopt(frames);
        let loans = (0..WORKERS).map(|_| (Loans::new(&region), Vec::new())).collect();
        Places { random, region, pools, homes, loans, held: Vec::new(), dropped: 0 }
    }

    fn step(&mut self) {
        let worker = self.random.usize(..WORKERS);
        let other = self.random.usize(..WORKERS);
        let pool = &mut self.pools[worker];
        let (loans, addresses) = &mut self.loans[worker];
        match self.random.u8(..9) {
            0 => self.held.extend(pool.alloc()),
            1 => self.held.pop().into_iter().for_each(|frame| pool.free(frame)),
            2 => addresses.extend(pool.alloc().map(|frame| loans.lend(frame))),
            3 if !addresses.is_empty() => {
                let address = addresses.swap_remove(self.random.usize(..addresses.len()));
                let len = self.random.u32(..1792);
                let frame = loans.take_back(address, len).unwrap();
                assert_eq!(frame.len(), len as usize);
                let twice = loans.take_back(address, 0).unwrap_err();
                assert_eq!(twice, BadDescriptor::NotLent { address });
                pool.free(frame);
            }
            4 => {
                let max = self.random.usize(..20);
                let batch: Vec<Frame> = pool.take_away(HomeId(other as u8), max).collect();
                self.pools[other].adopt(batch);
            }
            5 => self.dropped += self.held.pop().map_or(0, |_| 1),
            6 => {
                let before = pool.len() + pool.away_len();
                pool.adopt(self.region.reclaim());
                self.dropped -= pool.len() + pool.away_len() - before;
            }
            7 if self.random.u8(..50) == 0 => {
                addresses.clear();
                pool.adopt(loans.take().recover());
            }
            _ if self.random.u8(..50) == 0 => {
                let partition = self.random.usize(..self.homes.partitions());
                self.homes.assign(partition, HomeId(other as u8));
            }
            // The kernel names an address at random.
            _ => {
                let address = self.random.u64(..u64::from(FRAMES) * 4096);
                if let Ok(frame) = loans.take_back(address, 0) {
                    addresses.retain(|lent| lent >> 11 != address >> 11);
                    self.held.push(frame);
                }
            }
        }
    }

    fn count(&self) -> usize {
        let pools: usize = self.pools.iter().map(|pool| pool.len() + pool.away_len()).sum();
        let lent: usize = self.loans.iter().map(|(loans, _)| loans.outstanding()).sum();
        pools + lent + self.held.len() + self.dropped
    }

    fn collect(mut self) -> Vec<u32> {
        let mut all = self.held;
        all.extend(self.region.reclaim());
        for (loans, _) in self.loans {
            all.extend(loans.recover());
        }
        for pool in &mut self.pools {
            all.extend(pool.take_free());
            for home in 0..WORKERS {
                all.extend(pool.take_away(HomeId(home as u8), usize::MAX));
            }
        }
        all.iter().map(Frame::index).collect()
    }
}
