//! When a worker without work yields and sleeps: time in, decision out.

use std::time::Duration;

use weir_state_transfer::Nanos;

/// Whether workers sleep when they have nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Polls, then yields, then sleeps: next to no CPU time without load, some latency.
    Adaptive,
    /// Polls without end: a whole core, the least latency.
    Busy,
}

impl Poll {
    /// The word for it in the configuration, the command line and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Poll::Adaptive => "adaptive",
            Poll::Busy => "busy",
        }
    }
}

/// How long an adaptive worker is without work before it does so less eagerly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// From here it lets other threads have the core between two polls; 0 to 1 s, default 50 us.
    pub yield_after: Duration,
    /// From here it sleeps until a packet, an item or a timer comes; `yield_after` to 10 s,
    /// default 200 us.
    pub sleep_after: Duration,
    /// Longest sleep, after which it looks at its timers; 1 ms to 1 s, default 50 ms.
    pub sleep_max: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            yield_after: Duration::from_micros(50),
            sleep_after: Duration::from_micros(200),
            sleep_max: Duration::from_millis(50),
        }
    }
}

/// What a worker does before its next poll round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing: it polls again.
    None,
    /// It yields the core.
    Yield,
    /// It sleeps, at most so long.
    Sleep(Duration),
}

/// Decides after each poll round.
#[derive(Clone, Copy, Debug)]
pub struct Idler {
    poll: Poll,
    idle: Idle,
    last_work: Nanos,
}

impl Idler {
    /// A worker that begins at `now`, as if it had just had work.
    pub fn new(poll: Poll, idle: Idle, now: Nanos) -> Self {
        Self { poll, idle, last_work: now }
    }

    /// What follows a poll round that began at `now` and found work or did not.
    #[inline]
    pub fn after_round(&mut self, worked: bool, now: Nanos) -> Pause {
        if worked {
            self.last_work = now;
            return Pause::None;
        }
        match self.poll {
            Poll::Busy => Pause::None,
            Poll::Adaptive => {
                let without = Duration::from_nanos(now.0.saturating_sub(self.last_work.0));
                if without < self.idle.yield_after {
                    Pause::None
                } else if without < self.idle.sleep_after {
                    Pause::Yield
                } else {
                    Pause::Sleep(self.idle.sleep_max)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Idle = Idle {
        yield_after: Duration::from_nanos(100),
        sleep_after: Duration::from_nanos(300),
        sleep_max: Duration::from_millis(20),
    };

    #[test]
    fn an_adaptive_worker_polls_then_yields_then_sleeps() {
        let mut idler = Idler::new(Poll::Adaptive, IDLE, Nanos(1000));
        assert_eq!(idler.after_round(false, Nanos(1099)), Pause::None);
        assert_eq!(idler.after_round(false, Nanos(1100)), Pause::Yield);
        assert_eq!(idler.after_round(false, Nanos(1299)), Pause::Yield);
        assert_eq!(idler.after_round(false, Nanos(1300)), Pause::Sleep(IDLE.sleep_max));
        assert_eq!(idler.after_round(false, Nanos(u64::MAX)), Pause::Sleep(IDLE.sleep_max));
    }

    #[test]
    fn work_makes_it_eager_again() {
        let mut idler = Idler::new(Poll::Adaptive, IDLE, Nanos(0));
        assert_eq!(idler.after_round(false, Nanos(500)), Pause::Sleep(IDLE.sleep_max));
        assert_eq!(idler.after_round(true, Nanos(600)), Pause::None);
        assert_eq!(idler.after_round(false, Nanos(650)), Pause::None);
        assert_eq!(idler.after_round(false, Nanos(700)), Pause::Yield);
    }

    #[test]
    fn a_busy_worker_never_pauses() {
        let mut idler = Idler::new(Poll::Busy, IDLE, Nanos(0));
        for now in [0, 100, 300, 1 << 40] {
            assert_eq!(idler.after_round(false, Nanos(now)), Pause::None);
        }
    }

    #[test]
    fn without_thresholds_it_sleeps_at_once_and_a_clock_that_stands_still_is_no_trouble() {
        let idle = Idle { yield_after: Duration::ZERO, sleep_after: Duration::ZERO, ..IDLE };
        let mut idler = Idler::new(Poll::Adaptive, idle, Nanos(7));
        assert_eq!(idler.after_round(false, Nanos(7)), Pause::Sleep(IDLE.sleep_max));
        assert_eq!(idler.after_round(false, Nanos(3)), Pause::Sleep(IDLE.sleep_max));
    }
}
