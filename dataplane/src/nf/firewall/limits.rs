//! Limits of what one source may begin: state of several flows.

use std::net::IpAddr;

use weir_state_transfer::merge::{Clock, Gauge, Join, Lives, Replica, Stamp};
use weir_state_transfer::{FlowId, FlowKey, Nanos, ServiceId};

use super::bucket::{Bucket, Rate};
use super::reason::Reason;
use crate::nf::life::life;
use crate::nf::numbered::Numbered;

/// Sources that are looked at for ones to forget when there is no room for another.
const SEARCHED: usize = 16;

/// What each source may do. A limit that is absent does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections that a source has begun.
    pub connections_max: Option<u32>,
    /// Connections that a source begins in a time.
    pub rate: Option<Rate>,
    /// Sources that are kept count of; those of more begin nothing. Default 65,536.
    pub sources_max: usize,
}

/// An address that begins connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// In which service it does.
    pub service: ServiceId,
    /// The address.
    pub address: IpAddr,
}

/// What is known of a source. A copy of it may be joined with any other, at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The connections that it has begun and that have not ended.
    pub open: Gauge,
    /// How fast it begins them.
    pub bucket: Bucket,
}

/// The sources of an instance.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    limits: Limits,
    known: Numbered<Origin, Known>,
    clock: Clock,
    /// Under this replica sources count that are new.
    replica: Replica,
    /// Its last replica is of this incarnation.
    last: u64,
    /// The number of the source behind which the search for ones to forget goes on.
    hand: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) source: Source,
    /// Under which it counts. A source that was forgotten begins at 0, which a copy from before
    /// must not be taken for newer than; so it counts under another replica then.
    replica: Replica,
}

/// What there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Another source.
    Sources,
    /// Another replica that has counted the source.
    Replicas,
}

impl Limits {
    fn is_none(&self) -> bool {
        self.connections_max.is_none() && self.rate.is_none()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: None, rate: None, sources_max: 1 << 16 }
    }
}

impl Origin {
    /// The source of a flow.
    pub fn of(key: &FlowKey) -> Self {
        Self { service: key.service(), address: key.src() }
    }

    /// The flows that what is known of the source is about.
    pub fn flow_id(&self) -> FlowId {
        FlowId::host(self.address, self.service)
    }

    /// The source whose flows an id is of.
    pub fn of_id(id: &FlowId) -> Option<Self> {
        id.as_host().map(|(address, service)| Self { service, address })
    }
}

impl Sources {
    pub(super) fn new(limits: Limits, replica: Replica) -> Self {
        let clock = Clock::new(replica);
        let last = life(replica).last();
        Self { limits, known: Numbered::default(), clock, replica, last, hand: 0 }
    }

    /// Lets a source begin a connection, or says which limit it is at. `opens` is false when the
    /// connection takes the place of another of the same source.
    pub(super) fn admit(&mut self, origin: Origin, opens: bool, now: Nanos) -> Result<(), Reason> {
        if self.limits.is_none() {
            return Ok(());
        }
        let Limits { connections_max, rate, .. } = self.limits;
        self.make_room(origin, now)?;
        let Known { source, replica } = Self::entry(&mut self.known, self.replica, origin);
        let open_max = connections_max.map(i128::from);
        if opens && open_max.is_some_and(|most| source.open.value() >= most) {
            return Err(Reason::SourceConnections);
        }
        if let Some(rate) = rate
            && !source.bucket.take(rate, &mut self.clock, *replica, now)
        {
            return Err(Reason::SourceRate);
        }
        if opens {
            source.open.up.add(*replica, 1);
        }
        Ok(())
    }

    /// A connection of a source has ended. Where there is no room for a source that is not known
    /// here, this is not counted.
    pub(super) fn end(&mut self, origin: Origin) {
        if !self.limits.is_none() && self.has_room(origin) {
            let Known { source, replica } = Self::entry(&mut self.known, self.replica, origin);
            source.open.down.add(*replica, 1);
        }
    }

