//! How long an instance must stay when flows can not be moved: new flows go elsewhere, and those
//! that there are stay until they end.
//!
//! In simulated time. Of the lengths of HTTP flows OpenNF (section 8.4) says that 9 % are longer
//! than 25 minutes; between that and a median of some seconds a Pareto distribution is taken.

use serde::Serialize;

/// A length that `LONG` of all flows exceed, in seconds.
pub(super) const LONG_SECONDS: f64 = 1_500.0;
/// The share of flows that are longer.
pub(super) const LONG: f64 = 0.09;
/// Half of all flows are shorter, in seconds.
const MEDIAN_SECONDS: f64 = 10.0;
/// No flow is longer, in seconds: a day. Nothing is published of it, and as the last of some hundred
/// flows is nearly as long, what counts is how many are left after `LONG_SECONDS`.
const LONGEST_SECONDS: f64 = 86_400.0;
/// Flows begin during so many seconds before the instance is to go.
const BEFORE_SECONDS: f64 = 180.0;

/// How long flows last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    /// The shortest, in seconds.
    least: f64,
    /// The longest, in seconds.
    most: f64,
    /// The exponent of the distribution.
    shape: f64,
}

/// What became of the flows that an instance had when it was to go.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Emptied {
    /// Flows that were open, or fewer, after a time: seconds, and how many are left.
    pub left: Vec<(f64, usize)>,
    /// Until none was left.
    pub seconds: f64,
    /// Flows that were left after 1,500 s.
    pub left_late: usize,
    /// The share of all flows that began, open ones or not, which lasted longer than 1,500 s.
    pub long: f64,
}

impl Lengths {
    /// A long tail: 9 % are longer than 1,500 s.
    pub(super) fn long_tailed() -> Self {
        // P(longer than x) = (least / x)^shape goes through both points.
        let shape = (0.5 / LONG).ln() / (LONG_SECONDS / MEDIAN_SECONDS).ln();
        let least = MEDIAN_SECONDS * 0.5_f64.powf(1.0 / shape);
        Self { least, most: LONGEST_SECONDS, shape }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> f64 {
        // 1 - f64() is in (0, 1].
        (self.least * (1.0 - random.f64()).powf(-1.0 / self.shape)).min(self.most)
    }
}

/// Draws flows until so many are open when the instance is to go, and waits for their ends.
pub(super) fn empty(flows: usize, lengths: Lengths, seed: u64) -> Emptied {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut ends, mut drawn, mut long) = (Vec::with_capacity(flows), 0_usize, 0_usize);
    while ends.len() < flows {
        let age = random.f64() * BEFORE_SECONDS;
        let length = lengths.draw(&mut random);
        drawn += 1;
        long += usize::from(length > LONG_SECONDS);
        if length > age {
            ends.push(length - age);
        }
    }
    ends.sort_by(f64::total_cmp);
    let seconds = ends.last().copied().unwrap_or_default();
    let left_late = ends.iter().filter(|end| **end > LONG_SECONDS).count();
    let left = std::iter::once((0.0, flows))
        .chain(ends.iter().enumerate().map(|(gone, end)| (*end, flows - gone - 1)))
        .collect();
    Emptied { left, seconds, left_late, long: long as f64 / drawn.max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_that_were_published() {
        let mut random = weir_seed::rng();
        let lengths: Vec<_> =
            (0..100_000).map(|_| Lengths::long_tailed().draw(&mut random)).collect();
        let share = |limit| {
            let longer = lengths.iter().filter(|length| **length > limit).count();
            longer as f64 / lengths.len() as f64
        };
        assert!((share(LONG_SECONDS) - LONG).abs() < 0.01, "{}", share(LONG_SECONDS));
        assert!((share(MEDIAN_SECONDS) - 0.5).abs() < 0.01, "{}", share(MEDIAN_SECONDS));
    }

    #[test]
    fn it_takes_as_long_as_the_longest_flow() {
        let emptied = empty(489, Lengths::long_tailed(), weir_seed::seed());
        assert!(emptied.seconds > LONG_SECONDS, "{}", emptied.seconds);
        let late = emptied.left.iter().rfind(|(second, _)| *second <= LONG_SECONDS).unwrap();
        assert_eq!(emptied.left_late, late.1);
        assert!(emptied.left_late > 20, "{}", emptied.left_late);
        assert_eq!(emptied.left.first(), Some(&(0.0, 489)));
        assert_eq!(emptied.left.last(), Some(&(emptied.seconds, 0)));
        assert!(emptied.left.is_sorted_by(|a, b| a.0 <= b.0 && a.1 > b.1));
    }

    /// What makes it long is the tail: short flows are soon over.
    #[test]
    fn short_flows_are_soon_over() {
        let short = Lengths { most: 60.0, ..Lengths::long_tailed() };
        let emptied = empty(489, short, weir_seed::seed());
        assert!(emptied.seconds <= 60.0 && emptied.long < 1e-9, "{}", emptied.seconds);
        assert_eq!(emptied.left_late, 0);
    }
}
