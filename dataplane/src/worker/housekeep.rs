//! What a worker does now and then: its own cost, time-outs, frames on their way home, gauges.

use std::time::Duration;

use weir_frame::HomeId;
use weir_state_transfer::{Nanos, WorkerId};

use super::{Work, Worker};
use crate::instance::Instance;
use crate::port::BURST;

/// When the worker last did what it does now and then.
#[derive(Debug)]
pub(super) struct Housekeeping {
    flow_timeout: Duration,
    last: Nanos,
    last_statistics: Nanos,
    /// The usual cost of a packet, in nanoseconds, from rounds that were not interrupted.
    packet_ns: f64,
}

/// The interval between two rounds of housekeeping.
const INTERVAL: Duration = Duration::from_millis(1);
/// The interval between two readings of the kernel's counters.
const STATISTICS: Duration = Duration::from_millis(50);
/// Sets of each flow table that are looked at in one round of housekeeping.
const SWEEP: usize = 256;
/// A round that costs so many times the usual was interrupted: the rest is not its own.
const OUTLIER: f64 = 8.0;
/// Weight of a round in the usual cost.
const WEIGHT: f64 = 1.0 / 64.0;
/// The first guess at the cost of a packet, in nanoseconds.
const PACKET_NS: f64 = 1_000.0;

impl Housekeeping {
    pub(super) fn new(flow_timeout: Duration) -> Self {
        Self { flow_timeout, last: Nanos(0), last_statistics: Nanos(0), packet_ns: PACKET_NS }
    }

    /// The cost of a round that moved `packets` and took `elapsed`, less what was not its own:
    /// time in which the thread was not on its core.
    fn cost(&mut self, packets: u64, elapsed: Duration) -> u64 {
        let elapsed = elapsed.as_nanos() as f64;
        let usual = self.packet_ns * packets as f64;
        let cost = elapsed.min(usual * OUTLIER);
        self.packet_ns += (cost / packets as f64 - self.packet_ns) * WEIGHT;
        // An interrupted round counts as a usual one.
        if elapsed > usual * OUTLIER { usual as u64 } else { cost as u64 }
    }
}

impl Worker {
    /// Books the round before: what it cost is known when the next one begins.
    pub(super) fn begin_round(&mut self, now: Nanos) {
        self.forwarder.now = now;
        let packets: u64 = self.instances.iter().map(|instance| instance.round).sum();
        if let (Some(began), true) = (self.round_began.take(), packets > 0) {
            let cost = self.housekeeping.cost(packets, now.since(began));
            self.forwarder.counters.busy_ns.add(cost);
            for instance in self.instances.iter_mut() {
                let share = cost * instance.round / packets;
                instance.counters.busy_ns.add(share);
                instance.round = 0;
            }
        }
    }

    pub(super) fn end_round(&mut self, work: &Work) {
        let packets: u64 = self.instances.iter().map(|instance| instance.round).sum();
        let counters = &self.forwarder.counters;
        counters.polls.add(1);
        counters.packets.add(packets);
        if work.packets == 0 {
            counters.empty_polls.add(1);
        }
        if packets > 0 {
            self.round_began = Some(self.forwarder.now);
        }
        if work.packets > 0 || work.busy {
            if self.forwarder.pool.away_len() >= BURST {
                self.send_frames_home();
            }
            self.publish();
        }
    }

    pub(super) fn housekeep(&mut self, now: Nanos) {
        if now.since(self.housekeeping.last) < INTERVAL {
            return;
        }
        self.housekeeping.last = now;
        let before = now - self.housekeeping.flow_timeout;
        for instance in self.instances.iter_mut() {
            self.forwarder.fault_of_sweep(instance);
            instance.sweep(SWEEP, before, now);
            self.forwarder.note_caught(instance);
        }
        self.forwarder.poll_neighbours(now);
        for frame in self.region.reclaim() {
            self.forwarder.pool.free(frame);
        }
        if now.since(self.housekeeping.last_statistics) >= STATISTICS {
            self.housekeeping.last_statistics = now;
            for queue in &self.queues {
                queue.read_statistics();
            }
            self.forwarder.egress.read_statistics();
        }
        self.send_frames_home();
        self.publish();
    }

    /// Frames of other workers go back in bursts.
    ///
    /// Homes change at once, between any two frames, but the ring to a new worker comes with the
    /// next commands: its frames wait for that.
    pub(super) fn send_frames_home(&mut self) {
        let forwarder = &mut self.forwarder;
        for home in forwarder.pool.away_homes() {
            let HomeId(worker) = home;
            let Some(outbox) = forwarder.rings.connected(WorkerId(worker)) else { continue };
            let mut sent = 0;
            for frame in forwarder.pool.take_away(home, usize::MAX) {
                outbox.send_home(frame);
                sent += 1;
            }
            forwarder.counters.frames.returned_out.add(sent);
        }
    }

    /// Publishes where the frames are.
    pub(super) fn publish(&self) {
        let gauges = &self.forwarder.counters.frames;
        gauges.free.set(self.forwarder.pool.len() as u64);
        gauges.away.set(self.forwarder.pool.away_len() as u64);
        gauges.rx.set(self.queues.iter().map(|queue| queue.lent() as u64).sum());
        gauges.tx.set(self.forwarder.egress.in_flight());
        let kept = |instance: &Instance| instance.subscriptions.kept() + instance.shares.packets();
        let kept: usize = self.instances.iter().map(kept).sum();
        let by_policy = self.forwarder.policy_hold.len();
        gauges.held.set((self.moves.held() + kept + by_policy) as u64);
        gauges.parked.set(self.forwarder.parked_len() as u64);
        for instance in self.instances.iter() {
            instance.counters.buckets.set(instance.flows.buckets() as u64);
            instance.counters.flows.set(instance.flows.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_was_interrupted_costs_the_usual() {
        let mut housekeeping = Housekeeping::new(Duration::from_secs(60));
        for _ in 0..1000 {
            housekeeping.cost(32, Duration::from_micros(16));
        }
        let usual = housekeeping.cost(32, Duration::from_micros(16));
        assert!((15_000..=17_000).contains(&usual), "{usual}");
        let interrupted = housekeeping.cost(32, Duration::from_millis(8));
        assert!(interrupted < 4 * usual, "{interrupted}");
    }
}
