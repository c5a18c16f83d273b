//! Moves that take state of several flows along: what each source has begun, of which a firewall
//! lets a few connections at a time begin.

use std::sync::mpsc::channel;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::firewall::{Config, Limits, Rules};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, ids};
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::mark::{Guarantee, Request};
use weir_state_transfer::{InstanceId, MoveId, Selection, WorkerId};

use super::{DESTINATION, IN, OUT, SOURCE, node_of, phase, step};
use crate::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

/// Connections that a source may have open.
const OPEN: u16 = 3;
const BOTH: &[Scope] = &[Scope::PerFlow, Scope::MultiFlow];
/// A port of the host from which on connections are too many.
const TOO_MANY: u16 = 2000;

/// A node whose firewalls know so many sources, with another instance.
fn limited(sources_max: usize) -> (MemoryNode, InstanceId) {
    let rules = Rules::new(vec!["all: accept any".parse().unwrap()]).unwrap();
    let limits = Limits { connections_max: Some(OPEN.into()), sources_max, ..Limits::default() };
    let firewall = Config { rules, limits, ..Config::default() };
    let functions = vec![FunctionConfig::Firewall(firewall)];
    let mut plan = Plan { port_ring: 1024, frames: 16_384, ..Plan::default() };
    plan.limits.functions = ChainConfig::new(functions, ids::Timestamp(0)).unwrap();
    let (node, destinations) = node_of(&plan, 1, DESTINATION);
    (node, destinations[0])
}

/// A packet of a host of the first network comes in.
fn send(node: &mut MemoryNode, queue: u16, address: u8, sport: u16) {
    let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
        .ipv4([10, 0, IN.0, address], host(OUT.0).octets(), 64)
        .udp(sport, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[]).unwrap();
    assert!(node.wires.get_mut(&(IN, queue)).unwrap().inject(&packet));
}

/// The ports of the host from which packets have left.
fn left(node: &mut MemoryNode) -> Vec<u16> {
    let frames = std::iter::from_fn(|| (0..2).find_map(|queue| node.take(OUT, queue)));
    frames.map(|frame| u16::from_be_bytes([frame[34], frame[35]])).collect()
}

fn begin(node: &mut MemoryNode, to: InstanceId, filter: &str, scopes: &[Scope]) -> MoveId {
    begin_promising(node, to, filter, scopes, Guarantee::Ordered)
}

fn begin_promising(
    node: &mut MemoryNode,
    to: InstanceId,
    filter: &str,
    scopes: &[Scope],
    guarantee: Guarantee,
) -> MoveId {
    let selection = Selection::Filter(filter.parse().unwrap());
    let request = Request::new(FIRST, to, selection).scoped(scopes).unwrap();
    let request = Request { guarantee, ..request };
    let started = node.node.start_move(&api::Change::default(), request, true, node.now);
    MoveId(started.unwrap().id)
}

/// Sources that the firewall of an instance knows.
fn sources(node: &mut MemoryNode, instance: InstanceId) -> u64 {
    counted(node, instance, "sources")
}

/// What the firewall of an instance has counted by a name.
fn counted(node: &mut MemoryNode, instance: InstanceId, name: &str) -> u64 {
    let (to, pieces) = channel();
    node.node.report_nfs(instance, to);
    node.settle();
    let report = pieces.try_iter().flatten().find(|nf| nf.instance == instance).unwrap();
    report.counters.into_iter().find(|(counter, _)| counter == name).unwrap().1
}

fn refused(node: &MemoryNode) -> u64 {
    let drops = node.node.counters().drops;
    assert!(drops.iter().all(|drop| drop.reason == "firewall"), "{drops:?}");
    drops.iter().map(|drop| drop.packets).sum()
}

/// A source with as many connections as it may have is moved, while it asks for more in any
/// order of turns; how many of these have left.
fn one_too_many(seed: u64, scopes: &[Scope], guarantee: Guarantee) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut node, to) = limited(1024);
    (0..OPEN).for_each(|n| send(&mut node, 0, 9, 1000 + n));
    node.settle();
    let id = begin_promising(&mut node, to, "src=10.0.0.9/32", scopes, guarantee);
    let (mut asked, mut out) = (0, Vec::new());
    for _ in 0..200 {
        match rng.u8(..8) {
            0 | 1 => node.step_node(),
            2 | 3 => _ = node.step_worker(SOURCE),
            4 | 5 => _ = node.step_worker(DESTINATION),
            6 if asked < 20 => {
                send(&mut node, rng.u16(..2), 9, TOO_MANY + asked);
                asked += 1;
            }
            6 => {}
            _ => {
                send(&mut node, rng.u16(..2), 9, 1000 + rng.u16(..OPEN));
                out.extend(left(&mut node));
            }
        }
    }
    node.settle();
    out.extend(left(&mut node));
    assert_eq!(phase(&node, id), api::MovePhase::Done, "seed {seed}");
    let too_many = out.iter().filter(|sport| **sport >= TOO_MANY).count();
    assert_eq!(refused(&node) as usize + too_many, usize::from(asked), "seed {seed}: nothing else");
    too_many
}

