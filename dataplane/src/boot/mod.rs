//! From a checked configuration to a node whose workers wait for their threads.
//!
//! Whatever can fail does so here, before a packet is moved: memory, devices, sockets, files.

mod af_xdp;
mod files;
mod memory;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use weir_frame::{Frame, HomeId, Homes, Pool};
use weir_state_transfer::{InstanceId, PortId, SteeringHash, steering_hash};

use crate::config::{Backend, Config, Transmit};
use crate::driver::{Clock, Poll};
use crate::instance::FlowHasher;
use crate::local::{BadAddresses, LocalAddresses, PortAddresses};
use crate::neighbour::{AdjacencyTable, Owner, OwnerLimits, ParkedLimits};
use crate::nf::ids::Timestamp;
use crate::nf::nat::Rules;
use crate::nf::{ChainConfig, ChainError};
use crate::node::{Identity, Kernel, Limits, Node, NodeError, PortSetup, WayOut};
use crate::packet::MacAddr;
use crate::policy::PolicyMatch;
use crate::port::pcap::CaptureError;
use crate::port::{RxQueue, TxQueue};
use crate::route_table::{NextHop, RouteTable};
use crate::steering::{FlowHash, Steering};
use crate::worker::{PortFacts, Shared, Steered};
use af_xdp::Attached;
use memory::Memory;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// There is no memory for the frames.
    #[error("no memory for {frames} frames of {bytes} bytes: lower rings, hold or frames")]
    Memory {
        /// How many.
        frames: u32,
        /// Bytes of each.
        bytes: usize,
        /// What the system says.
        source: io::Error,
    },
    /// A network function can not be set up as it should be.
    #[error(transparent)]
    Functions(#[from] ChainError),
    /// There is no randomness.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// A device or its socket cannot be used.
    #[error("port {port}")]
    Device {
        /// The port.
        port: String,
        /// Why.
        source: weir_xdp::Error,
    },
    /// A device has more queues than the port polls.
    #[error(
        "port {port}: {device} has {has} rx queues and the port polls {polls}; the packets of the \
         others would pass the router by: set queues = {has} in [[port]], or give {device} \
         {polls} queues"
    )]
    Queues {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// Its queues.
        has: u32,
        /// The port's.
        polls: u8,
    },
    /// A port that is to send live frames can not.
    #[error(
        "port {port} cannot send live frames by {device}: {why}; or let packets leave by the socket, \
         with transmit = \"socket\" in [[port]]"
    )]
    LiveFrames {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// What is in the way, and what to do about it.
        why: String,
    },
    /// A capture file cannot be used.
    #[error("port {port}")]
    Capture {
        /// The port.
        port: String,
        /// Why.
        source: CaptureError,
    },
    /// A port cannot have its addresses.
    #[error("port {port}")]
    Addresses {
        /// The port.
        port: String,
        /// Why.
        source: BadAddresses,
    },
    /// A route does not fit.
    #[error("route {prefix}")]
    Route {
        /// Its prefix.
        prefix: ipnet::IpNet,
        /// Why.
        source: NodeError,
    },
    /// The policy routes do not fit.
    #[error("policy routes")]
    PolicyRoutes(#[source] NodeError),
}

/// A port that has been opened and is not part of a node yet.
struct Opened {
    id: PortId,
    config: crate::config::Port,
    mac: MacAddr,
    mtu: u16,
    mode: String,
    mode_notes: Vec<String>,
    way_out: WayOut,
    queues: Vec<(RxQueue, TxQueue)>,
    kernel: Option<Arc<dyn Kernel>>,
}

/// The numbers that are drawn anew at each start.
struct Drawn {
    incarnation: u64,
    flow_seed: u64,
    steering: u64,
}

