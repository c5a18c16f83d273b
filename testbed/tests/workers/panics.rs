//! A panic costs the packet that the worker had in hand, wherever on its way that was.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Once;

use etherparse::PacketBuilder;
use weir_dataplane::nf::{ChainConfig, FunctionConfig, ids};
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::{PortId, WorkerId};
use weir_testbed::memory_node::{FAULT, MemoryNode, Plan, host, host_mac, port_mac};

use crate::{drops_at_rest, inject, packet, settle, take};

/// Packets of a burst, each of a flow of its own.
const PACKETS: u8 = 6;
/// The worker that runs the instance. It polls queue 0 of port 0; the other worker polls queue 1,
/// and queue 0 of port 1.
const WORKER: WorkerId = WorkerId(0);
const IN: PortId = PortId(0);
const OUT: PortId = PortId(1);
/// A host at the way out that nobody has heard of.
const UNKNOWN: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 77);

/// Lets no fault that was asked for be told of.
pub(super) fn mute() {
    static MUTED: Once = Once::new();
    MUTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&FAULT) {
                before(panic);
            }
        }));
    });
}

/// The node for a stage: with one queue a port, the worker transmits for the other too.
fn node(stage: FaultStage) -> MemoryNode {
    mute();
    let queues = if stage == FaultStage::Transmitted { 1 } else { 2 };
    let mut plan = Plan { queues, ..Plan::default() };
    if stage == FaultStage::Function {
        let functions = vec![FunctionConfig::Ids(ids::Config::default())];
        plan.limits.functions = ChainConfig::new(functions, ids::Timestamp(0)).unwrap();
    }
    MemoryNode::new(&plan, 1)
}

fn ask(stepped: &mut MemoryNode, stage: FaultStage, packets: u64) {
    stepped.node.panic_worker(WORKER, Fault { stage, packets }).unwrap();
}

/// The last bytes of UDP packets and echo replies, which name them.
fn names(packets: &[Vec<u8>]) -> Vec<u8> {
    let is_arp = |packet: &&Vec<u8>| packet[12..14] == [8, 6];
    packets.iter().filter(|packet| !is_arp(packet)).map(|packet| packet[packet.len() - 1]).collect()
}

/// A burst on its way through a stage; the packets that come out again, at rest.
fn burst(stepped: &mut MemoryNode, stage: FaultStage) -> Vec<u8> {
    for n in 0..PACKETS {
        let port = 1000 + u16::from(n);
        let (place, packet) = match stage {
            FaultStage::Local => ((IN, 0), echo(IN, n)),
            FaultStage::Transmitted => ((OUT, 0), echo(OUT, n)),
            FaultStage::Resolved => ((IN, 0), packet(port, UNKNOWN, &[n; 8])),
            FaultStage::Taken => ((IN, 1), packet(port, host(1), &[n; 8])),
            _ => ((IN, 0), packet(port, host(1), &[n; 8])),
        };
        inject(stepped, place, &packet);
    }
    let by = if stage == FaultStage::Local { IN } else { OUT };
    if stage == FaultStage::Resolved {
        stepped.settle();
        let asked = take(stepped, OUT);
        assert!(asked.iter().any(|packet| packet[12..14] == [8, 6]), "{asked:02x?}");
        inject(stepped, (OUT, 0), &arp_reply());
    }
    names(&settle(stepped, by))
}

/// A ping of the router.
fn echo(PortId(port): PortId, n: u8) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(host_mac(port).0, port_mac(port).0);
    let mut packet = Vec::new();
    let echo = ethernet.ipv4(host(port).octets(), [10, 0, port, 1], 64);
    echo.icmpv4_echo_request(1, u16::from(n)).write(&mut packet, &[n; 8]).unwrap();
    packet
}

/// The unknown host says where it is.
fn arp_reply() -> Vec<u8> {
    let (host, router) = (host_mac(1).0, port_mac(1).0);
    let mut packet = [&router[..], &host, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    packet.extend([&host[..], &UNKNOWN.octets(), &router, &[10, 0, 1, 1]].concat());
    packet
}

#[test]
fn a_panic_at_any_stage_costs_one_packet_which_is_counted() {
    for stage in FaultStage::ALL {
        let mut stepped = node(stage);
        ask(&mut stepped, stage, 3);
        let left = burst(&mut stepped, stage);
        assert_eq!(left, [0, 1, 3, 4, 5], "{stage:?}");
        let drops = drops_at_rest(&stepped);
        let one = BTreeMap::from([("worker_panic".to_owned(), 1)]);
        assert_eq!(drops, Ok(one), "{stage:?}");
        assert_eq!(stepped.node.list_workers()[0].restarts, 1, "{stage:?}");
    }
}

#[test]
fn a_panic_between_two_packets_costs_none() {
    for stage in FaultStage::ALL {
        let mut stepped = node(stage);
        assert_eq!(burst(&mut stepped, stage), [0, 1, 2, 3, 4, 5], "{stage:?}");
        ask(&mut stepped, stage, 0);
        stepped.settle();
        assert_eq!(stepped.node.list_workers()[0].restarts, 1, "{stage:?}");
        assert_eq!(drops_at_rest(&stepped), Ok(BTreeMap::new()), "{stage:?}");
    }
}

#[test]
fn a_flow_is_given_up_from_its_entry_on() {
    for (stage, known, poisoned) in [
        (FaultStage::Forwarding, false, true),
        (FaultStage::Forwarding, true, true),
        (FaultStage::Function, false, true),
        (FaultStage::Function, true, true),
        (FaultStage::Received, true, false),
        (FaultStage::Delivered, false, false),
    ] {
        let case = format!("{stage:?}, known before: {known}");
        let mut stepped = node(stage);
        let send = |stepped: &mut MemoryNode| {
            inject(stepped, (IN, 0), &packet(1000, host(1), &[7]));
            names(&settle(stepped, OUT)).len()
        };
        if known {
            assert_eq!(send(&mut stepped), 1, "{case}");
        }
        ask(&mut stepped, stage, 1);
        assert_eq!(send(&mut stepped), 0, "{case}");
        let after = if poisoned { 0 } else { 1 };
        assert_eq!(send(&mut stepped), after, "{case}");
        let drops = drops_at_rest(&stepped).unwrap();
        assert_eq!(drops.get("worker_panic"), Some(&1), "{case}");
        assert_eq!(drops.contains_key("poisoned"), poisoned, "{case}");
    }
}

/// What the tests above compare would show a packet that is lost without a counter.
#[test]
fn a_packet_that_vanishes_shows() {
    let mut stepped = node(FaultStage::Taken);
    let worker = stepped.workers.get_mut(&WORKER).unwrap();
    let mut splice = worker.splice(WorkerId(1), 256).unwrap();
    inject(&mut stepped, (IN, 1), &packet(1000, host(1), &[7]));
    stepped.settle();
    drop(splice.take().expect("worker 1 hands the packet over"));
    splice.flush();
    assert_eq!(settle(&mut stepped, OUT), Vec::<Vec<u8>>::new());
    drops_at_rest(&stepped).unwrap_err();
}
