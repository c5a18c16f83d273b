//! A token bucket: at most so many a second, with time passed in.

use weir_state_transfer::Nanos;

/// Allows a number of events a second, and as many at once when there were none before.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    per_second: u64,
    /// In billionths of a token, so that no time is lost to rounding.
    level: u64,
    filled: Nanos,
}

const TOKEN: u64 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket. With 0 a second nothing is ever allowed.
    pub fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Self { per_second, level: per_second * TOKEN, filled: Nanos(0) }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Nanos) -> bool {
        let passed = now.0.saturating_sub(self.filled.0).min(TOKEN);
        self.filled = self.filled.max(now);
        // At most 2^32 tokens and one second of them: under 2^63.
        self.level = (self.level + passed * self.per_second).min(self.per_second * TOKEN);
        let allowed = self.level >= TOKEN;
        if allowed {
            self.level -= TOKEN;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, tries: u32, now: Nanos) -> usize {
        (0..tries).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_second_of_tokens_is_there_at_once_and_then_they_come_at_the_rate() {
        let mut bucket = TokenBucket::new(100);
        assert_eq!(taken(&mut bucket, 1000, Nanos(5)), 100);
        assert_eq!(taken(&mut bucket, 1000, Nanos(5 + 250_000_000)), 25);
        assert_eq!(taken(&mut bucket, 1000, Nanos(3_600_000_000_000)), 100);
    }

    #[test]
    fn small_steps_add_up_and_time_that_goes_back_gives_nothing() {
        let mut bucket = TokenBucket::new(3);
        assert_eq!(taken(&mut bucket, 10, Nanos(0)), 3);
        let small = (1..=1000).filter(|step| bucket.take(Nanos(step * 1_000_000))).count();
        assert_eq!(small, 3);
        assert_eq!(taken(&mut bucket, 10, Nanos(0)), 0);
    }

    #[test]
    fn a_rate_of_none_allows_none_and_the_highest_does_not_overflow() {
        assert!(!TokenBucket::new(0).take(Nanos(u64::MAX)));
        let mut bucket = TokenBucket::new(u32::MAX);
        assert!(bucket.take(Nanos(0)) && bucket.take(Nanos(u64::MAX)));
    }
}
