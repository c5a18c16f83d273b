//! The decision to scale: loads and time in, a decision with its figures out.

use super::{load::Load, policy::Policy};

/// What the policy says about the number of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it.
    Keep,
    /// Add instances.
    ScaleOut,
    /// Take instances away.
    ScaleIn,
}

/// What the policy decided and the figures that it decided on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// Active instances at this moment.
    pub from: u32,
    /// The number of instances to have; equal to `from` for [`Verdict::Keep`].
    pub to: u32,
    /// Why, in words.
    pub reason: String,
    /// Mean of the loads.
    pub load_mean: f64,
    /// The highest load.
    pub load_max: f64,
    /// Sum of the loads: the work there is, in instances.
    pub load_total: f64,
    /// How long the load has been beyond the threshold, in nanoseconds.
    pub beyond_ns: u64,
    /// What is left of the cool-down, in nanoseconds.
    pub cool_down_left_ns: u64,
}

/// Remembers for how long the load has been beyond a threshold.
#[derive(Debug, Default)]
pub struct Decider {
    high_since: Option<u64>,
    low_since: Option<u64>,
    changed_at: Option<u64>,
}

impl Decider {
    /// Notes that the number of instances has changed: the cool-down starts and dwell times
    /// begin anew.
    pub fn changed(&mut self, now_ns: u64) {
        *self = Self { changed_at: Some(now_ns), ..Self::default() };
    }

    /// Takes the loads of the `active` instances at `now_ns` and says what to do.
    ///
    /// Without a load for each of them nothing is decided.
    pub fn observe(
        &mut self,
        policy: &Policy,
        now_ns: u64,
        active: u32,
        loads: &[Load],
    ) -> Decision {
        let figures = Figures::of(loads);
        let complete = active > 0 && loads.len() >= active as usize;
        let high = complete && figures.max > policy.high;
        let low = complete && !high && figures.mean < policy.low;
        self.high_since = high.then(|| self.high_since.unwrap_or(now_ns));
        self.low_since = low.then(|| self.low_since.unwrap_or(now_ns));
        let since = self.high_since.or(self.low_since).unwrap_or(now_ns);
        let judgement = Judgement {
            policy,
            active,
            figures,
            high,
            low,
            beyond_ns: now_ns.saturating_sub(since),
            cool_down_left_ns: self
                .changed_at
                .map_or(0, |at| (at + policy.cool_down.nanos()).saturating_sub(now_ns)),
        };
        if !complete {
            return judgement.keep("the load of each instance is not known yet".to_owned());
        }
        judgement.decide()
    }
}

struct Figures {
    mean: f64,
    max: f64,
    total: f64,
}

impl Figures {
    fn of(loads: &[Load]) -> Self {
        let total: f64 = loads.iter().map(|load| load.load).sum();
        let max = loads.iter().map(|load| load.load).fold(0.0, f64::max);
        Self { mean: total / loads.len().max(1) as f64, max, total }
    }
}

struct Judgement<'a> {
    policy: &'a Policy,
    active: u32,
    figures: Figures,
    high: bool,
    low: bool,
    beyond_ns: u64,
    cool_down_left_ns: u64,
}

