//! When the node scales by itself: the `[scaling]` table.

use serde::Deserialize;

use crate::config::Span;

/// Instances that a node may have at most, whatever the policy says.
pub const INSTANCES_MAX: u32 = 64;

/// The bounds and thresholds of scaling by load.
///
/// A load is a share of an instance's declared capacity; 1.0 is full.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Whether a node that has never been told otherwise scales by itself.
    pub auto: bool,
    /// Never fewer instances than this.
    pub min: u32,
    /// Never more instances than this.
    pub max: u32,
    /// Grow when the most loaded instance has been above this for [`Policy::dwell`].
    pub high: f64,
    /// Shrink when the mean has been below this for [`Policy::dwell`].
    pub low: f64,
    /// The mean load that a change aims at.
    pub target: f64,
    /// How long a load must stay beyond a threshold.
    pub dwell: Span,
    /// How long after a change the next one waits.
    pub cool_down: Span,
    /// How often the load is read.
    pub interval: Span,
    /// The load is the mean over this much time.
    pub window: Span,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            auto: false,
            min: 1,
            max: 4,
            high: 0.8,
            low: 0.3,
            target: 0.6,
            dwell: Span::from_millis(500),
            cool_down: Span::from_millis(2_000),
            interval: Span::from_millis(100),
            window: Span::from_millis(500),
        }
    }
}

impl Policy {
    /// What is wrong with the policy, one entry for each fault: the key and why.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, key, why: String| {
            if !holds {
                faults.push((key, why));
            }
        };
        require(self.min >= 1, "min", "must be at least 1".to_owned());
        require(
            self.min <= self.max,
            "max",
            format!("must be at least min, which is {}", self.min),
        );
        require(self.max <= INSTANCES_MAX, "max", format!("must be at most {INSTANCES_MAX}"));
        require(self.low > 0.0, "low", "must be above 0".to_owned());
        require(
            self.low < self.target && self.target < self.high,
            "target",
            format!("must lie between low ({}) and high ({})", self.low, self.high),
        );
        require(
            self.high <= 1.0,
            "high",
            "must be at most 1.0, which is a full instance".to_owned(),
        );
        let millisecond = Span::from_millis(10);
        require(self.interval >= millisecond, "interval", "must be at least 10ms".to_owned());
        require(self.interval <= self.window, "window", "must be at least the interval".to_owned());
        require(
            self.window.nanos() / self.interval.nanos().max(1) <= 1_000,
            "window",
            "must be at most 1000 intervals".to_owned(),
        );
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound_and_each_fault_names_its_key() {
        assert_eq!(Policy::default().faults(), []);
        let keys = |policy: Policy| -> Vec<&str> {
            policy.faults().into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(Policy { min: 0, ..Policy::default() }), ["min"]);
        assert_eq!(keys(Policy { min: 5, ..Policy::default() }), ["max"]);
        assert_eq!(keys(Policy { max: 65, ..Policy::default() }), ["max"]);
        assert_eq!(keys(Policy { target: 0.9, ..Policy::default() }), ["target"]);
        assert_eq!(keys(Policy { high: 1.5, ..Policy::default() }), ["high"]);
        assert_eq!(keys(Policy { low: 0.0, ..Policy::default() }), ["low"]);
        assert_eq!(
            keys(Policy { interval: Span::from_millis(0), ..Policy::default() }),
            ["interval", "window"]
        );
    }
}