#[test]
fn a_packet_whose_fate_depends_on_other_flows_finds_what_is_known_of_them() {
    let seeds = weir_seed::seeds(100);
    for guarantee in [Guarantee::LossFree, Guarantee::Ordered] {
        weir_seed::each(seeds.clone(), |seed| {
            assert_eq!(one_too_many(seed, BOTH, guarantee), 0, "{guarantee}");
        });
        // Without that state, the destination lets more begin.
        let per_flow = &[Scope::PerFlow];
        let noticed = seeds.clone().any(|seed| one_too_many(seed, per_flow, guarantee) > 0);
        assert!(noticed || weir_seed::given().is_some(), "{guarantee}");
    }
}

#[test]
fn what_the_destination_has_no_room_for_is_at_the_source_again_or_counted_as_lost() {
    for filled_up in [false, true] {
        let (mut node, to) = limited(2);
        for address in [11, 12] {
            send(&mut node, 0, address, 1000);
        }
        node.settle();
        left(&mut node);
        begin(&mut node, to, "src=10.0.0.8/29", BOTH);
        node.settle();
        assert_eq!((sources(&mut node, FIRST), sources(&mut node, to)), (0, 2));

        for address in [21, 22] {
            send(&mut node, 0, address, 1000);
        }
        node.settle();
        left(&mut node);
        let id = begin(&mut node, to, "src=10.0.0.21/32", BOTH);
        while node.node.show_move(id).unwrap().drained_ns == 0 {
            node.step_worker(SOURCE);
            node.step_worker(DESTINATION);
            node.step_node();
        }
        if filled_up {
            // It is received before the answer is taken.
            send(&mut node, 0, 23, 1000);
        }
        node.settle();
        let shown = node.node.show_move(id).unwrap();
        assert_eq!(shown.phase(), api::MovePhase::Done);
        let expected = (0, 1, u64::from(filled_up));
        assert_eq!((shown.multi_flow, shown.multi_flow_refused, shown.multi_flow_lost), expected);
        assert_eq!((sources(&mut node, FIRST), sources(&mut node, to)), (2, 2));
        assert_eq!(shown.flows, 1, "the flow has moved");
    }
}

#[test]
fn a_move_that_is_undone_leaves_state_of_several_flows_where_it_was() {
    let (mut node, to) = limited(1024);
    (0..OPEN).for_each(|n| send(&mut node, 0, 9, 1000 + n));
    step(&mut node, 20);
    // What has been sent lies on the wire, so that the source does not export.
    let id = begin(&mut node, to, "src=10.0.0.9/32", BOTH);
    step(&mut node, 20);
    assert_eq!(phase(&node, id), api::MovePhase::Draining);
    node.node.undo_move(id, node.now).unwrap();
    node.settle();
    assert_eq!(phase(&node, id), api::MovePhase::Undone);
    assert_eq!((sources(&mut node, FIRST), sources(&mut node, to)), (1, 0));
    send(&mut node, 1, 9, TOO_MANY);
    node.settle();
    assert!(left(&mut node).iter().all(|sport| *sport < TOO_MANY));
    assert_eq!(refused(&node), 1);
}

