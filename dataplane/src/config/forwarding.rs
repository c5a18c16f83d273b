//! The tables about forwarding: `[steering]`, `[flow_table]`, `[moves]`, `[shares]`, `[neighbour]`, `[events]`,
//! `[icmp]`, `[instance]`.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;
use weir_state_transfer::share::Limits;
use weir_state_transfer::southbound::EventLimits;
use weir_state_transfer::steering_hash::spreads;

use super::Name;
use super::section::Section;
use super::value::{self, Label};

/// `[steering]`: which instance gets which packet.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    /// Key of the bucket hash, one that spreads flows well; `None` draws one at random.
    pub key: Option<u16>,
    /// Most flows that are steered one by one; default 65,536.
    pub exact_max: u32,
}

/// `[flow_table]`: the flows of an instance.
#[derive(Clone, Copy, Debug)]
pub struct FlowTable {
    /// Most flows in the part of one steering bucket, 8 to 1,024, rounded up to a power of two;
    /// default 64. Each entry takes 128 bytes, and there are 4,096 buckets.
    pub flows_per_bucket: u32,
    /// Most flows of an instance that came to it by filter, rounded up to a power of two; default
    /// 65,536.
    pub own_flows: u32,
    /// How long a flow stays without a packet; default 60 s.
    pub idle_timeout: Duration,
}

/// `[moves]`: changing the owner of flows.
#[derive(Clone, Copy, Debug)]
pub struct Moves {
    /// Most packets held at each end of a move, and at each worker for policy routes that hold: never
    /// both at one time. 1 to 65,536; default 4,096.
    pub hold: u32,
    /// Most moves in progress or queued, 1 to 256; default 8. Each of them may have 2 x `hold`
    /// frames in use, and as many slots: with the other frames, no more than the machine has
    /// memory.
    pub moves_max: u32,
    /// Longest time that one step of a move may take; default 2 s.
    pub step_timeout: Duration,
}

/// `[shares]`: what network functions know of several flows, as one for several instances.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Most shares at one time, 0 to 16; default 1. Where network functions have something to share,
    /// each instance may have `waiting` frames in use for each.
    pub shares_max: u32,
    /// What sources are divided into: those of a slot wait for each other. 1 to 4,096; default 1,024.
    pub slots: u32,
    /// Most packets and operations that wait at an instance, for each share, 16 to 65,536; default
    /// 1,024.
    pub waiting: u32,
    /// How long a packet waits for its answer at most; default 10 ms.
    pub patience: Duration,
}

impl Shares {
    /// The bounds of each share.
    pub fn limits(&self) -> Limits {
        Limits {
            slots: self.slots as usize,
            waiting: self.waiting as usize,
            patience: self.patience,
            ..Limits::default()
        }
    }
}

/// `[neighbour]`: link-layer addresses of next hops.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    /// Most neighbours of a port; default 1,024.
    pub entries_max: u16,
    /// Most neighbours of a port that are being asked for at one time; default 256.
    pub unresolved_max: u16,
    /// Most packets that wait for one neighbour, those that moves have taken along apart; default 16.
    pub park_each: u32,
    /// Most packets of a worker that wait for neighbours; default 512.
    pub park: u32,
    /// Time between two requests; default 1 s.
    pub retry: Duration,
    /// Requests before a neighbour has failed; default 3.
    pub tries: u8,
    /// How long an answer is believed; default 30 s.
    pub reachable: Duration,
    /// Most requests of a port in a second; default 100.
    pub requests_per_second: u32,
}

/// `[icmp]`: errors that the router sends (RFC 1812 section 4.3.2.8).
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    /// Most errors of a worker in a second; default 1,000.
    pub errors_per_second: u32,
}

/// `[instance]`: what each new instance gets, and the one that is there from the start.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Name of the first instance; default `r1`.
    pub name: Name,
    /// Declared capacity, in nanoseconds of CPU time a second; default a whole core.
    pub capacity_ns: u64,
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Packets that an end of a move may hold at most.
const HOLD_MAX: u32 = 65_536;

pub(super) fn read_steering(mut section: Section<'_>) -> Steering {
    let read = Steering {
        key: section.optional("key", steering_key).map(Spanned::into_inner),
        exact_max: section.or("exact_max", 65_536, value::count(16..=1 << 22)),
    };
    section.close();
    read
}

