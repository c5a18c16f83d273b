//! The router as its users meet it: the real processes between four kernel hosts in namespaces.
//!
//! All need root and fail without it. Each makes its own namespaces and removes them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and tell")]

mod bad_input;
mod demo;
mod elastic_scaling;
mod experiment;
mod full_disk;
mod functions;
mod idling;
mod move_prefix;
mod moves;
mod nat;
mod northbound;
mod rapid_upgrade;
mod reachability;
mod readme;
mod refusals;
mod restart;
mod scan;
mod shares;
mod sidecar_death;
mod southbound;
mod steering;
mod way_out;
mod worker_death;
mod workers;

use weir_api::dataplane::v1::Port;
use weir_dataplane::instance::digest::digest;
use weir_testbed::dataplane::Dataplane;
use weir_testbed::node::{Node, Shape};
use weir_testbed::reference::mismatches;
use weir_testbed::topology::Topology;
use weir_testbed::traffic::{Options, Report, Traffic, warm_up};
use weir_testbed::wait::{LIMIT, until};
use weir_testbed::way_out::WayOut;

/// A node between four hosts that know each other. Dropped in this order.
pub(crate) struct Setup {
    pub(crate) dataplane: Dataplane,
    pub(crate) node: Node,
    pub(crate) topology: Topology,
}

impl Setup {
    pub(crate) fn new(shape: &Shape) -> Self {
        let topology = Topology::with_way_out(shape.queues, shape.way_out().unwrap()).unwrap();
        let node = Node::start(&topology, shape, None).unwrap();
        let dataplane = node.connect().unwrap();
        let setup = Self { dataplane, node, topology };
        warm_up(&setup.topology).unwrap();
        setup
    }

    /// Starts flows between all pairs of hosts, from a seed that is printed.
    pub(crate) fn traffic(&self, flows: usize, rate: u64) -> Traffic {
        let options = Options::new(flows, rate, weir_seed::seed(), digest);
        Traffic::start(&self.topology, options).unwrap()
    }

    /// Asserts that every packet arrived once, in order and unchanged, that the instances keep of
    /// each flow what a single one would, and that the packets balance without a drop.
    pub(crate) fn assert_exact(&self, report: &Report) {
        print_costs(report);
        let counters = self.dataplane.counters().unwrap();
        assert!(
            report.is_clean(),
            "{:?} of {} sent, {} lost, {} changed; {counters:?}",
            report.tally,
            report.sent,
            report.lost,
            report.changed
        );
        let balance = self.dataplane.balance_at_rest().unwrap();
        assert_eq!(balance.overload, 0, "{balance:?}");
        let wrong = mismatches(&self.dataplane.flows("").unwrap(), &report.states);
        assert!(wrong.is_empty(), "{} flows differ, such as {}", wrong.len(), wrong[0]);
        assert_eq!(self.transit_drops(), Vec::<String>::new());
        self.assert_way_out();
    }

    /// Asserts that packets left by the way of this run: nine in ten and more where it is live frames.
    fn assert_way_out(&self) {
        let ports = self.dataplane.ports().unwrap();
        let sum = |count: fn(&Port) -> u64| ports.iter().map(count).sum::<u64>();
        let (live, all) = (sum(|port| port.tx_live), sum(|port| port.tx_packets));
        println!("{live} of {all} packets left as live frames");
        match WayOut::of_run().unwrap() {
            WayOut::Frames => assert!(live * 10 >= all * 9, "{ports:?}"),
            WayOut::Socket => assert_eq!(live, 0, "{ports:?}"),
        }
    }

    /// Drops of packets that were to pass the router.
    pub(crate) fn transit_drops(&self) -> Vec<String> {
        let to_the_link = ["link_scope", "multicast_unsupported"];
        let drops = self.dataplane.counters().unwrap().drops.into_iter();
        drops
            .filter(|drop| drop.packets > 0 && !to_the_link.contains(&drop.reason.as_str()))
            .map(|drop| format!("{} {}", drop.packets, drop.reason))
            .collect()
    }
}

/// Waits until so many more packets have arrived.
pub(crate) fn let_flow(traffic: &Traffic, packets: u64) {
    let target = traffic.received() + packets;
    until("traffic to flow", LIMIT, || (traffic.received() >= target).then_some(())).unwrap();
}

fn print_costs(report: &Report) {
    println!(
        "{} packets in {:?}, {} ns of CPU time each in the testbed, latency {:?}",
        report.sent,
        report.elapsed,
        report.cpu_ns_a_packet(),
        report.latency
    );
}
