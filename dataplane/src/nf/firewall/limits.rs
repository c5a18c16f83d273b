//! Limits of what one source may begin: state of several flows.

use weir_state_transfer::Nanos;
use weir_state_transfer::merge::{Clock, Gauge, Join, Life, Lives, Replica, Stamp};

use super::bucket::{Bucket, Rate};
use super::reason::Reason;
use crate::nf::origin::Origin;
use crate::nf::share::{Countable, Known, KnownSources};

/// Sources that are looked at for ones to forget when there is no room for another.
const SEARCHED: usize = 16;

/// What each source may do. A limit that is absent does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections that a source has begun. What has closed counts no more, though it is kept
    /// for late packets: a FIN of each end was acknowledged, or one has reset it. Once an end has sent
    /// a FIN any reset does, whatever its number, as for the `ct count` of nftables.
    pub connections_max: Option<u32>,
    /// Connections that a source begins in a time.
    pub rate: Option<Rate>,
    /// Sources that are kept count of; those of more begin nothing. Default 65,536.
    pub sources_max: usize,
}

/// What is known of a source. A copy of it may be joined with any other, at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The connections that it has begun and that have neither closed nor ended.
    pub open: Gauge,
    /// How fast it begins them.
    pub bucket: Bucket,
}

/// The sources of an instance.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    limits: Limits,
    pub(super) known: KnownSources<Source>,
    clock: Clock,
    /// The number of the source behind which the search for ones to forget goes on.
    hand: u64,
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
    /// Whether nothing is limited: then nothing is kept of sources.
    pub(crate) fn is_none(&self) -> bool {
        self.connections_max.is_none() && self.rate.is_none()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: None, rate: None, sources_max: 1 << 16 }
    }
}

impl Sources {
    pub(super) fn new(limits: Limits, replica: Replica) -> Self {
        let (known, clock) = (KnownSources::new(replica), Clock::new(replica));
        Self { limits, known, clock, hand: 0 }
    }

    /// Lets a source begin a connection, or says which limit it is at. `opens` is false when the
    /// connection takes the place of another of the same source.
    pub(super) fn admit(&mut self, origin: Origin, opens: bool, now: Nanos) -> Result<(), Reason> {
        if self.limits.is_none() {
            return Ok(());
        }
        let Limits { connections_max, rate, .. } = self.limits;
        self.make_room(origin, now)?;
        let Known { source, replica } = self.known.entry(origin, Source::default);
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

    /// A connection of a source is not open any more. Where there is no room for a source that is not known
    /// here, this is not counted.
    pub(super) fn end(&mut self, origin: Origin) {
        if !self.limits.is_none() && self.has_room(origin) {
            let Known { source, replica } = self.known.entry(origin, Source::default);
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
        let mut changed = self.known.source(&origin).cloned().unwrap_or_default();
        change(&mut changed, self.known.counted_as(&origin));
        if !changed.fits() {
            return Err(Full::Replicas);
        }
        full.iter().for_each(|stamp| self.clock.see(stamp));
        self.known.entry(origin, Source::default).source = changed;
        Ok(())
    }

    /// Takes in a copy.
    pub(super) fn join(&mut self, origin: Origin, other: &Source) -> Result<(), Full> {
        self.take_in(origin, other.bucket.stamp(), |source, _| source.join(other))
    }

    /// Takes in what another, counting as a replica, has given away.
    pub(super) fn inherit(
        &mut self,
        origin: Origin,
        given: Source,
        by: Replica,
        ended: &Lives,
    ) -> Result<(), Full> {
        self.take_in(origin, given.bucket.stamp(), |source, heir| {
            source.inherit(given, by, heir, ended);
        })
    }

    /// Sources that are kept count of, at most.
    pub(super) fn max(&self) -> usize {
        self.limits.sources_max
    }

    /// Forgets those of the next `count` sources that could be new as well.
    pub(super) fn sweep(&mut self, count: usize, now: Nanos) {
        let next = self.known.numbered().after(self.hand).take(count);
        let seen: Vec<(u64, Origin, bool)> = next
            .map(|(at, origin, known)| (at, *origin, known.source.is_idle(self.limits.rate, now)))
            .collect();
        // At the end it begins again.
        self.hand = seen.last().filter(|_| seen.len() == count).map_or(0, |(at, ..)| *at);
        for (_, origin, _) in seen.iter().filter(|(.., idle)| *idle) {
            self.known.forget(origin);
        }
        if seen.iter().any(|(.., idle)| *idle) {
            self.known.count_anew();
        }
    }

    fn make_room(&mut self, origin: Origin, now: Nanos) -> Result<(), Reason> {
        if !self.has_room(origin) {
            self.sweep(SEARCHED, now);
        }
        if self.has_room(origin) { Ok(()) } else { Err(Reason::SourcesFull) }
    }

    fn has_room(&self, origin: Origin) -> bool {
        self.known.len() < self.limits.sources_max || self.known.has(&origin)
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

    /// Whether it has nothing open and may begin as many connections as one that is new.
    fn is_idle(&self, rate: Option<Rate>, now: Nanos) -> bool {
        self.open.value() == 0 && rate.is_none_or(|rate| self.bucket.is_full(rate, now))
    }
}

impl Countable for Source {
    fn take_from(&mut self, by: Replica, heir: Replica) {
        self.open.take_from(by, heir);
        self.bucket.take_from(by, heir);
    }

    fn retire(&mut self, ended: &Lives) {
        self.open.retire(ended);
        self.bucket.retire(ended);
    }

    fn retires(&self, life: Life) -> bool {
        self.open.retires(life) || self.bucket.parts().1.retires(life)
    }
}

impl Join for Source {
    fn join(&mut self, other: &Self) {
        self.open.join(&other.open);
        self.bucket.join(&other.bucket);
    }
}
