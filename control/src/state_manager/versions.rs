//! What a destination has already: which versions a copy need not send again.
//!
//! Where all state of a source shares one count of updates, what changes later has a greater
//! version. So a copy asks for versions above one that no later change can have. The greatest that
//! was seen is not such a one: a piece may change behind the reader, before a piece is read that
//! changed after it. But what earlier rounds have seen was there before any piece of a round is
//! read, and so was the first piece of a round that reads all. (The first of a round that leaves out
//! what is old is not: pieces that it passed over may have changed before it was read.)
//!
//! A source that counts changes apart from versions, as instances do, says with each get how many
//! there were before it: the next round asks for what has changed after.

use weir_state_transfer::{StateFilter, chunk::Scope};

use super::end::End;

/// Copies whose versions are remembered; that which was not used for longest is forgotten.
pub const KNOWN_MAX: usize = 256;

/// By what the two ends of a copy are recognised: when one of them changes, the end may be another
/// process, or may have got state by other ways than this.
pub type Epochs = [[u64; 3]; 2];

/// State that is copied again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The source.
    pub from: End,
    /// The destination.
    pub to: End,
    /// Which state.
    pub filter: StateFilter,
    /// Of which scope.
    pub scope: Scope,
}

/// The versions of a round, in the order in which they are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    first: Option<u64>,
    most: u64,
    changes: Option<u64>,
}

impl Seen {
    /// The source counts changes apart from versions: there were so many before the round.
    pub fn begun_at(&mut self, changes: Option<u64>) {
        self.changes = changes;
    }

    /// A chunk is read.
    pub fn see(&mut self, version: u64) {
        self.first.get_or_insert(version);
        self.most = self.most.max(version);
    }
}

/// The versions of all ways, the one used last at the end.
#[derive(Debug, Default)]
pub struct Versions(Vec<Known>);

#[derive(Debug)]
struct Known {
    way: Way,
    epochs: Epochs,
    /// All that is not above it is at the destination.
    since: u64,
    /// The greatest version that was seen.
    most: u64,
}

impl Versions {
    /// A round begins: above which version chunks are to be copied; 0 for all. `epochs` are those
    /// that the ends have.
    pub fn begin(&mut self, way: &Way, epochs: Epochs) -> u64 {
        let place = self.0.iter().position(|known| known.way == *way);
        let known = place.map(|place| self.0.remove(place));
        let known = known.filter(|known| known.epochs == epochs);
        let known = known.unwrap_or(Known { way: way.clone(), epochs, since: 0, most: 0 });
        if self.0.len() >= KNOWN_MAX {
            self.0.remove(0);
        }
        let since = known.since;
        self.0.push(known);
        since
    }

    /// The round is done, all that was read is at the destination, and these are the epochs then.
    pub fn copied(&mut self, way: &Way, epochs: Epochs, seen: Seen) {
        let known = self.0.iter_mut().find(|known| known.way == *way && known.epochs == epochs);
        // Otherwise an end has become another during the round, or has taken in state.
        let Some(known) = known else { return };
        if let Some(changes) = seen.changes {
            known.since = changes;
            return;
        }
        let first = seen.first.filter(|_| known.since == 0).unwrap_or(0);
        known.since = known.most.max(first);
        known.most = known.most.max(seen.most);
    }

    /// An end takes in state from another. Its versions need not be above what was copied from it,
    /// so whoever else has copies of it needs all again; where it came from has it.
    pub fn brought(&mut self, from: &End, to: &End) {
        self.0.retain(|known| known.way.from != *to || known.way.to == *from);
    }

