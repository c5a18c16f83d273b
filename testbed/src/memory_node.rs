//! A node over memory ports, stepped by hand: the shipped node, workers and rings, without threads.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weir_dataplane::instance::FlowHasher;
use weir_dataplane::local::{LocalAddresses, PortAddresses};
use weir_dataplane::neighbour::{AdjacencyTable, Owner, OwnerLimits, ParkedLimits};
use weir_dataplane::nf::nat::Rules;
use weir_dataplane::nf::{ChainConfig, Record};
use weir_dataplane::node::{FIRST, Identity, Limits, Node, PortSetup, WayOut};
use weir_dataplane::packet::MacAddr;
use weir_dataplane::port::memory::{Wire, memory};
use weir_dataplane::port::{Rx, RxQueue, Tx, TxQueue};
use weir_dataplane::route_table::{NextHop, RouteLimits, RouteTable};
use weir_dataplane::steering::{FlowHash, Steering};
use weir_dataplane::worker::{PortFacts, Shared, Steered, Worker};
use weir_frame::{Frame, FrameSize, HomeId, Homes, Pool, Region};
use weir_state_transfer::southbound::EventLimits;
use weir_state_transfer::{Nanos, PortId, SteeringHash, WorkerId};

/// A node whose ports are in memory and whose workers take their turns when they are told to.
#[derive(Debug)]
pub struct MemoryNode {
    /// The node.
    pub node: Node,
    /// Its workers, by number; those that have ended are gone.
    pub workers: BTreeMap<WorkerId, Worker>,
    /// The far ends of its ports, by port and queue.
    pub wires: BTreeMap<(PortId, u16), Wire>,
    /// What network functions have recorded, with the name of the instance.
    pub records: Vec<(Arc<str>, Record)>,
    /// The time that the next turn is told.
    pub now: Nanos,
    /// Whose each frame is.
    pub homes: Homes,
    /// Held for its drop, the last: memory whose frames are not all home is not freed.
    _region: Region,
}

/// What a [`MemoryNode`] is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Workers at the start.
    pub workers: usize,
    /// Ports, each on a network of its own.
    pub ports: u8,
    /// Queues of each port.
    pub queues: u16,
    /// Frames in all.
    pub frames: u32,
    /// Slots of each ring of a port.
    pub port_ring: usize,
    /// The addresses of each port; its host has the one behind each.
    pub addresses: fn(u8) -> Vec<IpNet>,
    /// Packets that may wait for a next hop at a worker.
    pub parked: u32,
    /// Whether the hosts are known; otherwise the router asks for them, and whoever holds the
    /// wires answers with [`MemoryNode::answer`].
    pub hosts_known: bool,
    /// Bounds and times of the neighbours of a port.
    pub neighbours: OwnerLimits,
    /// ICMP errors that one worker may send in a second.
    pub icmp_errors: u32,
    /// How long a flow may be idle.
    pub flow_timeout: Duration,
    /// Bounds of the node.
    pub limits: Limits,
    /// Whether a NAT chooses ports by another hash than flows are steered by, as it must not.
    pub ports_astray: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let limits = Limits {
            workers_max: 8,
            instances_max: 64,
            ring: 256,
            flows_per_bucket: 64,
            own_flows: 4096,
            hold: 1024,
            shares_max: 8,
            share: weir_state_transfer::share::Limits::default(),
            moves_max: 64,
            step_timeout: Duration::from_secs(1),
            capacity_ns: 1_000_000_000,
            functions: ChainConfig::default(),
            events: EventLimits::default(),
        };
        Self {
            workers: 2,
            ports: 2,
            queues: 2,
            frames: 1024,
            port_ring: 64,
            addresses: |port| vec![format!("10.0.{port}.1/24").parse().expect("an address")],
            parked: 64,
            hosts_known: true,
            neighbours: OwnerLimits {
                entries_max: 64,
                unresolved_max: 16,
                retry: Duration::from_secs(1),
                tries: 3,
                reachable: Duration::from_secs(3600),
                requests_per_second: 1000,
            },
            icmp_errors: 1000,
            flow_timeout: Duration::from_secs(60),
            limits,
            ports_astray: false,
        }
    }
}

impl MemoryNode {
    /// Makes the node and lets it come to rest; its ports' hosts are known neighbours, if the
    /// plan does not say otherwise.
    pub fn new(plan: &Plan, seed: u64) -> Self {
        let mut stepped = Self::just_booted(plan, seed);
        stepped.settle();
        stepped
    }

