//! Our firewall: a node over memory ports with one instance that runs it. No time passes.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use ipnet::IpNet;
use weir_dataplane::nf::firewall::{Config, Limits, Rules};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp};
use weir_dataplane::node::FIRST;
use weir_dataplane::route_table::NextHop;
use weir_state_transfer::{PortId, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan, host_mac, port_mac};
use weir_testbed::trace::readdress;

use super::verdict::Verdict;
use crate::model;

const IN: u8 = 0;
const OUT: u8 = 1;

pub(crate) struct Ours(MemoryNode);

impl Ours {
    /// A router whose firewall has these rules, with a default route of each family.
    pub(crate) fn new(pick_up: bool, rules: Rules, limits: Limits) -> Self {
        let config = Config { rules, limits, tracking: model::settings(pick_up) };
        let functions = vec![FunctionConfig::Firewall(config)];
        let mut plan = Plan { workers: 1, queues: 1, addresses, ..Plan::default() };
        plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
        // All that are rejected are answered, though no time passes.
        plan.icmp_errors = u32::MAX;
        let mut stepped = MemoryNode::new(&plan, 1);
        for (prefix, via) in [("0.0.0.0/0", "100.127.1.2"), ("::/0", "2001:db8:ffff:1::2")] {
            let hop = NextHop { port: PortId(OUT), via: Some(via.parse().unwrap()) };
            stepped.node.set_route(prefix.parse().unwrap(), hop).unwrap();
        }
        stepped.settle();
        Self(stepped)
    }

    /// What becomes of a packet.
    pub(crate) fn judge(&mut self, frame: &[u8]) -> Verdict {
        let [to, from] = [port_mac(IN).0, host_mac(IN).0];
        let wire = self.0.wires.get_mut(&(PortId(IN), 0)).unwrap();
        assert!(wire.inject(&readdress(frame, to, from)), "no frame to receive into");
        let mut out = Vec::new();
        while self.0.step_worker(WorkerId(0)) {
            for port in [IN, OUT] {
                out.extend(std::iter::from_fn(|| self.0.take(PortId(port), 0)));
            }
        }
        Verdict::of(frame, &out)
    }

    /// What its firewall has counted.
    pub(crate) fn counted(&mut self) -> BTreeMap<String, u64> {
        let (to, from) = channel();
        self.0.node.report_nfs(FIRST, to);
        self.0.settle();
        from.into_iter().flatten().flat_map(|report| report.counters).collect()
    }
}

/// Networks that no packet is of.
fn addresses(port: u8) -> Vec<IpNet> {
    let nets = [format!("100.127.{port}.1/24"), format!("2001:db8:ffff:{port}::1/64")];
    nets.iter().map(|net| net.parse().expect("an address")).collect()
}
