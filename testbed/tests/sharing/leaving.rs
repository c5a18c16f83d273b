//! A home that leaves while its packets go on: what it lets begin meanwhile is counted.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_state_transfer::share::Mode;
use weir_state_transfer::{FlowKey, InstanceId, ServiceId, SteeringHash, protocol, steering_hash};
use weir_testbed::memory_node::{MemoryNode, host, host_mac, port_mac};

use crate::by_hand::sources;
use crate::setup::{IN, OUT, SEED, end_all, node, phase, plan, start_share_of};

/// Sources: more than are handed over in one poll round.
const SOURCES: u16 = 600;

/// A source begins a connection at an instance.
fn begin(node: &mut MemoryNode, at: InstanceId, source: u16, first: u16) {
    let owners = node.node.show_steering().owners;
    let hash = SteeringHash::new(steering_hash::random_key(SEED));
    let address = Ipv4Addr::from_bits(0x0a09_0000 + u32::from(source));
    let owner = |sport: u16| {
        let ports = (sport, 53);
        let key = FlowKey::v4(address, host(OUT.0), ports, protocol::UDP, ServiceId(0));
        InstanceId(owners[hash.bucket(&key).index()])
    };
    let sport = (first..).find(|sport| owner(*sport) == at).unwrap();
    let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
        .ipv4(address.octets(), host(OUT.0).octets(), 64)
        .udp(sport, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[]).unwrap();
    assert!(node.wires.get_mut(&(IN, 0)).unwrap().inject(&packet));
}

fn take(node: &mut MemoryNode) -> usize {
    (0..3).map(|queue| std::iter::from_fn(|| node.take(OUT, queue)).count()).sum()
}

#[test]
fn nothing_that_begins_at_a_home_that_leaves_is_forgotten() {
    for mode in [Mode::Strong, Mode::Strict] {
        let mut plan = plan(3, 3);
        plan.limits.share.slots = 1;
        let (mut node, ids) = node(&plan, 3, SEED);
        let share = start_share_of(&mut node, &ids, "any", mode).unwrap();
        node.settle();
        let mut left = 0;
        for source in 0..SOURCES {
            begin(&mut node, ids[0], source, 1000);
            if source % 32 == 31 {
                node.settle();
                left += take(&mut node);
            }
        }
        node.settle();
        left += take(&mut node);
        assert_eq!(left, usize::from(SOURCES));
        let knows = |node: &mut MemoryNode, id: &InstanceId| sources(node, *id) > 0;
        let home = *ids.iter().find(|id| knows(&mut node, id)).unwrap();
        let others: Vec<_> = ids.iter().copied().filter(|id| *id != home).collect();
        let (change, now) = (api::Change::default(), node.now);
        node.node.change_share(&change, share, &others, now).unwrap();
        // Of those that are copied first another begins in each round.
        for source in 0..60 {
            begin(&mut node, home, source, 20_000);
            node.step_node();
            let workers: Vec<_> = node.workers.keys().copied().collect();
            workers.into_iter().for_each(|worker| _ = node.step_worker(worker));
        }
        node.settle();
        assert_eq!(phase(&node, share), api::SharePhase::Steady);
        assert_eq!(take(&mut node), 60);
        end_all(&mut node);
        node.node.change_share(&change, share, &ids, node.now).unwrap();
        node.settle();
        end_all(&mut node);
        let known: u64 = ids.iter().map(|id| sources(&mut node, *id)).sum();
        assert_eq!(known, 0, "nobody has anything open");
    }
}
