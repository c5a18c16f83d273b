//! Attempts of a source that several instances see: together they are a scan.

use etherparse::PacketBuilder;
use weir_dataplane::nf::ids::{self, ScanConfig};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Record, Timestamp};
use weir_testbed::memory_node::{MemoryNode, host, host_mac, port_mac};

use crate::setup::{IN, OUT, end_all, node, plan, start_share};

const SEED: u64 = 7;
/// Attempts that are a scan, about.
const THRESHOLD: u32 = 40;

/// A source tries so many ports, which is seen by both instances, and nobody answers.
fn tries(node: &mut MemoryNode, ports: u16) {
    for port in 0..ports {
        let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
            .ipv4([10, 0, IN.0, 9], host(OUT.0).octets(), 64)
            .tcp(40_000, 1000 + port, 1, 1024)
            .syn();
        let mut packet = Vec::new();
        headers.write(&mut packet, &[]).unwrap();
        assert!(node.wires.get_mut(&(IN, port % 2)).unwrap().inject(&packet));
        node.settle();
        while (0..2).any(|queue| node.take(OUT, queue).is_some()) {}
    }
}

fn scans(node: &MemoryNode) -> usize {
    let is_scan = |record: &Record| matches!(record, Record::Ids(ids::Record::Scan(_)));
    node.records.iter().filter(|(_, record)| is_scan(record)).count()
}

#[test]
fn what_no_instance_would_take_for_a_scan_is_one_if_they_share() {
    for shares in [false, true] {
        let mut plan = plan(2, 1);
        let scan = ScanConfig { threshold: THRESHOLD, ..ScanConfig::default() };
        let config = ids::Config { scan, ..ids::Config::default() };
        let functions = vec![FunctionConfig::Ids(config)];
        plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
        let (mut node, ids) = node(&plan, 4, SEED);
        if shares {
            start_share(&mut node, &ids).unwrap();
            node.settle();
        }
        tries(&mut node, 2 * THRESHOLD as u16);
        assert_eq!(scans(&node), 0, "they may yet be answered");
        end_all(&mut node);
        assert_eq!(scans(&node), usize::from(shares), "told once");
    }
}