#[test]
fn state_of_several_flows_can_go_alone_or_with_everything() {
    let (mut node, to) = limited(1024);
    let hosts = 3..=202;
    for address in hosts.clone() {
        send(&mut node, 0, address, 1000);
        step(&mut node, 1);
    }
    node.settle();
    left(&mut node);
    let alone = begin(&mut node, to, "src=10.0.0.0/25", &[Scope::MultiFlow]);
    node.settle();
    let shown = node.node.show_move(alone).unwrap();
    assert_eq!(shown.phase(), api::MovePhase::Done);
    let moved = hosts.clone().filter(|address| *address < 128).count() as u64;
    assert_eq!((shown.flows, shown.buckets_moved, shown.multi_flow), (0, 0, moved));
    assert!(node.node.show_steering().rules.is_empty(), "no flow has another owner");
    assert_eq!((sources(&mut node, FIRST), sources(&mut node, to)), (200 - moved, moved));

    let all = begin(&mut node, to, "any", BOTH);
    node.settle();
    let shown = node.node.show_move(all).unwrap();
    assert_eq!((shown.flows, shown.buckets_moved), (200, 4096), "by bucket, as it is cheaper");
    assert_eq!(shown.multi_flow, 200 - moved);
    assert_eq!((sources(&mut node, FIRST), sources(&mut node, to)), (0, 200));
    assert_eq!(refused(&node), 0);
}

#[test]
fn a_move_of_state_alone_can_be_undone_before_it_goes() {
    let (mut node, to) = limited(1024);
    send(&mut node, 0, 9, 1000);
    step(&mut node, 20);
    let id = begin(&mut node, to, "src=10.0.0.9/32", &[Scope::MultiFlow]);
    step(&mut node, 20);
    node.node.undo_move(id, node.now).unwrap();
    node.settle();
    assert_eq!(phase(&node, id), api::MovePhase::Undone);
    assert_eq!((sources(&mut node, FIRST), sources(&mut node, to)), (1, 0));
}

/// Moves sources and their flows, of which there are so many, while a function panics at what it is
/// asked for of them: the move as it has ended, sources that the functions of its ends know, and panics
/// that they have counted.
fn panicking(on: WorkerId, calls: u64, hosts: u8) -> (api::Move, [u64; 2], [u64; 2]) {
    let (mut node, to) = limited(1024);
    for address in 11..11 + hosts {
        send(&mut node, 0, address, 1000);
    }
    node.settle();
    assert_eq!(left(&mut node).len(), usize::from(hosts));
    let fault = Fault { stage: FaultStage::MultiFlow, packets: calls };
    node.node.panic_worker(on, fault).unwrap();
    let id = begin(&mut node, to, "src=10.0.0.0/25", BOTH);
    node.settle();
    for address in 11..11 + hosts {
        send(&mut node, 1, address, 1000);
    }
    node.settle();
    assert_eq!(left(&mut node).len(), usize::from(hosts), "every packet finds its flow");
    assert_eq!(refused(&node), 0);
    assert!(node.node.list_workers().iter().all(|worker| worker.restarts == 0));
    let shown = node.node.show_move(id).unwrap();
    let known = [FIRST, to].map(|instance| sources(&mut node, instance));
    // Another move is as if there had been no panic.
    let back = Request::new(to, FIRST, Selection::Filter("src=10.0.0.0/25".parse().unwrap()));
    let back = back.scoped(BOTH).unwrap();
    let back = node.node.start_move(&api::Change::default(), back, true, node.now).unwrap();
    node.settle();
    let back = node.node.show_move(MoveId(back.id)).unwrap();
    assert_eq!((back.phase(), &*back.reason), (api::MovePhase::Done, ""));
    assert_eq!((back.flows, back.multi_flow), (hosts.into(), shown.multi_flow));
    (shown, known, [FIRST, to].map(|instance| counted(&mut node, instance, "panics")))
}

#[test]
fn a_function_that_panics_at_state_of_several_flows_costs_a_piece_and_the_move_says_so() {
    for (on, calls, expected, sources, panics) in [
        // Arrived, lost, left behind. The third piece is not joined.
        (DESTINATION, 3, (4, 1, 0), [0, 4], [0, 1]),
        // The first call is the get, and the next are about pieces: one is given up before it is
        // forgotten.
        (SOURCE, 4, (4, 1, 0), [1, 4], [1, 0]),
        (SOURCE, 1, (0, 0, 1), [5, 0], [1, 0]),
    ] {
        let (shown, known, counted) = panicking(on, calls, 5);
        let case = format!("{on}, call {calls}: {shown:?}");
        assert_eq!(shown.phase(), api::MovePhase::Done, "{case}");
        assert_eq!((shown.flows, shown.multi_flow_refused), (5, 0), "{case}");
        assert_eq!(
            (shown.multi_flow, shown.multi_flow_lost, shown.left_behind),
            expected,
            "{case}"
        );
        assert!(shown.reason.starts_with("a network function has panicked"), "{case}");
        assert_eq!((known, counted), (sources, panics), "{case}");
    }
}
