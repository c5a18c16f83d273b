//! How many frames the configuration can have in use at one time, place by place.

use std::fmt;

use weir_state_transfer::southbound::EventLimits;

use super::forwarding::{Moves, Neighbour, Shares};
use super::port::{Backend, Port, PortDraft};
use super::process::Process;
use crate::port::BURST;
use crate::port::pcap::TX_SLOTS;
use crate::worker::ASIDE;

/// Most frames of a node: 8 GiB of 2,048 bytes.
pub const FRAMES_MAX: u32 = 1 << 22;
/// Frames that a worker may have in hand or on its free list, beyond what is in use elsewhere.
const FREE_LIST: u64 = 1024;

/// The frames in use at the bound of every ring and quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    places: Vec<(String, u64)>,
}

impl Quota {
    pub(super) fn new(
        process: &Process,
        ports: &[PortDraft],
        (moves, sharing, events): (&Moves, Option<&Shares>, &EventLimits),
        neighbour: &Neighbour,
    ) -> Self {
        let workers = u64::from(process.workers_max);
        let mut places: Vec<(String, u64)> = ports
            .iter()
            .map(|draft| (format!("rings of port {}", draft.port.name), rings_of(&draft.port)))
            .collect();
        places.push((
            format!("{workers} x {workers} hand-over rings (handover_ring)"),
            workers * workers * u64::from(process.handover_ring),
        ));
        places.push((
            format!("to transmit, outside those {workers} x {workers} rings"),
            workers * workers * ASIDE as u64,
        ));
        let queues: u64 = ports.iter().map(|draft| queues_of(&draft.port)).sum();
        places.push((
            format!("received, outside those rings, a burst of {queues} queues (queues)"),
            queues * BURST as u64,
        ));
        // A source keeps packets of a move that is undone, or takes along what is parked.
        let ends = u64::from(moves.hold) + u64::from(moves.hold.max(neighbour.park));
        let of_moves = u64::from(moves.moves_max) * ends;
        let of_policies = workers * u64::from(moves.hold);
        // Moves and policy routes never hold at one time.
        places.push(if of_moves >= of_policies {
            let place =
                format!("held at both ends of {} moves (hold, park, moves_max)", moves.moves_max);
            (place, of_moves)
        } else {
            (format!("held for policy routes, {workers} workers (hold)"), of_policies)
        });
        let instances = u64::from(process.instances_max);
        places.push((
            format!("kept for subscribers of {instances} instances (buffer_max, instances_max)"),
            instances * events.buffer_max as u64,
        ));
        if let Some(Shares { shares_max, waiting, .. }) = sharing {
            places.push((
                format!(
                    "packets that wait at {instances} instances of shares (waiting, shares_max)"
                ),
                instances * u64::from(*shares_max) * u64::from(*waiting),
            ));
        }
        places.push((
            format!("packets that wait for neighbours, {workers} workers (park)"),
            workers * u64::from(neighbour.park),
        ));
        places.push((format!("free lists, {workers} workers"), workers * FREE_LIST));
        Self { places }
    }

    pub(super) fn total(&self) -> u64 {
        self.places.iter().map(|(_, frames)| frames).sum()
    }

    /// The total rounded up to what a region is divided in, within its bound.
    pub(super) fn frames(&self) -> u32 {
        let frames = self.total().next_multiple_of(1024).max(1024);
        u32::try_from(frames).unwrap_or(u32::MAX).min(FRAMES_MAX)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, frames) in &self.places {
            writeln!(f, "{frames:>9} {place}")?;
        }
        write!(f, "{:>9} in all", self.total())
    }
}

fn queues_of(port: &Port) -> u64 {
    match port.backend {
        Backend::AfXdp { queues, .. } => u64::from(queues),
        Backend::Pcap { .. } => 1,
    }
}

/// A queue borrows as many frames as its fill ring and its tx ring have slots.
fn rings_of(port: &Port) -> u64 {
    match port.backend {
        Backend::AfXdp { rings, .. } => {
            queues_of(port) * (u64::from(rings.fill) + u64::from(rings.tx))
        }
        Backend::Pcap { .. } => TX_SLOTS as u64,
    }
}
