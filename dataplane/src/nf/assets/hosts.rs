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
    known: Numbered<HostId, Host>,
    max: usize,
    forget: Duration,
    /// The number of the host behind which the search for ones to forget goes on.
    hand: u64,
}

impl Hosts {
    pub(super) fn new(config: &Config) -> Self {
        let (max, forget) = (config.hosts_max, config.forget);
        Self { known: Numbered::default(), max, forget, hand: 0 }
    }

    pub(super) fn known(&self) -> &Numbered<HostId, Host> {
        &self.known
    }

    pub(super) fn has(&self, id: &HostId) -> bool {
        self.known.contains(id)
    }

    /// The place of a host, which is new if it is not known. None when there is no room.
    pub(super) fn place(&mut self, id: HostId, make: impl FnOnce() -> Host) -> Option<&mut Host> {
        self.has_room(&id).then(|| self.known.entry(id, make))
    }

    pub(super) fn has_room(&self, id: &HostId) -> bool {
        self.known.len() < self.max || self.known.contains(id)
    }

    /// Makes room for another, if some of the next may be forgotten: how many were.
    pub(super) fn make_room(&mut self, now: Timestamp) -> usize {
        self.forget(SEARCHED, |host, forget| {
            let idle = now.since(host.seen().last());
            idle >= forget || (host.is_bare() && idle >= FLEETING)
        })
    }

    /// Forgets those of the next `count` that were not seen for long enough: how many.
    pub(super) fn sweep(&mut self, count: usize, now: Timestamp) -> usize {
        self.forget(count, |host, forget| now.since(host.seen().last()) >= forget)
    }

    /// Joins a copy of a host; whether there was room for it.
    pub(super) fn join(&mut self, id: HostId, other: &Host) -> bool {
        let has_room = self.has_room(&id);
        if has_room {
            self.known.entry(id, || other.clone()).join(other);
        }
        has_room
    }

    pub(super) fn remove(&mut self, id: &HostId) -> Option<Host> {
        self.known.remove(id)
    }

    fn forget(&mut self, count: usize, is_over: impl Fn(&Host, Duration) -> bool) -> usize {
        let next = self.known.after(self.hand).take(count);
        let seen: Vec<_> =
            next.map(|(at, id, host)| (at, *id, is_over(host, self.forget))).collect();
        // At the end it begins again.
        self.hand = seen.last().filter(|_| seen.len() == count).map_or(0, |(at, ..)| *at);
        let over = seen.iter().filter(|(.., over)| *over);
        over.filter_map(|(_, id, _)| self.known.remove(id)).count()
    }
}
