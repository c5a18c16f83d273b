//! Time for workers and agent, from the processor's cycle counter.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_frame::cycles;
use weir_state_transfer::Nanos;

/// Nanoseconds since the process started; every copy of a clock tells the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    rate: Rate,
}

impl Clock {
    /// Starts a clock at 0, after measuring the counter's frequency for 20 ms.
    pub fn start() -> Self {
        let frequency = cycles::Frequency::measure(Duration::from_millis(20));
        Self { start: cycles::now(), rate: Rate::new(frequency.hertz()) }
    }

    /// What the time of day was when the clock began, by the system's clock as it is now.
    pub fn since_1970(&self) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "this is the driver's clock")]
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        day.saturating_sub(Duration::from_nanos(self.now().0))
    }

    /// The time.
    #[inline]
    pub fn now(&self) -> Nanos {
        // Another core's counter may be a few cycles behind the one that started the clock.
        self.rate.nanos(cycles::now().saturating_sub(self.start))
    }
}

/// Nanoseconds a cycle, as a multiplication in 32.32 fixed point.
#[derive(Clone, Copy, Debug)]
struct Rate(u64);

impl Rate {
    fn new(hertz: f64) -> Self {
        Self((1e9 / hertz * f64::from(2_u32).powi(32)) as u64)
    }

    #[inline]
    fn nanos(self, cycles: u64) -> Nanos {
        Nanos(((u128::from(cycles) * u128::from(self.0)) >> 32) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_become_nanoseconds_without_drift_or_overflow() {
        let rate = Rate::new(2.5e9);
        assert_eq!(rate.nanos(0), Nanos(0));
        let year = 365 * 86_400 * 2_500_000_000_u64;
        let error = rate.nanos(year).0.abs_diff(365 * 86_400 * 1_000_000_000);
        assert!(error < 50_000_000, "{error} ns in a year");
        assert!(Rate::new(1e9).nanos(u64::MAX).0 > u64::MAX - 10);
    }

    #[test]
    fn time_goes_forward() {
        let clock = Clock::start();
        let (a, b) = (clock.now(), clock.now());
        assert!(a <= b);
    }
}
