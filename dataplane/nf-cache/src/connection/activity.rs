//! What a client connection is doing, and since when: what its time-outs and its moves go by.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::settings::Limits;

/// What a connection is doing. Its socket and its requests tell it, and others ask.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when the client takes nothing of what is to be written.
    blocked: Option<Instant>,
    /// Nothing was read while the last request was answered: there can be no byte of the next one
    /// in a buffer.
    clean: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits for its first request.
    Fresh,
    /// Part of a head has come.
    Reading,
    /// A request is being answered.
    Busy,
    /// The answer is made, but for what is in buffers.
    Ending,
    /// It waits for its next request.
    Idle,
    /// It is a tunnel.
    Tunnel,
}

impl Activity {
    /// Of a connection that was made now.
    pub(crate) fn fresh(now: Instant) -> Self {
        Self(Mutex::new(State { phase: Phase::Fresh, since: now, blocked: None, clean: true }))
    }

    /// Of a connection that has waited for its next request since then.
    pub(crate) fn idle(since: Instant) -> Self {
        Self(Mutex::new(State { phase: Phase::Idle, since, blocked: None, clean: true }))
    }

    /// Bytes have come.
    pub(super) fn read(&self, now: Instant) {
        self.change(|state| match state.phase {
            Phase::Fresh | Phase::Idle => (state.phase, state.since) = (Phase::Reading, now),
            Phase::Busy | Phase::Ending => state.clean = false,
            Phase::Tunnel => state.since = now,
            Phase::Reading => {}
        });
    }

    /// The client takes nothing now.
    pub(super) fn blocked(&self, now: Instant) {
        self.change(|state| {
            state.blocked.get_or_insert(now);
        });
    }

    /// The client has taken something.
    pub(super) fn wrote(&self, now: Instant) {
        self.change(|state| {
            state.blocked = None;
            if state.phase == Phase::Tunnel {
                state.since = now;
            }
        });
    }

    /// All buffers are empty.
    pub(super) fn flushed(&self, now: Instant) {
        self.change(|state| {
            if state.phase == Phase::Ending {
                (state.phase, state.since) = (Phase::Idle, now);
            }
        });
    }

    /// A request is to be answered.
    pub(crate) fn begin(&self, now: Instant) {
        self.change(|state| {
            (state.phase, state.since, state.clean) = (Phase::Busy, now, true);
        });
    }

    /// The answer is made.
    pub(crate) fn end(&self, now: Instant) {
        self.change(|state| {
            if state.phase == Phase::Busy {
                (state.phase, state.since) = (Phase::Ending, now);
            }
        });
    }

    /// It is a tunnel from now on.
    pub(crate) fn tunnel(&self, now: Instant) {
        self.change(|state| (state.phase, state.since) = (Phase::Tunnel, now));
    }

    /// Since when it waits for its next request, with nothing in any buffer here; none when it does
    /// not.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let state = self.get();
        (state.phase == Phase::Idle && state.clean).then_some(state.since)
    }

    /// Whether it is a tunnel.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.get().phase == Phase::Tunnel
    }

    /// How long it may go on like this; none for as long as the answer takes.
    pub(crate) fn left(&self, limits: &Limits, now: Instant) -> Option<Duration> {
        let state = self.get();
        let end = match state.phase {
            Phase::Fresh | Phase::Idle | Phase::Tunnel => state.since + limits.idle,
            Phase::Reading => state.since + limits.head_time,
            Phase::Busy | Phase::Ending => state.blocked? + limits.idle,
        };
        Some(end.saturating_duration_since(now))
    }

    fn get(&self) -> State {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let (idle, head_time) = (Duration::from_secs(60), Duration::from_secs(10));
        Limits { idle, head_time, ..Limits::default() }
    }

    #[test]
    fn a_connection_is_idle_from_the_flush_of_an_answer_to_the_next_byte() {
        let start = crate::clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity::fresh(start);
        activity.flushed(at(1));
        assert_eq!(activity.idle_since(), None);
        activity.read(at(2));
        activity.begin(at(3));
        activity.flushed(at(4));
        assert_eq!(activity.idle_since(), None);
        activity.end(at(5));
        assert_eq!(activity.idle_since(), None);
        activity.flushed(at(6));
        assert_eq!(activity.idle_since(), Some(at(6)));
        activity.read(at(7));
        assert_eq!(activity.idle_since(), None);
        // Of what comes while a request is answered, some may be of the next one.
        activity.begin(at(8));
        activity.read(at(8));
        activity.end(at(9));
        activity.flushed(at(9));
        assert_eq!(activity.idle_since(), None);
    }

    #[test]
    fn each_phase_has_its_limit() {
        let start = crate::clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let left = |activity: &Activity, seconds| activity.left(&limits(), at(seconds));
        let activity = Activity::fresh(start);
        assert_eq!(left(&activity, 50), Some(Duration::from_secs(10)));
        activity.read(at(50));
        activity.read(at(55));
        assert_eq!(left(&activity, 61), Some(Duration::ZERO));
        activity.begin(at(55));
        assert_eq!(left(&activity, 500), None);
        activity.blocked(at(100));
        activity.blocked(at(110));
        assert_eq!(left(&activity, 130), Some(Duration::from_secs(30)));
        activity.wrote(at(130));
        assert_eq!(left(&activity, 500), None);
        activity.tunnel(at(200));
        activity.read(at(210));
        assert_eq!(left(&activity, 240), Some(Duration::from_secs(30)));
    }
}