/// Takes the memory, opens the ports and makes the node, whose drop takes them off their devices.
/// `transmit` overrides what is configured of the way out of ports.
///
/// # Errors
///
/// [`BootError`]; everything that was opened is closed again.
pub fn boot(
    config: &Config,
    poll: Poll,
    transmit: Option<Transmit>,
    clock: Clock,
) -> Result<Node, BootError> {
    let functions = functions(config, clock)?;
    let drawn = Drawn::draw()?;
    let attached = af_xdp::attach(config, transmit)?;
    let (memory, frames) = Memory::take(config, &attached)?;
    let region = memory.region().clone();
    let homes = Homes::new(&region);
    let mut pool = Pool::new(HomeId(0), &homes);
    pool.adopt(frames);
    let opened = open(config, attached, &memory, &mut pool)?;
    let outside = functions.nat_rules().map(Rules::outside).unwrap_or_default();
    let addresses: Vec<PortAddresses> =
        opened.iter().map(|port| port.addresses(&outside)).collect::<Result<_, _>>()?;
    let (routes, writer) = RouteTable::new(*config.route_table());
    let adjacencies = adjacency_table(config, opened.len());
    let key = config.steering().key.unwrap_or_else(|| steering_hash::random_key(drawn.steering));
    let steering_hash = SteeringHash::new(key);
    let exact_max = config.steering().exact_max as usize;
    let steering = Steering::new(steering_hash.clone(), FIRST, exact_max);
    let neighbour = config.neighbour();
    let shared = Shared {
        region,
        homes,
        steered: Arc::new(Steered::first(steering)),
        steering_hash: Arc::new(FlowHash::new(steering_hash, functions.nat_rules())),
        routes,
        adjacencies: adjacencies.clone(),
        addresses: LocalAddresses::new(&addresses, &outside),
        port_addresses: addresses.into(),
        neighbours_max: usize::from(config.neighbour().entries_max) * opened.len(),
        ports: opened.iter().map(|port| PortFacts { mac: port.mac, mtu: port.mtu }).collect(),
        flow_timeout: config.flow_table().idle_timeout,
        park: ParkedLimits { packets_max: neighbour.park, each_max: neighbour.park_each },
        icmp_errors: config.icmp().errors_per_second,
    };
    let identity =
        Identity { incarnation: drawn.incarnation, pid: std::process::id(), poll: poll.as_str() };
    let hasher = FlowHasher::with_seed(drawn.flow_seed);
    let cores: Vec<Option<usize>> =
        config.workers().iter().map(|worker| worker.core.map(usize::from)).collect();
    let first = config.instance().name.as_str();
    let mut node =
        Node::new(identity, limits(config, functions), shared, writer, hasher, first, &cores);
    for port in opened {
        let owner = Owner::new(port.id, owner_limits(config), adjacencies.clone());
        node.add_port(port.setup(owner));
    }
    add_routes(&mut node, config)?;
    // What the ports have not borrowed comes home to the region, where the workers find it.
    drop(pool.take_free().collect::<Vec<Frame>>());
    Ok(node)
}

/// The instance that owns every flow at the start.
const FIRST: InstanceId = InstanceId(1);

impl Drawn {
    fn draw() -> Result<Self, BootError> {
        let draw = || getrandom::u64().map_err(BootError::Random);
        Ok(Self { incarnation: draw()?, flow_seed: draw()?, steering: draw()? })
    }
}

/// Opens all ports. Their queues are stocked with frames before the first packet can arrive.
fn open(
    config: &Config,
    attached: Vec<Attached<'_>>,
    memory: &Memory,
    pool: &mut Pool,
) -> Result<Vec<Opened>, BootError> {
    let mut sockets = af_xdp::Sockets::new(memory, &attached);
    let mut attached = attached.into_iter();
    let mut opened = Vec::with_capacity(config.ports().len());
    for (n, port) in config.ports().iter().enumerate() {
        let id = PortId(u8::try_from(n).expect("a configuration has at most 64 ports"));
        let port = match &port.backend {
            Backend::AfXdp { .. } => {
                let attached = attached.next().expect("each such port has been attached");
                sockets.open(id, attached, config, memory, pool)?
            }
            Backend::Pcap { rx, tx, mac } => {
                files::open(id, port, rx.as_deref(), tx.as_deref(), *mac)?
            }
        };
        let (name, queues) = (&port.config.name, port.queues.len());
        let way_out = port.way_out.as_str();
        tracing::info!(port = %name, mode = port.mode, way_out, queues, notes = ?port.mode_notes, "opened");
        opened.push(port);
    }
    Ok(opened)
}