    /// State leaves an end for another: the one has lost what was copied to it, and the other has
    /// got what none of its copies has.
    pub fn moved(&mut self, from: &End, to: &End) {
        self.0.retain(|known| known.way.from != *to && known.way.to != *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(name: &str) -> End {
        End::Nf(name.to_owned())
    }

    fn way(from: &str, to: &str) -> Way {
        let filter = "any".parse().unwrap();
        Way { from: end(from), to: end(to), filter, scope: Scope::MultiFlow }
    }

    const EPOCHS: Epochs = [[1, 0, 0], [2, 0, 0]];

    /// A source whose pieces share a count of updates, and a destination.
    #[derive(Default)]
    struct World {
        count: u64,
        source: Vec<(u64, u64)>,
        copy: Vec<(u64, u64)>,
    }

    impl World {
        fn update(&mut self, rng: &mut fastrand::Rng) {
            self.count += 1;
            let piece = rng.usize(..self.source.len());
            self.source[piece] = (self.count, rng.u64(..));
        }

        /// A get in pieces, with packets between them.
        fn round(&mut self, since: u64, rng: &mut fastrand::Rng, packets: usize) -> Seen {
            let mut seen = Seen::default();
            for place in 0..self.source.len() {
                (0..rng.usize(..=packets)).for_each(|_| self.update(rng));
                let (version, value) = self.source[place];
                if since == 0 || version > since {
                    seen.see(version);
                    self.copy[place] = (version, value);
                }
            }
            seen
        }
    }

    /// Whether the last round, in which no packet comes, brings all that was missing; and what the
    /// rounds have read.
    fn converges(seed: u64, since: impl Fn(u64, u64) -> u64) -> (bool, u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let size = rng.usize(1..20);
        let (source, copy) = (vec![(0, 0); size], vec![(0, 0); size]);
        let mut world = World { count: 0, source, copy };
        let (mut versions, mut most, mut read) = (Versions::default(), 0, 0);
        for round in 0..6 {
            let since = since(versions.begin(&way("a", "b"), EPOCHS), most);
            let seen = world.round(since, &mut rng, if round == 5 { 0 } else { 2 });
            read += u64::from(seen.first.is_some());
            most = most.max(seen.most);
            versions.copied(&way("a", "b"), EPOCHS, seen);
        }
        (world.source == world.copy, read)
    }

    #[test]
    fn what_changes_behind_the_reader_is_copied_by_the_next_round() {
        for seed in 0..2_000 {
            let (same, _) = converges(seed, |since, _| since);
            assert!(same, "seed {seed}");
        }
    }

    #[test]
    fn above_the_greatest_version_something_would_be_missed() {
        assert!((0..2_000).any(|seed| !converges(seed, |_, most| most).0));
    }

    #[test]
    fn nothing_is_sent_again_once_nothing_changes() {
        let mut versions = Versions::default();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut world = World { count: 0, source: vec![(0, 0); 9], copy: vec![(0, 0); 9] };
        (0..50).for_each(|_| world.update(&mut rng));
        let mut sent = Vec::new();
        for _ in 0..4 {
            let since = versions.begin(&way("a", "b"), EPOCHS);
            let seen = world.round(since, &mut rng, 0);
            sent.push(seen.first.is_some());
            versions.copied(&way("a", "b"), EPOCHS, seen);
        }
        assert_eq!(sent[2..], [false, false], "{sent:?}");
    }

    #[test]
    fn another_process_gets_all_again() {
        let mut versions = Versions::default();
        let mut seen = Seen::default();
        seen.see(40);
        versions.begin(&way("a", "b"), EPOCHS);
        versions.copied(&way("a", "b"), EPOCHS, seen);
        assert_eq!(versions.begin(&way("a", "b"), EPOCHS), 40);
        let began = |versions: &mut Versions| versions.begin(&way("a", "b"), EPOCHS);
        for other in [[[9, 0, 0], EPOCHS[1]], [EPOCHS[0], [2, 0, 1]]] {
            assert_eq!(versions.begin(&way("a", "b"), other), 0);
            versions.copied(&way("a", "b"), EPOCHS, seen);
            assert_eq!(began(&mut versions), 0, "it has become another during the round");
        }
        assert_eq!(versions.begin(&way("b", "a"), EPOCHS), 0);
    }

    #[test]
    fn what_an_end_takes_in_is_new_to_all_but_its_giver() {
        let known = |versions: &Versions, from: &str, to: &str| {
            versions.0.iter().any(|known| known.way == way(from, to))
        };
        let all = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")];
        let filled = || {
            let mut versions = Versions::default();
            for (from, to) in all {
                let mut seen = Seen::default();
                seen.see(7);
                versions.begin(&way(from, to), EPOCHS);
                versions.copied(&way(from, to), EPOCHS, seen);
            }
            versions
        };
        let mut versions = filled();
        versions.brought(&end("a"), &end("b"));
        assert_eq!(all.map(|(from, to)| known(&versions, from, to)), [true, true, false, true]);
        let mut versions = filled();
        versions.moved(&end("a"), &end("b"));
        assert_eq!(all.map(|(from, to)| known(&versions, from, to)), [true, false, false, false]);
    }

    #[test]
    fn a_source_that_counts_changes_is_asked_for_those_after_the_round_has_begun() {
        let mut versions = Versions::default();
        versions.begin(&way("a", "b"), EPOCHS);
        let mut seen = Seen::default();
        seen.see(1_000);
        seen.begun_at(Some(7));
        versions.copied(&way("a", "b"), EPOCHS, seen);
        assert_eq!(versions.begin(&way("a", "b"), EPOCHS), 7);
    }

    #[test]
    fn the_ways_are_bounded() {
        let mut versions = Versions::default();
        for number in 0..=KNOWN_MAX {
            let mut seen = Seen::default();
            seen.see(1);
            let way = way("a", &number.to_string());
            versions.begin(&way, EPOCHS);
            versions.copied(&way, EPOCHS, seen);
        }
        assert_eq!(versions.0.len(), KNOWN_MAX);
        assert_eq!(versions.begin(&way("a", "1"), EPOCHS), 1);
        assert_eq!(versions.begin(&way("a", "0"), EPOCHS), 0);
    }
}
