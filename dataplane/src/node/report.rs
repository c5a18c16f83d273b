//! The balance of packets and frames: everything that came in, and what became of it.

use weir_api::dataplane::v1 as api;
use weir_state_transfer::{BUCKETS, Nanos};

use super::Node;
use crate::counters::WorkerCounters;
use crate::packet::DropReason;

impl Node {
    /// Facts of the process.
    pub fn show(&self, now: Nanos) -> api::GetNodeResponse {
        api::GetNodeResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: self.identity.incarnation,
            generation: self.generation,
            steering_generation: self.steered.generation,
            uptime_ns: now.0,
            poll: self.identity.poll.to_owned(),
            workers_max: self.limits.workers_max as u32,
            instances_max: self.limits.instances_max as u32,
            pid: self.identity.pid,
            frames: self.shared.region.frames(),
        }
    }

    /// The instances, and the moves whose request id begins with `prefix`.
    pub fn show_states(&self, prefix: &str) -> api::WatchNodeResponse {
        api::WatchNodeResponse {
            incarnation: self.identity.incarnation,
            instances: self.instances(),
            moves: self.moves_asked_for(prefix),
        }
    }

    /// The steering table.
    pub fn show_steering(&self) -> api::GetSteeringResponse {
        let steering = &self.steered.steering;
        let mut owners = vec![0; BUCKETS];
        for id in self.instances.keys() {
            for bucket in steering.owned_buckets(*id).iter() {
                owners[bucket.index()] = id.0;
            }
        }
        let rule = |rule: &crate::steering::Rule| api::SteeringRule {
            filters: rule.filters().iter().map(ToString::to_string).collect(),
            buckets: rule.buckets().to_string(),
            to: u32::from(rule.to().0),
        };
        api::GetSteeringResponse {
            generation: self.steered.generation,
            owners,
            rules: steering.rules().iter().map(rule).collect(),
            exact_flows: steering.flows().len() as u64,
        }
    }

    /// Every counter of the node and the balance.
    ///
    /// The counters are read while the workers count; at rest the balance is exact.
    pub fn counters(&self) -> api::GetCountersResponse {
        let drops: Vec<_> = DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.dropped(reason)))
            .filter(|(_, packets)| *packets > 0)
            .map(|(reason, packets)| api::DropCount {
                reason: reason.name().to_owned(),
                packets,
                meaning: reason.meaning().to_owned(),
            })
            .collect();
        api::GetCountersResponse {
            balance: Some(self.balance(drops.iter().map(|drop| drop.packets).sum())),
            drops,
            frames: self.frames(),
            handover_packets: self.sum(|counters| counters.handed_over.get()),
        }
    }

    fn balance(&self, dropped: u64) -> api::Balance {
        let ports = self.port_totals();
        let overload = ports.ring_full + ports.fill_ring_empty + ports.too_long;
        let received = ports.received + overload + ports.punted;
        let generated = self.sum(|counters| counters.generated.get());
        let transmitted = ports.completed.saturating_sub(ports.invalid + ports.refused);
        let held = self.sum(|counters| counters.frames.held.get());
        let handed_out = self.sum(|counters| counters.handed_out.get());
        let handed_in = self.sum(|counters| counters.handed_in.get());
        let parked = self.sum(|counters| counters.frames.parked.get());
        let in_flight = ports.submitted.saturating_sub(ports.completed + ports.lost);
        let in_rings = handed_out.saturating_sub(handed_in) + parked + in_flight;
        let consumed = self.sum(|counters| counters.consumed.get());
        let ended = transmitted + ports.punted + consumed + dropped + held + in_rings;
        api::Balance {
            received,
            generated,
            transmitted,
            punted: ports.punted,
            consumed,
            dropped,
            held,
            in_rings,
            unaccounted: (received + generated) as i64 - ended as i64,
            overload,
        }
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        let ports = self.port_totals();
        let by_kernel = match reason {
            DropReason::RxRingFull => ports.ring_full,
            DropReason::RxFillRingEmpty => ports.fill_ring_empty,
            DropReason::RxTooLong => ports.too_long,
            DropReason::TxInvalid => ports.invalid,
            DropReason::TxRefused => ports.refused,
            DropReason::PortDown => ports.lost,
            _ => 0,
        };
        by_kernel + self.sum(|counters| counters.drops.get(reason))
    }

    fn frames(&self) -> Vec<api::FramePlace> {
        let frames = |place: fn(&WorkerCounters) -> u64| self.sum(place);
        let handed_out = frames(|c| c.handed_out.get());
        let returned_out = frames(|c| c.frames.returned_out.get());
        let places = [
            ("free", frames(|c| c.frames.free.get())),
            ("going_home", frames(|c| c.frames.away.get())),
            ("return_rings", returned_out.saturating_sub(frames(|c| c.frames.returned_in.get()))),
            ("receive", frames(|c| c.frames.rx.get())),
            ("transmit", frames(|c| c.frames.tx.get())),
            ("handover_rings", handed_out.saturating_sub(frames(|c| c.handed_in.get()))),
            ("held", frames(|c| c.frames.held.get())),
            ("parked", frames(|c| c.frames.parked.get())),
        ];
        places
            .into_iter()
            .map(|(place, frames)| api::FramePlace { place: place.to_owned(), frames })
            .collect()
    }

    fn sum(&self, count: impl Fn(&WorkerCounters) -> u64) -> u64 {
        let running = self.workers.values().map(|handle| &handle.counters);
        running.chain(&self.retired).map(|counters| count(counters)).sum()
    }
}