impl Judgement<'_> {
    fn decide(self) -> Decision {
        let Policy { min, max, high, low, .. } = *self.policy;
        let active = self.active;
        if active < min || active > max {
            let to = active.clamp(min, max);
            return self.change(to, format!("{active} is outside the bounds {min} to {max}"));
        }
        let percent = |load: f64| format!("{:.0} %", load * 100.0);
        let (load_max, load_mean) = (percent(self.figures.max), percent(self.figures.mean));
        let (says, wanted) = if self.high {
            let says = format!("the highest load, {load_max}, is above {}", percent(high));
            (says, self.fitting().clamp(active + 1, max.max(active + 1)))
        } else if self.low {
            let says = format!("the mean load, {load_mean}, is below {}", percent(low));
            (says, self.fitting().min(active.saturating_sub(1)).max(min))
        } else {
            return self.keep(format!("loads up to {load_max} need no change"));
        };
        if wanted > max {
            return self.keep(format!("{says}, but {max} is the maximum"));
        }
        if wanted == active {
            return self.keep(format!("{says}, but {min} is the minimum"));
        }
        if self.beyond_ns < self.policy.dwell.nanos() {
            let dwell = self.policy.dwell;
            return self.keep(format!("{says}, but not yet for {dwell}"));
        }
        if self.cool_down_left_ns > 0 {
            return self.keep(format!("{says}, but the last change is too recent"));
        }
        self.change(wanted, says)
    }

    /// Instances that carry the work at the target load.
    fn fitting(&self) -> u32 {
        (self.figures.total / self.policy.target).ceil() as u32
    }

    fn keep(self, reason: String) -> Decision {
        let active = self.active;
        self.decision(Verdict::Keep, active, reason)
    }

    fn change(self, to: u32, reason: String) -> Decision {
        let verdict = if to > self.active { Verdict::ScaleOut } else { Verdict::ScaleIn };
        self.decision(verdict, to, reason)
    }

    fn decision(self, verdict: Verdict, to: u32, reason: String) -> Decision {
        Decision {
            verdict,
            from: self.active,
            to,
            reason,
            load_mean: self.figures.mean,
            load_max: self.figures.max,
            load_total: self.figures.total,
            beyond_ns: self.beyond_ns,
            cool_down_left_ns: self.cool_down_left_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn loads(values: &[f64]) -> Vec<Load> {
        (1..).zip(values).map(|(instance, load)| Load { instance, load: *load }).collect()
    }

    /// Observes the same loads each 100 ms and returns when and what was first decided.
    fn settle(decider: &mut Decider, from_ms: u64, values: &[f64]) -> Option<(u64, Decision)> {
        let policy = Policy::default();
        (from_ms..from_ms + 20_000).step_by(100).find_map(|at| {
            let decision = decider.observe(&policy, at * MS, values.len() as u32, &loads(values));
            (decision.verdict != Verdict::Keep).then_some((at, decision))
        })
    }

    #[test]
    fn a_high_load_that_dwells_scales_out_to_the_target() {
        let (at, decision) = settle(&mut Decider::default(), 0, &[2.0]).unwrap();
        assert_eq!((at, decision.verdict, decision.to), (500, Verdict::ScaleOut, 4));
        let (_, decision) = settle(&mut Decider::default(), 0, &[0.9, 0.1]).unwrap();
        assert_eq!(decision.to, 3, "one hot instance asks for one more");
    }

    #[test]
    fn a_low_load_that_dwells_scales_in() {
        let (at, decision) = settle(&mut Decider::default(), 0, &[0.1, 0.1, 0.1, 0.1]).unwrap();
        assert_eq!((at, decision.verdict, decision.to), (500, Verdict::ScaleIn, 1));
        assert_eq!(settle(&mut Decider::default(), 0, &[0.0]), None, "the minimum holds");
        let (_, decision) = settle(&mut Decider::default(), 0, &[0.25, 0.28, 0.28]).unwrap();
        assert_eq!(decision.to, 2);
    }

    #[test]
    fn a_load_that_comes_back_starts_the_dwell_anew() {
        let policy = Policy::default();
        let mut decider = Decider::default();
        for at in (0..20_000).step_by(100) {
            let load = if at % 500 == 0 { 0.5 } else { 0.95 };
            let decision = decider.observe(&policy, at * MS, 1, &loads(&[load]));
            assert_eq!(decision.verdict, Verdict::Keep, "{decision:?}");
        }
    }

    #[test]
    fn the_cool_down_separates_changes() {
        let mut decider = Decider::default();
        decider.changed(0);
        let (at, decision) = settle(&mut decider, 100, &[0.95]).unwrap();
        assert_eq!((at, decision.cool_down_left_ns), (2_000, 0));
    }

    #[test]
    fn an_oscillating_load_changes_at_most_once_a_cool_down() {
        let policy = Policy { dwell: crate::config::Span::from_millis(0), ..Policy::default() };
        let (mut decider, mut active, mut changes) = (Decider::default(), 1, 0);
        for at in (0..100_000).step_by(100) {
            let total = if (at / 1_100) % 2 == 0 { 2.0 } else { 0.2 };
            let each = vec![total / f64::from(active); active as usize];
            let decision = decider.observe(&policy, at * MS, active, &loads(&each));
            if decision.verdict != Verdict::Keep {
                (active, changes) = (decision.to, changes + 1);
                decider.changed(at * MS);
            }
        }
        assert!((2..=50).contains(&changes), "{changes} changes in 100 s");
    }

    #[test]
    fn unknown_loads_and_bounds() {
        let policy = Policy { min: 2, ..Policy::default() };
        let mut decider = Decider::default();
        assert_eq!(decider.observe(&policy, 0, 2, &loads(&[0.9])).verdict, Verdict::Keep);
        let decision = decider.observe(&policy, 0, 1, &loads(&[0.5]));
        assert_eq!((decision.verdict, decision.to), (Verdict::ScaleOut, 2));
        let decision = decider.observe(&policy, 0, 4, &loads(&[1.0, 1.0, 1.0, 1.0]));
        assert_eq!(decision.verdict, Verdict::Keep);
        assert!(decision.reason.contains("maximum"), "{}", decision.reason);
    }
}