    /// Makes the node, whose workers have not had a turn.
    pub fn just_booted(plan: &Plan, seed: u64) -> Self {
        let (region, frames) = Region::heap(plan.frames, FrameSize::B2048);
        let (homes, memory) = (Homes::new(&region), region.clone());
        // Ports are stocked before there are workers whose the frames are, as those of a program that
        // starts: with frames of all of them.
        let mut pool = Pool::new(HomeId(0), &homes);
        pool.adopt(frames);
        let adjacencies = AdjacencyTable::new(plan.ports, 64);
        let mut wires = BTreeMap::new();
        let ports =
            (0..plan.ports).map(|port| stocked(port, plan, &adjacencies, &mut pool, &mut wires));
        let ports: Vec<_> = ports.collect();
        let steering_hash = SteeringHash::new(steering_key(seed));
        let chosen_by = SteeringHash::new(steering_key(seed + u64::from(plan.ports_astray)));
        let steering = Steering::new(chosen_by, FIRST, 65_536);
        let nat = plan.limits.functions.nat_rules();
        let outside = nat.map(Rules::outside).unwrap_or_default();
        let (routes, mut writer) =
            RouteTable::new(RouteLimits { routes_max: 1024, next_hops_max: 64, groups_max: 64 });
        let mut addresses = Vec::new();
        for port in 0..plan.ports {
            let nets = (plan.addresses)(port);
            let hop = NextHop { port: PortId(port), via: None };
            for net in &nets {
                writer.add(net.trunc(), hop).expect("the table has room");
            }
            let nets = PortAddresses::new(PortId(port), port_mac(port), nets);
            addresses.push(nets.expect("addresses of a host").with_outside(&outside));
        }
        let shared = Shared {
            region,
            homes: homes.clone(),
            steered: Arc::new(Steered::first(steering)),
            steering_hash: Arc::new(FlowHash::new(steering_hash, nat)),
            routes,
            adjacencies,
            addresses: LocalAddresses::new(&addresses, &outside),
            ports: addresses.iter().map(|port| PortFacts { mac: port.mac(), mtu: 1500 }).collect(),
            port_addresses: addresses.into(),
            neighbours_max: 64 * usize::from(plan.ports),
            flow_timeout: plan.flow_timeout,
            park: ParkedLimits { packets_max: plan.parked, each_max: plan.parked },
            icmp_errors: plan.icmp_errors,
        };
        let identity = Identity { incarnation: seed, pid: 0, poll: "stepped" };
        let cores = vec![None; plan.workers];
        let hasher = FlowHasher::with_seed(seed);
        let limits = plan.limits.clone();
        let mut node = Node::new(identity, limits, shared, writer, hasher, "sw1", &cores);
        for port in ports {
            node.add_port(port);
        }
        // The workers find the others in the region and take them home.
        drop(pool.take_free().collect::<Vec<Frame>>());
        Self {
            node,
            workers: BTreeMap::new(),
            wires,
            now: START,
            records: Vec::new(),
            homes,
            _region: memory,
        }
    }

    /// Lets the node take its events and make its workers.
    pub fn step_node(&mut self) {
        self.node.handle_events(self.now);
        while let Some(spawn) = self.node.poll_spawn() {
            self.workers.insert(spawn.worker.id(), *spawn.worker);
        }
        self.records.extend(std::iter::from_fn(|| self.node.poll_record()));
    }

    /// One poll round of a worker; whether it did anything. A fault that was asked for is survived
    /// as its supervisor would; any other panic is a defect and goes on.
    pub fn step_worker(&mut self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let now = self.now;
        let round = std::panic::AssertUnwindSafe(|| worker.poll(now));
        let work = std::panic::catch_unwind(round);
        let work = match work {
            Ok(work) => work,
            Err(panic) if panic.downcast_ref::<&str>() == Some(&FAULT) => {
                worker.recover();
                return true;
            }
            Err(panic) => std::panic::resume_unwind(panic),
        };
        if worker.is_retired() {
            self.workers.remove(&id);
        }
        work.packets > 0 || work.busy
    }

