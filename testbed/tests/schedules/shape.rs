//! The sizes of a schedule: small, so that every bound is met.

use std::net::Ipv4Addr;
use std::time::Duration;

use fastrand::Rng;
use weir_dataplane::neighbour::OwnerLimits;
use weir_dataplane::nf::firewall::{self, Limits as SourceLimits, Rules};
use weir_dataplane::nf::nat::SourceRule;
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp, assets, ids, nat};
use weir_dataplane::node::Limits;
use weir_state_transfer::mark::Guarantee;
use weir_state_transfer::share;
use weir_state_transfer::southbound::EventLimits;

use crate::memory_node::Plan;

/// What a schedule is made of; all of it follows from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) plan: Plan,
    /// Instances at the start.
    pub(crate) instances: usize,
    /// Flows.
    pub(crate) flows: usize,
    /// Packets at most between the wires: as many as a transmit ring takes, so that none is
    /// ever full.
    pub(crate) credit: usize,
    /// Actions of the walk.
    pub(crate) steps: usize,
    /// Whether workers panic.
    pub(crate) panics: bool,
    /// Whether workers come and go.
    pub(crate) workers_change: bool,
    /// Whether devices go down.
    pub(crate) links_fail: bool,
    /// Whether hosts must be asked for their link addresses, and answer late or not at all.
    pub(crate) hosts_unknown: bool,
    /// Whether instances have network functions, which see both directions of a flow.
    pub(crate) functions: bool,
    /// The least that a move may promise.
    pub(crate) least: Guarantee,
    /// Whether there is a NAT among them, with the hosts behind the first port inside.
    pub(crate) nat: bool,
    /// How slow the first worker is: it takes one turn in so many that it is offered.
    pub(crate) laziness: u32,
}

impl Shape {
    pub(crate) fn new(rng: &mut Rng, seed: u64) -> Self {
        let workers_change = rng.u8(..3) == 0;
        let workers = if workers_change { 3 } else { rng.usize(2..=3) };
        let ports = rng.u8(2..=3);
        // With a queue less than workers, one worker transmits for another.
        let queues = if rng.u8(..4) == 0 { workers - 1 } else { workers };
        let port_ring = if rng.bool() { 16 } else { 64 };
        let lent = usize::from(ports) * queues * port_ring;
        let limits = Limits {
            workers_max: 4,
            instances_max: 6,
            ring: [8, 16][rng.usize(..2)],
            flows_per_bucket: 8,
            own_flows: 256,
            hold: [16, 64, 1024][rng.usize(..3)],
            moves_max: 8,
            step_timeout: Duration::from_secs(1),
            capacity_ns: 1_000_000_000,
            functions: ChainConfig::default(),
            events: EventLimits::default(),
            shares_max: 0,
            share: share::Limits::default(),
        };
        let plan = Plan {
            workers,
            ports,
            queues: u16::try_from(queues).expect("a handful"),
            frames: u32::try_from((lent * 2 + port_ring).next_power_of_two()).expect("small"),
            port_ring,
            flow_timeout: FLOW_TIMEOUT,
            limits,
            neighbours: NEIGHBOURS,
            ..Plan::default()
        };
        let mut shape = Self {
            plan,
            // A worker without an instance may leave.
            instances: if workers_change { 2 } else { rng.usize(3..=4) },
            flows: rng.usize(6..=24),
            credit: port_ring,
            steps: rng.usize(150..450),
            panics: rng.u8(..5) == 0,
            workers_change,
            links_fail: seed.is_multiple_of(4),
            hosts_unknown: false,
            functions: matches!(seed % 7, 1 | 2 | 4),
            nat: seed % 7 == 2,
            least: match seed % 11 {
                1 | 5 => Guarantee::None,
                2 | 6 => Guarantee::LossFree,
                _ => Guarantee::Ordered,
            },
            laziness: if rng.bool() { 1 } else { rng.u32(2..12) },
        };
        if shape.functions {
            shape.set_functions();
        }
        // With its flow given up, a packet that comes back would be a stranger's.
        shape.panics &= !shape.nat;
        shape.set_hosts_unknown(seed % 5 == 1 && !shape.links_fail);
        shape
    }

    /// Instances have network functions.
    pub(crate) fn set_functions(&mut self) {
        self.functions = true;
        self.plan.limits.functions = functions(self.nat);
    }

    /// Whether hosts must be asked for.
    pub(crate) fn set_hosts_unknown(&mut self, unknown: bool) {
        (self.hosts_unknown, self.plan.hosts_known) = (unknown, !unknown);
        self.credit = self.plan.port_ring;
        if unknown {
            // Requests for link addresses need some room.
            self.credit /= 2;
            // A panic would lose answers, and the reference knows no errors.
            (self.panics, self.plan.icmp_errors) = (false, 0);
        }
    }

    /// Whether a hold can be full: otherwise all packets there are fit into it.
    pub(crate) fn hold_may_fill(&self) -> bool {
        self.credit > self.plan.limits.hold
    }
}

/// A firewall that lets everything pass, logs of connections that do not end by themselves, and of
/// hosts.
fn functions(with_nat: bool) -> ChainConfig {
    let rule = "all: accept any".parse().expect("a rule");
    let rules = Rules::new(vec![rule]).expect("one rule");
    // More than there are flows: it counts, and refuses none.
    let limits = SourceLimits { connections_max: Some(1000), ..SourceLimits::default() };
    let firewall = firewall::Config { rules, limits, ..firewall::Config::default() };
    let timeouts = ids::Timeouts { udp: Duration::from_hours(1), ..ids::Timeouts::default() };
    let ids = ids::Config { timeouts, ..ids::Config::default() };
    let assets = FunctionConfig::Assets(assets::Config::default());
    let mut functions = vec![FunctionConfig::Firewall(firewall), FunctionConfig::Ids(ids), assets];
    functions.extend(with_nat.then(nat));
    ChainConfig::new(functions, Timestamp(0)).expect("a NAT is the last")
}

/// A NAT with one external address, whose translations outlive a schedule.
fn nat() -> FunctionConfig {
    let from = "10.0.0.0/24".parse().expect("a prefix");
    let source = SourceRule { from, to: None, pool: vec![EXTERNAL.into()], ports: 1..=u16::MAX };
    let rules = nat::Rules::new(vec![source], vec![]).expect("one rule");
    let mut config = nat::Config { rules, ..nat::Config::default() };
    let timeouts = &mut config.tracking.timeouts;
    (timeouts.udp_unreplied, timeouts.udp_replied) = (DAY, DAY);
    FunctionConfig::Nat(config)
}

/// What hosts inside are seen as.
pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DAY: Duration = Duration::from_hours(24);

/// A host fails, or is asked for again, within the time of a schedule.
const NEIGHBOURS: OwnerLimits = OwnerLimits {
    entries_max: 64,
    unresolved_max: 16,
    retry: Duration::from_millis(2),
    tries: 3,
    reachable: Duration::from_millis(500),
    requests_per_second: 1000,
};

/// How long a flow may be idle.
pub(crate) const FLOW_TIMEOUT: Duration = Duration::from_secs(60);
