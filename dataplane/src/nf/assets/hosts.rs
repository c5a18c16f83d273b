//! The hosts that an instance knows, so many at most.

use std::time::Duration;

use weir_state_transfer::merge::Join;

use super::config::Config;
use super::host::{Host, HostId};
use crate::nf::Timestamp;
use crate::nf::numbered::Numbered;

/// Hosts that are looked at for some to forget when there is no room for another.
const SEARCHED: usize = 16;
/// A host of which nothing else is known than that it was there makes room after so long. Twice as
/// long as a host that goes on sending may not have been noted.
const FLEETING: Duration = Duration::from_mins(2);

/// The hosts of an instance.
#[derive(Debug)]
pub(super) struct Hosts {
    known: Numbered<HostId, Known>,
    max: usize,
    forget: Duration,
    /// The number of the host behind which the search for ones to forget goes on.
    hand: u64,
}

/// A host, and for how long it is known.
///
/// What is known of the host is facts, which are joined with those of others; when they were seen is
/// told by the clock of who has seen them, and decides about nothing. How long it is known is a timer,
/// which is no part of them: it goes by the clock here alone, and travels as what is left of it. So it
/// makes no difference to it how far the clocks of two nodes are apart. It is never more than `forget`
/// here; what it takes to travel is not counted.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) host: Host,
    /// When it is forgotten, by the clock here.
    until: Timestamp,
}

impl Known {
    /// How long it is known yet, if it is not seen.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        self.until.since(now)
    }
}

impl Hosts {
    pub(super) fn new(config: &Config) -> Self {
        let (max, forget) = (config.hosts_max, config.forget);
        Self { known: Numbered::default(), max, forget, hand: 0 }
    }

    pub(super) fn known(&self) -> &Numbered<HostId, Known> {
        &self.known
    }

    pub(super) fn has(&self, id: &HostId) -> bool {
        self.known.contains(id)
    }

    /// The place of a host that is seen now, which is new if it is not known. None when there is no
    /// room.
    pub(super) fn place(
        &mut self,
        id: HostId,
        now: Timestamp,
        make: impl FnOnce() -> Host,
    ) -> Option<&mut Host> {
        let until = now.after(self.forget);
        let has_room = self.has_room(&id);
        has_room.then(|| {
            let known = self.known.entry(id, || Known { host: make(), until });
            known.until = known.until.max(until);
            &mut known.host
        })
    }

    pub(super) fn has_room(&self, id: &HostId) -> bool {
        self.known.len() < self.max || self.known.contains(id)
    }

    /// Makes room for another, if some of the next may be forgotten: how many were.
    pub(super) fn make_room(&mut self, now: Timestamp) -> usize {
        self.forget(SEARCHED, |known, forget| {
            let left = known.left(now);
            let idle = forget.saturating_sub(left);
            left.is_zero() || (known.host.is_bare() && idle >= FLEETING)
        })
    }

    /// Forgets those of the next `count` that were not seen for long enough: how many.
    pub(super) fn sweep(&mut self, count: usize, now: Timestamp) -> usize {
        self.forget(count, |known, _| known.left(now).is_zero())
    }

    /// Joins a copy of a host, which is known for so long where it comes from; whether there was room
    /// for it. Of two timers that which ends later stays, so that copies may come in any order.
    pub(super) fn join(
        &mut self,
        id: HostId,
        other: &Host,
        left: Duration,
        now: Timestamp,
    ) -> bool {
        let until = now.after(left.min(self.forget));
        let has_room = self.has_room(&id);
        if has_room {
            let known = self.known.entry(id, || Known { host: other.clone(), until });
            known.host.join(other);
            known.until = known.until.max(until);
        }
        has_room
    }

    pub(super) fn remove(&mut self, id: &HostId) -> Option<Known> {
        self.known.remove(id)
    }

    fn forget(&mut self, count: usize, is_over: impl Fn(&Known, Duration) -> bool) -> usize {
        let next = self.known.after(self.hand).take(count);
        let seen: Vec<_> =
            next.map(|(at, id, known)| (at, *id, is_over(known, self.forget))).collect();
        // At the end it begins again.
        self.hand = seen.last().filter(|_| seen.len() == count).map_or(0, |(at, ..)| *at);
        let over = seen.iter().filter(|(.., over)| *over);
        over.filter_map(|(_, id, _)| self.known.remove(id)).count()
    }
}
