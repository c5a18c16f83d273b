//! When the rounds of a copy begin, and when the copy has ended.

use std::time::Duration;

use weir_state_transfer::Nanos;

/// The rounds of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// From the end of a round to the beginning of the next; none for one round only.
    pub interval: Option<Duration>,
    /// Rounds in all, if it repeats; none for no end.
    pub most: Option<u64>,
    /// No round begins from then on, but for the first; none for no end.
    pub until: Option<Nanos>,
    /// Rounds that are done.
    pub done: u64,
}

impl Rounds {
    /// A round is done at `now`: when the next begins, if there is one.
    pub fn next(&mut self, now: Nanos) -> Option<Nanos> {
        self.done += 1;
        let interval = self.interval?;
        let next = now + interval;
        let goes_on = self.most.is_none_or(|most| self.done < most)
            && self.until.is_none_or(|until| next < until);
        goes_on.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_as_many_rounds_as_it_was_asked_for() {
        let rounds = Rounds { interval: None, most: None, until: None, done: 0 };
        let interval = Some(Duration::from_nanos(10));
        let mut once = rounds;
        assert_eq!(once.next(Nanos(5)), None);
        let mut thrice = Rounds { interval, most: Some(3), ..rounds };
        assert_eq!(
            [5, 40, 50].map(|now| thrice.next(Nanos(now))),
            [Some(Nanos(15)), Some(Nanos(50)), None]
        );
        let mut endless = Rounds { interval, ..rounds };
        assert!((0..1_000).all(|now| endless.next(Nanos(now)) == Some(Nanos(now + 10))));
        let mut limited = Rounds { interval, until: Some(Nanos(40)), ..rounds };
        assert_eq!(
            [5, 29, 30].map(|now| limited.next(Nanos(now))),
            [Some(Nanos(15)), Some(Nanos(39)), None]
        );
    }
}
