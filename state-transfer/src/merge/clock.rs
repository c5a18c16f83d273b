//! Hybrid logical clocks (Kulkarni et al., 2014): stamps that agree with cause and effect, and
//! nearly with the time.

use super::Replica;
use crate::time::Nanos;

/// The latest time that a clock takes over from a stamp: no process runs for 292 years. What is later was
/// made by no clock, and would leave no room for later ones.
const TAKEN_OVER_MAX: Nanos = Nanos(1 << 63);

/// When something was done. No two are the same: the replica decides between equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The latest time that the replica knew of.
    pub time: Nanos,
    /// Which of those that it made at that time.
    pub count: u32,
    /// Who made it.
    pub replica: Replica,
}

/// Makes the stamps of one replica.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    replica: Replica,
    time: Nanos,
    count: u32,
}

impl Clock {
    /// The clock of a replica.
    pub fn new(replica: Replica) -> Self {
        Self { replica, time: Nanos(0), count: 0 }
    }

    /// Whose it is.
    pub fn replica(&self) -> Replica {
        self.replica
    }

    /// A stamp for something that is done now: later than all that it has made or seen.
    pub fn stamp(&mut self, now: Nanos) -> Stamp {
        self.advance(now);
        Stamp { time: self.time, count: self.count, replica: self.replica }
    }

    /// Takes note of another replica's stamp, so that what is done from here on is later; not of one that
    /// no clock makes.
    pub fn see(&mut self, stamp: &Stamp) {
        let is_made = stamp.time <= TAKEN_OVER_MAX;
        if is_made && (stamp.time, stamp.count) > (self.time, self.count) {
            (self.time, self.count) = (stamp.time, stamp.count);
        }
    }

    fn advance(&mut self, now: Nanos) {
        if now > self.time {
            (self.time, self.count) = (now, 0);
        } else if let Some(next) = self.count.checked_add(1) {
            self.count = next;
        } else {
            (self.time, self.count) = (Nanos(self.time.0.saturating_add(1)), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(instance: u32) -> Clock {
        Clock::new(Replica { instance, incarnation: 7 })
    }

    #[test]
    fn stamps_grow_though_the_time_stands_still_or_goes_back() {
        let mut clock = clock(1);
        let stamps = [5, 5, 3, 9, 9, 0].map(|now| clock.stamp(Nanos(now)));
        assert!(stamps.is_sorted() && stamps.windows(2).all(|pair| pair[0] != pair[1]));
        clock.count = u32::MAX;
        assert!(clock.stamp(Nanos(0)) > stamps[5]);
    }

    #[test]
    fn what_is_done_after_a_stamp_was_seen_is_later() {
        let (mut fast, mut slow) = (clock(2), clock(1));
        let cause = fast.stamp(Nanos(1_000));
        assert!(slow.stamp(Nanos(10)) < cause);
        slow.see(&cause);
        assert!(slow.stamp(Nanos(11)) > cause);
    }

    #[test]
    fn no_stamp_carries_a_clock_to_where_it_makes_no_later_ones() {
        let replica = clock(9).replica();
        for time in [TAKEN_OVER_MAX, Nanos(TAKEN_OVER_MAX.0 + 1), Nanos(u64::MAX)] {
            let mut clock = clock(1);
            clock.see(&Stamp { time, count: u32::MAX, replica });
            let stamps = [(); 3].map(|()| clock.stamp(Nanos(1)));
            assert!(stamps.is_sorted_by(|one, next| one < next), "{stamps:?}");
            assert_eq!(stamps[0].time > TAKEN_OVER_MAX, time == TAKEN_OVER_MAX);
        }
    }

    #[test]
    fn two_replicas_never_make_the_same_stamp() {
        assert_ne!(clock(1).stamp(Nanos(1)), clock(2).stamp(Nanos(1)));
    }
}
