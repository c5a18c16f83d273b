//! The load of instances from their counters of CPU time.

use std::collections::{BTreeMap, VecDeque};

use weir_api::dataplane::v1::{Instance, InstanceState};

/// Load of one instance: the CPU time that its packets took as a share of its declared capacity.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Id of the instance.
    pub instance: u32,
    /// 1.0 is full; more is possible, as capacity is declared and not enforced.
    pub load: f64,
}

/// Derives loads from running totals, over a sliding window.
#[derive(Debug)]
pub struct LoadMeter {
    window_ns: u64,
    samples: BTreeMap<u32, VecDeque<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ns: u64,
    busy_ns: u64,
}

/// Samples kept for an instance; the window is at most this many intervals.
const SAMPLES_MAX: usize = 1_024;

impl LoadMeter {
    /// A meter without samples that averages over `window_ns`.
    pub fn new(window_ns: u64) -> Self {
        Self { window_ns, samples: BTreeMap::new() }
    }

    /// Takes the counters read at `at_ns` and returns the loads of the ACTIVE instances that have
    /// been seen twice. Counters that went backwards start anew.
    pub fn sample(&mut self, at_ns: u64, instances: &[Instance]) -> Vec<Load> {
        self.samples.retain(|id, _| instances.iter().any(|instance| instance.id == *id));
        let mut loads = Vec::new();
        for instance in instances {
            let samples = self.samples.entry(instance.id).or_default();
            let sample = Sample { at_ns, busy_ns: instance.busy_ns };
            if samples.back().is_some_and(|s| s.busy_ns > sample.busy_ns || s.at_ns > at_ns) {
                samples.clear();
            }
            if samples.back().is_none_or(|last| last.at_ns < at_ns) {
                samples.push_back(sample);
            }
            // One sample at or before the window's start stays, so that the window is covered.
            while samples.len() > SAMPLES_MAX
                || samples.get(1).is_some_and(|second| second.at_ns + self.window_ns <= at_ns)
            {
                samples.pop_front();
            }
            let (Some(first), Some(last)) = (samples.front(), samples.back()) else { continue };
            let elapsed = last.at_ns - first.at_ns;
            if elapsed == 0 || instance.state != InstanceState::Active as i32 {
                continue;
            }
            let capacity = instance.capacity_ns.max(1) as f64 / 1e9;
            let load = (last.busy_ns - first.busy_ns) as f64 / elapsed as f64 / capacity;
            loads.push(Load { instance: instance.id, load });
        }
        loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: u32, busy_ns: u64, capacity_ns: u64) -> Instance {
        let state = InstanceState::Active as i32;
        Instance { id, busy_ns, capacity_ns, state, ..Instance::default() }
    }

    #[test]
    fn a_load_is_busy_time_over_capacity() {
        let mut meter = LoadMeter::new(1_000_000_000);
        assert_eq!(meter.sample(0, &[instance(1, 0, 500_000_000)]), []);
        let loads = meter.sample(100_000_000, &[instance(1, 25_000_000, 500_000_000)]);
        assert_eq!(loads, [Load { instance: 1, load: 0.5 }]);
    }

    #[test]
    fn a_load_older_than_the_window_is_forgotten() {
        let mut meter = LoadMeter::new(200);
        let mut load = 0.0;
        for round in 0..100_u64 {
            let busy = if round < 50 { round * 100 } else { 5_000 };
            let loads = meter.sample(round * 100, &[instance(1, busy, 1_000_000_000)]);
            load = loads.first().map_or(0.0, |load| load.load);
            if round == 49 {
                assert!((load - 1.0).abs() < 1e-9);
            }
        }
        assert!(load.abs() < 1e-9);
        assert!(meter.samples[&1].len() <= 4);
    }

    #[test]
    fn counters_that_restart_and_instances_that_went_are_no_load() {
        let mut meter = LoadMeter::new(1_000);
        meter.sample(0, &[instance(1, 900, 1_000), instance(2, 0, 1_000)]);
        assert_eq!(meter.sample(100, &[instance(1, 10, 1_000)]), []);
        assert_eq!(meter.samples.len(), 1);
        assert_eq!(meter.sample(100, &[instance(1, 10, 1_000)]), []);
    }
}
