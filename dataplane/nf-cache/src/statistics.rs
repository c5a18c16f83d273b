//! What the proxy has done altogether: counters that are joins, a part for each replica.

use weir_state_transfer::chunk::{BodyError, Chunk, decode_body};
use weir_state_transfer::flow_id::FlowId;
use weir_state_transfer::merge::{Counter, Join, Replica};
use weir_state_transfer::wire::{Reader, Writer};

use crate::kinds::STATISTICS;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Requests that were taken.
    Requests,
    /// Answers from the store alone.
    Hits,
    /// Answers from the store after the origin has said that they are still good.
    Revalidated,
    /// Answers from the origin that the store might have had.
    Misses,
    /// Requests that are none of the store's business, such as POST and ranges.
    Passed,
    /// Tunnels.
    Tunnels,
    /// Requests that were refused, or that no origin has answered.
    Refused,
    /// Bytes of bodies from the store.
    HitBytes,
    /// Bytes of bodies from origins.
    OriginBytes,
    /// Objects that were taken into the store from origins.
    Stored,
    /// Objects that left the store to make room.
    Evicted,
    /// Objects that left the store as a request has changed what they are of.
    Invalidated,
    /// Client connections that were closed at once: there were too many, or the client may not.
    ConnectionsRefused,
    /// Connections that a time-out has ended.
    TimedOut,
    /// Connections in use that gets of idle ones have passed over: they finish where they are.
    InUse,
}

impl Figure {
    /// All of them, with their names, in the order in which chunks have them.
    const ALL: [(Self, &'static str); 15] = [
        (Self::Requests, "requests"),
        (Self::Hits, "hits"),
        (Self::Revalidated, "revalidated"),
        (Self::Misses, "misses"),
        (Self::Passed, "passed"),
        (Self::Tunnels, "tunnels"),
        (Self::Refused, "refused"),
        (Self::HitBytes, "hit_bytes"),
        (Self::OriginBytes, "origin_bytes"),
        (Self::Stored, "stored"),
        (Self::Evicted, "evicted"),
        (Self::Invalidated, "invalidated"),
        (Self::ConnectionsRefused, "connections_refused"),
        (Self::TimedOut, "timed_out"),
        (Self::InUse, "in_use"),
    ];
}

/// How many there are.
const FIGURES: usize = Figure::ALL.len();

/// All figures, of this instance and of those whose copies it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    counters: [Counter; FIGURES],
    /// The update that changed them last.
    version: u64,
}

impl Statistics {
    /// Those of who has counted nothing yet.
    pub(crate) fn of_version(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    /// A replica has so many more.
    pub(crate) fn add(&mut self, replica: Replica, figure: Figure, count: u64, version: u64) {
        self.counters[figure as usize].add(replica, count);
        self.version = version;
    }

    /// What all replicas have counted together.
    pub fn value(&self, figure: Figure) -> u64 {
        self.counters[figure as usize].value()
    }

    /// What one instance has counted, in all its lives.
    pub fn of(&self, instance: u32, figure: Figure) -> u64 {
        let parts = self.counters[figure as usize].parts();
        parts.filter(|(replica, _)| replica.instance == instance).map(|(_, count)| count).sum()
    }

    /// Each with its name, by all replicas.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Figure::ALL.iter().map(|(figure, name)| (*name, self.value(*figure)))
    }

    /// The figures of a chunk.
    ///
    /// # Errors
    /// When it is no chunk of them.
    pub fn of_chunk(chunk: &Chunk) -> Result<Self, BodyError> {
        let take = |reader: &mut Reader<'_>| {
            let mut counters: [Counter; FIGURES] = Default::default();
            for counter in &mut counters {
                *counter = Counter::take(reader)?;
            }
            Ok(Self { counters, version: chunk.version })
        };
        decode_body(chunk.schema, STATISTICS.schema, &chunk.body, take)
    }

    /// A copy of them.
    pub(crate) fn chunk(&self) -> Chunk {
        let put = |out: &mut Writer| self.counters.iter().for_each(|counter| counter.put(out));
        Chunk {
            version: self.version,
            ..STATISTICS.chunk(FlowId::default(), Writer::bytes_of(put))
        }
    }

    /// Whether all would be taken in elsewhere.
    pub(crate) fn fits(&self) -> bool {
        self.counters.iter().all(Counter::fits)
    }
}

impl Join for Statistics {
    fn join(&mut self, other: &Self) {
        for (own, other) in self.counters.iter_mut().zip(&other.counters) {
            own.join(other);
        }
        self.version = self.version.max(other.version);
    }
}

#[cfg(test)]
mod tests {
    use weir_state_transfer::merge::{LIVES_MAX, Life, Lives};

    use super::*;

    fn replica(instance: u32) -> Replica {
        Replica { instance, incarnation: 7 }
    }

    #[test]
    fn every_figure_is_shown_by_its_name_at_its_place() {
        let mut statistics = Statistics::default();
        for (place, (figure, name)) in Figure::ALL.into_iter().enumerate() {
            assert_eq!(
                (place, name.replace('_', "")),
                (figure as usize, format!("{figure:?}").to_lowercase())
            );
            statistics.add(replica(1), figure, place as u64, 1);
        }
        assert!(statistics.named().map(|(_, count)| count).eq(0..FIGURES as u64));
    }

    #[test]
    fn copies_in_both_directions_count_nothing_twice() {
        let (mut one, mut two) = (Statistics::default(), Statistics::default());
        one.add(replica(1), Figure::Hits, 3, 1);
        two.add(replica(2), Figure::Hits, 4, 1);
        for _ in 0..3 {
            one.join(&Statistics::of_chunk(&two.chunk()).expect("a chunk of them"));
            two.join(&Statistics::of_chunk(&one.chunk()).expect("a chunk of them"));
        }
        assert_eq!((one.value(Figure::Hits), two.value(Figure::Hits)), (7, 7));
        assert_eq!((one.of(2, Figure::Hits), one.value(Figure::Misses)), (4, 0));
        assert_eq!(one.chunk().body, two.chunk().body);
    }

    #[test]
    fn the_largest_statistics_fit_in_a_chunk() {
        let parts = || (0..weir_state_transfer::merge::REPLICAS_MAX as u32).map(replica);
        let mut ended = Lives::default();
        for life in (5_000..5_000 + LIVES_MAX as u32).map(replica).map(Life::of_one) {
            ended.add(life);
        }
        let counter = Counter::from_parts(parts().map(|replica| (replica, u64::MAX)), ended);
        let largest = Statistics { counters: std::array::from_fn(|_| counter.clone()), version: 1 };
        assert!(largest.fits() && largest.chunk().encode().is_ok());
    }
}