fn limits(config: &Config, functions: ChainConfig) -> Limits {
    let (process, flows, moves) = (config.process(), config.flow_table(), config.moves());
    Limits {
        workers_max: usize::from(process.workers_max),
        instances_max: usize::from(process.instances_max),
        ring: process.handover_ring as usize,
        flows_per_bucket: flows.flows_per_bucket as usize,
        own_flows: flows.own_flows as usize,
        hold: moves.hold as usize,
        shares_max: config.shares().shares_max as usize,
        share: config.shares().limits(),
        moves_max: moves.moves_max as usize,
        step_timeout: moves.step_timeout,
        capacity_ns: config.instance().capacity_ns,
        functions,
        events: config.events(),
    }
}

/// The network functions of every instance. Their records have the time of day, which is read here,
/// once: it goes on as the clock of the packets does.
fn functions(config: &Config, clock: Clock) -> Result<ChainConfig, BootError> {
    let day = Timestamp(u64::try_from(clock.since_1970().as_nanos()).unwrap_or(u64::MAX));
    let functions = config.nfs().iter().map(|nf| nf.function.clone()).collect();
    Ok(ChainConfig::new(functions, day)?)
}

fn owner_limits(config: &Config) -> OwnerLimits {
    let neighbour = config.neighbour();
    OwnerLimits {
        entries_max: neighbour.entries_max,
        unresolved_max: neighbour.unresolved_max,
        retry: neighbour.retry,
        tries: neighbour.tries,
        reachable: neighbour.reachable,
        requests_per_second: neighbour.requests_per_second,
    }
}

fn adjacency_table(config: &Config, ports: usize) -> AdjacencyTable {
    let ports = u8::try_from(ports).expect("a configuration has at most 64 ports");
    AdjacencyTable::new(ports, config.neighbour().entries_max)
}

/// The connected networks, and the routes of the configuration.
fn add_routes(node: &mut Node, config: &Config) -> Result<(), BootError> {
    let port_id = |n: usize| PortId(u8::try_from(n).expect("a configuration has at most 64 ports"));
    let connected = config.ports().iter().enumerate().flat_map(|(n, port)| {
        port.addresses.iter().map(move |net| (net.trunc(), NextHop { port: port_id(n), via: None }))
    });
    let configured = config
        .routes()
        .iter()
        .map(|route| (route.prefix, NextHop { port: port_id(route.port), via: route.via }));
    for (prefix, hop) in connected {
        node.set_route(prefix, hop).map_err(|source| BootError::Route { prefix, source })?;
    }
    for (prefix, hop) in configured {
        let added = node.add_configured_route(prefix, hop);
        added.map_err(|source| BootError::Route { prefix, source })?;
    }
    let policies = config.policy_routes().iter().map(|policy| {
        let matches = PolicyMatch { filter: policy.filter, from: policy.from.map(port_id) };
        let hop = NextHop { port: port_id(policy.port), via: policy.via };
        (policy.name.clone(), matches, hop)
    });
    node.add_configured_policies(policies.collect()).map_err(BootError::PolicyRoutes)
}

impl Opened {
    /// Its addresses, and of those outside of a NAT the ones on its networks.
    fn addresses(&self, outside: &BTreeSet<IpAddr>) -> Result<PortAddresses, BootError> {
        let own = PortAddresses::new(self.id, self.mac, self.config.addresses.iter().copied());
        own.map(|own| own.with_outside(outside))
            .map_err(|source| BootError::Addresses { port: self.config.name.to_string(), source })
    }

    fn setup(self, owner: Owner) -> PortSetup {
        let (backend, device) = match &self.config.backend {
            Backend::AfXdp { device, .. } => ("af_xdp", device.as_str().to_owned()),
            Backend::Pcap { .. } => ("pcap", String::new()),
        };
        PortSetup {
            id: self.id,
            name: self.config.name.to_string(),
            backend,
            device,
            mac: self.mac,
            addresses: self.config.addresses,
            mtu: self.mtu,
            mode: self.mode,
            mode_notes: self.mode_notes,
            queues: self.queues,
            owner,
            way_out: self.way_out,
            kernel: self.kernel,
        }
    }
}