    /// Takes in what another knows of a source, or has given away: its bucket was last full at a
    /// stamp, if ever. Nothing changes where there is no room for that.
    pub(super) fn take_in(
        &mut self,
        origin: Origin,
        full: Option<Stamp>,
        change: impl FnOnce(&mut Source, Replica),
    ) -> Result<(), Full> {
        if !self.has_room(origin) {
            return Err(Full::Sources);
        }
        let mut changed = self.source(&origin).cloned().unwrap_or_default();
        change(&mut changed, self.counted_as(&origin));
        if !changed.fits() {
            return Err(Full::Replicas);
        }
        full.iter().for_each(|stamp| self.clock.see(stamp));
        Self::entry(&mut self.known, self.replica, origin).source = changed;
        Ok(())
    }

    /// As which replica a source is counted here, or would be.
    pub(super) fn counted_as(&self, origin: &Origin) -> Replica {
        self.known.get(origin).map_or(self.replica, |known| known.replica)
    }

    pub(super) fn source(&self, origin: &Origin) -> Option<&Source> {
        self.known.get(origin).map(|known| &known.source)
    }

    pub(super) fn remove(&mut self, origin: &Origin) -> Option<Source> {
        let removed = self.known.remove(origin)?;
        self.count_anew();
        Some(removed.source)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&Origin, &Source)> {
        self.known.iter().map(|(origin, known)| (origin, &known.source))
    }

    pub(super) fn known(&self) -> &Numbered<Origin, Known> {
        &self.known
    }

    /// Sources that are kept count of, at most.
    pub(super) fn max(&self) -> usize {
        self.limits.sources_max
    }

    /// Forgets those of the next `count` sources that could be new as well.
    pub(super) fn sweep(&mut self, count: usize, now: Nanos) {
        let next = self.known.after(self.hand).take(count);
        let seen: Vec<(u64, Origin, bool)> = next
            .map(|(at, origin, known)| (at, *origin, known.source.is_idle(self.limits.rate, now)))
            .collect();
        // At the end it begins again.
        self.hand = seen.last().filter(|_| seen.len() == count).map_or(0, |(at, ..)| *at);
        for (_, origin, _) in seen.iter().filter(|(.., idle)| *idle) {
            self.known.remove(origin);
        }
        if seen.iter().any(|(.., idle)| *idle) {
            self.count_anew();
        }
    }

    fn make_room(&mut self, origin: Origin, now: Nanos) -> Result<(), Reason> {
        if !self.has_room(origin) {
            self.sweep(SEARCHED, now);
        }
        if self.has_room(origin) { Ok(()) } else { Err(Reason::SourcesFull) }
    }

    fn has_room(&self, origin: Origin) -> bool {
        self.known.len() < self.limits.sources_max || self.known.contains(&origin)
    }

    /// New sources count under a replica that none has counted under which was forgotten.
    fn count_anew(&mut self) {
        self.replica.incarnation = self.last.min(self.replica.incarnation.saturating_add(1));
    }

    fn entry(known: &mut Numbered<Origin, Known>, replica: Replica, origin: Origin) -> &mut Known {
        known.entry(origin, || Known { source: Source::default(), replica })
    }
}

impl Source {
    /// Whether its counters are no larger than they may be.
    pub(super) fn fits(&self) -> bool {
        self.open.fits() && self.bucket.parts().1.fits()
    }

    /// Joins what its holder has given away; see
    /// [`Counter::inherit`](weir_state_transfer::merge::Counter::inherit).
    pub(super) fn inherit(&mut self, given: Self, by: Replica, heir: Replica, ended: &Lives) {
        self.open.inherit(given.open, by, heir, ended);
        self.bucket.inherit(given.bucket, by, heir, ended);
    }

    /// Leaves out what lives have counted that others have taken over.
    pub(super) fn retire(&mut self, lives: &Lives) {
        self.open.retire(lives);
        self.bucket.retire(lives);
    }

    /// Whether it has nothing open and may begin as many connections as one that is new.
    fn is_idle(&self, rate: Option<Rate>, now: Nanos) -> bool {
        self.open.value() == 0 && rate.is_none_or(|rate| self.bucket.is_full(rate, now))
    }
}

impl Join for Source {
    fn join(&mut self, other: &Self) {
        self.open.join(&other.open);
        self.bucket.join(&other.bucket);
    }
}
