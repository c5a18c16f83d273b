//! Waiting for an event, with a limit.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::event::{PollFd, Timespec, poll};

/// Limit for what takes milliseconds on an idle machine. Generous: this machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// A moment until which something is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment that is `limit` from this one.
    pub fn after(limit: Duration) -> Self {
        Self(now() + limit)
    }

    /// What is left; zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }
}

/// Looks until `check` gives a value. For states that announce themselves in no other way.
///
/// # Errors
/// When it gave none within the limit, naming `what` was waited for.
pub fn until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(value) = check() {
            return Ok(value);
        }
        if deadline.left().is_zero() {
            bail!("waited {limit:?} for {what}");
        }
        pause(&mut [], BETWEEN_LOOKS)?;
    }
}

/// Waits for an event on the descriptors, at most `limit`. True when there was one.
///
/// # Errors
/// When a descriptor is bad.
pub fn pause(descriptors: &mut [PollFd<'_>], limit: Duration) -> Result<bool> {
    let limit = timespec(limit);
    match poll(descriptors, Some(&limit)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[expect(clippy::disallowed_methods, reason = "this driver measures how long it waits")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_value_is_there() {
        let mut looks = 0;
        let value = until("the third look", LIMIT, || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn a_wait_that_is_in_vain_names_what_it_waited_for() {
        let error = until("rain", Duration::from_millis(5), || None::<()>).unwrap_err();
        assert_eq!(error.to_string(), "waited 5ms for rain");
    }
}
