//! The cycle counter of the processor and its frequency.

use std::time::Duration;

/// Reads the processor's time stamp counter, which advances at a constant rate; wraps after
/// centuries.
#[cfg(target_arch = "x86_64")]
#[must_use]
#[inline]
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets user space execute it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Reads a counter that advances once a nanosecond, where the processor's own is not known.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn now() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// How fast the counter of [`now`] advances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frequency {
    hertz: f64,
}

impl Frequency {
    /// Measures the frequency against the system's clock, busy for the time of `over`.
    ///
    /// 10 ms give an error below 0.1 % on an idle machine.
    #[must_use]
    pub fn measure(over: Duration) -> Frequency {
        #[expect(clippy::disallowed_methods, reason = "the counter is compared with the clock")]
        let (clock, counter) = (std::time::Instant::now(), now());
        loop {
            let (elapsed, cycles) = (clock.elapsed(), now().wrapping_sub(counter));
            if elapsed >= over && cycles > 0 {
                return Frequency { hertz: cycles as f64 / elapsed.as_secs_f64() };
            }
            std::hint::spin_loop();
        }
    }

    /// Counts a second.
    #[must_use]
    pub fn hertz(self) -> f64 {
        self.hertz
    }

    /// The time that so many counts take.
    #[must_use]
    pub fn duration(self, cycles: u64) -> Duration {
        Duration::from_secs_f64(cycles as f64 / self.hertz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_advances_at_the_measured_frequency() {
        let frequency = Frequency::measure(Duration::from_millis(5));
        let second = frequency.duration(frequency.hertz() as u64);
        assert!((second.as_secs_f64() - 1.0).abs() < 1e-6);
        assert!(frequency.hertz() > 1e6, "{frequency:?}");
        let before = now();
        assert!(now() >= before);
    }
}
