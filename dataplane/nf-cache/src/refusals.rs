//! What was refused, by the name of the reason: how often, and which of it is logged. Strangers may
//! send as much of it as they like, so that of each reason one is logged in a second at most.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_state_transfer::time::Nanos;

/// How long a reason is not logged again.
const EVERY: Duration = Duration::from_secs(1);

/// Counts of refusals. Reasons are names in the code, of which there are a few.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<&'static str, Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    /// Those since the last that was logged.
    untold: u64,
    /// When that was.
    told: Option<Nanos>,
}

impl Refusals {
    /// Something was refused. Whether it is to be logged: then how many of its reason were not, since
    /// the last that was.
    pub(crate) fn add(&mut self, reason: &'static str, now: Nanos) -> Option<u64> {
        let counts = self.0.entry(reason).or_default();
        counts.all += 1;
        let is_soon = counts.told.is_some_and(|told| now.since(told) < EVERY);
        if is_soon {
            counts.untold += 1;
            return None;
        }
        counts.told = Some(now);
        Some(std::mem::take(&mut counts.untold))
    }

    /// How often something was refused, by reason.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(reason, counts)| (*reason, counts.all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_a_second_and_all_are_counted() {
        let mut rng = weir_seed::rng();
        let mut refusals = Refusals::default();
        let reasons = ["host", "encoding", "scheme"];
        let (mut now, mut told, mut added) = (Nanos(0), [0u64; 3], [0u64; 3]);
        let mut last = [None; 3];
        while now < Nanos(20_000_000_000) {
            let which = rng.usize(..3);
            added[which] += 1;
            if let Some(untold) = refusals.add(reasons[which], now) {
                told[which] += 1 + untold;
                assert_eq!(told[which], added[which], "all before are told of");
                assert!(last[which].is_none_or(|at| now.since(at).as_secs() >= 1));
                last[which] = Some(now);
            }
            now = Nanos(now.0 + rng.u64(..30_000_000));
        }
        let counts: BTreeMap<_, _> = refusals.counts().collect();
        for (which, reason) in reasons.iter().enumerate() {
            assert_eq!(counts[reason], added[which]);
            let at = last[which].expect("the first is told");
            assert!(now.since(at).as_secs() <= 2, "one of each second is told");
        }
    }
}
