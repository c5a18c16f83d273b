//! Sleeping until there is work, and ending somebody's sleep.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io;

use super::sleep_flag::SleepFlag;

/// Ends the sleep of one thread. Clones wake the same thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// A waker and the sleeper that it wakes.
    ///
    /// # Errors
    ///
    /// What `eventfd` says: the process has too many files open.
    pub fn new() -> io::Result<(Waker, Sleeper)> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { flag: SleepFlag::default(), event });
        Ok((Waker(Arc::clone(&shared)), Sleeper(shared)))
    }

    /// Wakes the thread if it sleeps. To be called after giving it work, once a burst: a fence and
    /// a load when it is awake, one system call when it sleeps.
    #[inline]
    pub fn wake(&self) {
        if self.0.flag.claim() {
            self.0.ring();
        }
    }
}

/// The side of a [`Waker`] that sleeps.
#[derive(Debug)]
pub struct Sleeper(Arc<Shared>);

impl Sleeper {
    /// Announces that the thread is going to sleep. It looks for work once more, and then calls
    /// [`Sleeper::sleep`] if there is none or [`Sleeper::stay_awake`] if there is.
    pub fn announce(&self) {
        self.0.flag.announce();
    }

    /// Takes the announcement back.
    pub fn stay_awake(&self) {
        self.0.flag.retract();
        self.0.drain();
    }

    /// Sleeps until it is woken, one of `sockets` has packets, or `at_most` has passed. A signal or
    /// an error of a socket ends the sleep too: the next poll round finds out.
    pub fn sleep(&self, sockets: &[BorrowedFd<'_>], at_most: Duration) {
        let event = std::iter::once(self.0.event.as_fd());
        let mut fds: Vec<PollFd<'_>> = event
            .chain(sockets.iter().copied())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(at_most).ok();
        // Which of them it was does not matter: a poll round looks at all.
        let _woken = poll(&mut fds, timeout.as_ref());
        self.stay_awake();
    }

    /// The file that becomes readable when the thread is woken, for an event loop.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

#[derive(Debug)]
struct Shared {
    flag: SleepFlag,
    event: OwnedFd,
}

impl Shared {
    fn ring(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _readable = io::write(&self.event, &1_u64.to_ne_bytes());
    }

    fn drain(&self) {
        // Fails only when nobody rang.
        let _rung = io::read(&self.event, &mut [0_u8; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn work_given_after_the_announcement_ends_the_sleep() {
        let (waker, sleeper) = Waker::new().unwrap();
        sleeper.announce();
        waker.wake();
        sleeper.sleep(&[], LONG);
        // The wake-up was used: it does not end the next sleep.
        sleeper.announce();
        let mut fds = [PollFd::from_borrowed_fd(sleeper.event(), PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec::default())), Ok(0));
    }

    #[test]
    fn nobody_rings_for_a_thread_that_is_awake_or_already_woken() {
        let (waker, sleeper) = Waker::new().unwrap();
        waker.wake();
        assert_eq!(io::read(sleeper.event(), &mut [0_u8; 8]), Err(io::Errno::AGAIN));
        sleeper.announce();
        waker.wake();
        waker.clone().wake();
        let mut rung = [0_u8; 8];
        assert_eq!(io::read(sleeper.event(), &mut rung), Ok(8));
        assert_eq!(u64::from_ne_bytes(rung), 1);
    }

    #[test]
    fn a_socket_with_packets_ends_the_sleep() {
        let (reader, writer) = std::io::pipe().unwrap();
        io::write(&writer, b"packet").unwrap();
        let (_waker, sleeper) = Waker::new().unwrap();
        sleeper.announce();
        sleeper.sleep(&[reader.as_fd()], LONG);
    }

    #[test]
    fn the_sleep_is_bounded() {
        let (_waker, sleeper) = Waker::new().unwrap();
        sleeper.announce();
        sleeper.sleep(&[], Duration::from_millis(1));
    }

    #[test]
    fn ten_thousand_items_are_passed_without_waiting_for_the_end_of_a_sleep() {
        let (waker, sleeper) = Waker::new().unwrap();
        let (given, done) = (AtomicU32::new(0), AtomicBool::new(false));
        const ITEMS: u32 = 10_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut taken = 0;
                while taken < ITEMS {
                    sleeper.announce();
                    match given.swap(0, Ordering::Acquire) {
                        // A lost wake-up would hang here until the test's own time limit.
                        0 => sleeper.sleep(&[], LONG),
                        new => {
                            sleeper.stay_awake();
                            taken += new;
                        }
                    }
                }
                done.store(true, Ordering::Release);
            });
            for _ in 0..ITEMS {
                given.fetch_add(1, Ordering::Release);
                waker.wake();
            }
        });
        assert!(done.load(Ordering::Acquire));
    }
}