    /// Rounds of everybody, with time passing, until nobody has anything to do. Wires are left
    /// alone: what must leave first, for a move to end, must have been taken.
    ///
    /// # Panics
    ///
    /// When that takes longer than anything does.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            if quiet == QUIET_ROUNDS {
                return;
            }
            self.now = Nanos(self.now.0 + 1_000_000);
            self.step_node();
            let ids: Vec<_> = self.workers.keys().copied().collect();
            let busy = ids.into_iter().fold(false, |busy, id| self.step_worker(id) | busy);
            quiet = if busy || !self.node.is_quiet() { 0 } else { quiet + 1 };
        }
        let workers: Vec<_> = self.workers.keys().copied().collect();
        let busy: Vec<_> = workers.into_iter().filter(|id| self.step_worker(*id)).collect();
        let (moves, shares) = (self.node.list_moves(), self.node.list_shares());
        panic!("the node does not come to rest: busy {busy:?}, moves {moves:?}, shares {shares:?}");
    }

    /// Takes what the router has sent at a queue, if anything, and completes its frame.
    pub fn take(&mut self, port: PortId, queue: u16) -> Option<Vec<u8>> {
        let wire = self.wires.get_mut(&(port, queue))?;
        let frame: Frame = wire.take()?;
        let packet = frame.data().to_vec();
        wire.complete(frame);
        Some(packet)
    }

    /// The host at a port answers a request of the router for its link address (RFC 826); its
    /// answer comes in by a queue. Whether the port could receive it.
    pub fn answer(&mut self, port: PortId, queue: u16) -> bool {
        self.arp(port, queue, 2)
    }

    /// The host at a port asks for the link address of the router; its request comes in by a
    /// queue. Whether the port could receive it.
    pub fn ask(&mut self, port: PortId, queue: u16) -> bool {
        self.arp(port, queue, 1)
    }

    fn arp(&mut self, port: PortId, queue: u16, operation: u8) -> bool {
        let PortId(number) = port;
        let (router, host_ip) = (port_mac(number).0, host(number).octets());
        let header = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
        let mut frame = [&router[..], &host_mac(number).0, &header].concat();
        frame.extend(host_mac(number).0.iter().chain(&host_ip));
        frame.extend(router.iter().chain(&[host_ip[0], host_ip[1], number, 1]));
        self.wires.get_mut(&(port, queue)).is_some_and(|wire| wire.inject(&frame))
    }
}

/// A port whose queues have frames to receive into, and the far ends of these.
fn stocked(
    port: u8,
    plan: &Plan,
    adjacencies: &AdjacencyTable,
    pool: &mut Pool,
    wires: &mut BTreeMap<(PortId, u16), Wire>,
) -> PortSetup {
    let id = PortId(port);
    let mut queues = Vec::new();
    for queue in 0..plan.queues {
        let (rx, tx, wire) = memory(plan.port_ring);
        wires.insert((id, queue), wire);
        let mut rx = RxQueue::new(id, queue, false, Rx::Memory(rx));
        // Stocked with frames before the first packet arrives.
        rx.receive(pool, &mut Default::default());
        queues.push((rx, TxQueue::new(id, Tx::Memory(tx))));
    }
    let mut owner = Owner::new(id, plan.neighbours, adjacencies.clone());
    let addresses = (plan.addresses)(port);
    for address in addresses.iter().filter(|_| plan.hosts_known) {
        owner.add_static(behind(address.addr()), host_mac(port), START);
    }
    PortSetup {
        id,
        name: format!("sap{port}"),
        backend: "memory",
        device: String::new(),
        mac: port_mac(port),
        addresses,
        mtu: 1500,
        mode: "memory".to_owned(),
        mode_notes: Vec::new(),
        way_out: WayOut::One,
        queues,
        owner,
        kernel: None,
    }
}

/// The address of the host at a port.
pub fn host(port: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, port, 2)
}

/// The link address of the host at a port.
pub fn host_mac(port: u8) -> MacAddr {
    MacAddr([2, 0, 0, 1, 0, port])
}

/// The link address of a port.
pub fn port_mac(port: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, port])
}

/// The address behind an address.
fn behind(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + 1).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + 1).into(),
    }
}

/// A key under which all buckets are used.
fn steering_key(seed: u64) -> u16 {
    weir_state_transfer::steering_hash::random_key(seed)
}

/// The time at which a node is made.
const START: Nanos = Nanos(1);
/// Rounds in which nobody has anything to do, after which nobody will have.
const QUIET_ROUNDS: usize = 8;
/// Rounds in which everything comes to rest.
const ROUNDS_MAX: usize = 100_000;
/// What a worker says when it panics because `Node::panic_worker` was called.
pub const FAULT: &str = "a fault that was asked for";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_worker_has_lent_more_of_its_frames_to_the_ports_than_another() {
        let plan = Plan {
            workers: 3,
            queues: 3,
            ports: 4,
            port_ring: 128,
            frames: 4096,
            ..Plan::default()
        };
        let node = MemoryNode::new(&plan, 7);
        let free: Vec<_> =
            node.workers.values().map(|worker| worker.counters().frames.free.get()).collect();
        assert_eq!(free.iter().sum::<u64>(), 4096 - 4 * 3 * 128);
        let partition = node.homes.partition_len(0) as u64;
        let (least, most) = (free.iter().min().unwrap(), free.iter().max().unwrap());
        assert!(most - least <= 2 * partition, "{free:?}");
    }
}