fn steering_key(value: &DeValue<'_>) -> Result<u16, Label> {
    let key = value::hex16(value)?;
    if spreads(key) {
        return Ok(key);
    }
    Err("this key spreads flows over few buckets; leave it out to draw a good one".to_owned())
}

pub(super) fn read_flow_table(mut section: Section<'_>) -> FlowTable {
    let read = FlowTable {
        flows_per_bucket: section.or("flows_per_bucket", 64, value::count(8..=1_024)),
        own_flows: section.or("own_flows", 65_536, value::count(64..=1 << 22)),
        idle_timeout: section.or("idle_timeout", 60 * SECOND, value::duration(SECOND..=DAY)),
    };
    section.close();
    read
}

/// Reads the bounds of moves, and where the file raises what they take: at the top when nowhere.
pub(super) fn read_moves(mut section: Section<'_>) -> (Moves, Range<usize>) {
    let step = Duration::from_millis(10)..=60 * SECOND;
    let hold = section.optional("hold", hold);
    let moves_max = section.optional("moves_max", value::count(1..=256));
    let place = moves_max.as_ref().or(hold.as_ref()).map_or(0..0, Spanned::span);
    let read = Moves {
        hold: hold.map_or(4096, Spanned::into_inner),
        moves_max: moves_max.map_or(8, Spanned::into_inner),
        step_timeout: section.or("step_timeout", 2 * SECOND, value::duration(step)),
    };
    section.close();
    (read, place)
}

pub(super) fn read_shares(mut section: Section<'_>) -> Shares {
    let patience = Duration::from_millis(1)..=SECOND;
    let read = Shares {
        shares_max: section.or("shares_max", 1, value::count(0..=16)),
        slots: section.or("slots", 1024, value::count(1..=4096)),
        waiting: section.or("waiting", 1024, value::count(16..=65_536)),
        patience: section.or("patience", Duration::from_millis(10), value::duration(patience)),
    };
    section.close();
    read
}

/// Each packet needs a slot of some 100 bytes at both ends of every move, which the node makes
/// and frees; a hold fills while the source drains, which is a matter of microseconds.
fn hold(value: &DeValue<'_>) -> Result<u32, Label> {
    value::count(1..=HOLD_MAX)(value).map_err(|label| {
        format!("{label}: a move that has to hold more is undone, and all its slots made in vain")
    })
}

pub(super) fn read_neighbour(mut section: Section<'_>) -> Neighbour {
    let retry = Duration::from_millis(10)..=60 * SECOND;
    let read = Neighbour {
        entries_max: section.or("entries_max", 1024, value::count(16..=u16::MAX)),
        unresolved_max: section.or("unresolved_max", 256, value::count(1..=u16::MAX)),
        park_each: section.or("park_each", 16, value::count(1..=1024)),
        park: section.or("park", 512, value::count(1..=65_536)),
        retry: section.or("retry", SECOND, value::duration(retry)),
        tries: section.or("tries", 3, value::count(1..=20)),
        reachable: section.or("reachable", 30 * SECOND, value::duration(SECOND..=DAY)),
        requests_per_second: section.or("requests_per_second", 100, value::count(1..=100_000)),
    };
    section.close();
    read
}

/// `[events]`: subscriptions to the packets of an instance. Each packet that one keeps may take a
/// frame, at every instance.
pub(super) fn read_events(mut section: Section<'_>) -> EventLimits {
    let EventLimits { subscriptions_max, buffer_max, queue_max } = EventLimits::default();
    let read = EventLimits {
        subscriptions_max: section.or(
            "subscriptions_max",
            subscriptions_max,
            value::count(1..=256),
        ),
        buffer_max: section.or("buffer_max", buffer_max, value::count(1..=65_536)),
        queue_max: section.or("queue_max", queue_max, value::count(1..=65_536)),
    };
    section.close();
    read
}

pub(super) fn read_icmp(mut section: Section<'_>) -> Icmp {
    let errors = value::count(0..=1_000_000);
    let read = Icmp { errors_per_second: section.or("errors_per_second", 1000, errors) };
    section.close();
    read
}

pub(super) fn read_instance(mut section: Section<'_>, first: Name) -> Instance {
    const PERCENT_NS: u64 = 10_000_000;
    let percent = section.or("capacity", 100, value::percent);
    let read = Instance {
        name: section.or("name", first, value::name),
        capacity_ns: u64::from(percent) * PERCENT_NS,
    };
    section.close();
    read
}
