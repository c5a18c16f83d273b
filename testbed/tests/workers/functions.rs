//! Network functions in the instances: a panic of one costs the flow that it was about, what an
//! instance that is gone has counted goes to its heir, and no record is lost.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::Duration;

use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::ids;
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Record, Timestamp};
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::mark::Request;
use weir_state_transfer::{InstanceId, MoveId, PortId, Selection, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan, host};

use crate::panics::mute;
use crate::{drops_at_rest, inject, packet, settle};

const IN: PortId = PortId(0);
const OUT: PortId = PortId(1);

/// What a node with the ids is made of.
fn plan() -> Plan {
    mute();
    let functions = vec![FunctionConfig::Ids(ids::Config::default())];
    let mut plan = Plan { port_ring: 256, frames: 4096, ..Plan::default() };
    plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
    plan
}

/// Adds an instance that may own flows.
fn add(stepped: &mut MemoryNode, name: &str) -> InstanceId {
    let change = api::Change::default();
    let made = stepped.node.create_instance(&change, name, 0).unwrap();
    stepped.settle();
    let id = InstanceId(u8::try_from(made.id).unwrap());
    stepped.node.set_instance_state(&change, id, api::InstanceState::Active).unwrap();
    id
}

fn begin_move(
    stepped: &mut MemoryNode,
    from: InstanceId,
    to: InstanceId,
    selection: Selection,
) -> MoveId {
    let request = Request::new(from, to, selection);
    let started = stepped.node.start_move(&api::Change::default(), request, true, stepped.now);
    MoveId(started.unwrap().id)
}

fn all_buckets() -> Selection {
    Selection::Buckets("0-4095".parse().unwrap())
}

fn move_all(stepped: &mut MemoryNode, from: InstanceId, to: InstanceId) {
    let id = begin_move(stepped, from, to, all_buckets());
    settle(stepped, OUT);
    assert_eq!(stepped.node.show_move(id).unwrap().phase(), api::MovePhase::Done);
}

fn remove(stepped: &mut MemoryNode, id: InstanceId) {
    let change = api::Change::default();
    stepped.node.set_instance_state(&change, id, api::InstanceState::Paused).unwrap();
    stepped.node.remove_instance(&change, id).unwrap();
    // What it knew is taken over in pieces.
    (0..10).for_each(|_| stepped.settle());
}

/// Packets of flows, one each, that have left.
fn send(stepped: &mut MemoryNode, flows: std::ops::Range<u16>) -> usize {
    flows.for_each(|flow| inject(stepped, (IN, flow % 2), &packet(1000 + flow, host(1), &[7])));
    settle(stepped, OUT).len()
}

/// What the ids of an instance has counted.
fn counted(stepped: &mut MemoryNode, id: InstanceId) -> BTreeMap<String, u64> {
    let (to, from) = channel();
    stepped.node.report_nfs(id, to);
    stepped.settle();
    from.iter().flatten().flat_map(|report| report.counters).collect()
}

/// Ends all flows; of each that there is a record of, by the port of who began, its packets.
fn stop(stepped: &mut MemoryNode) -> BTreeMap<u16, u64> {
    stepped.node.stop(stepped.now);
    stepped.settle();
    logged(stepped)
}

fn logged(stepped: &MemoryNode) -> BTreeMap<u16, u64> {
    let mut logged = BTreeMap::new();
    for (_, record) in &stepped.records {
        let Record::Ids(ids::Record::Conn(conn)) = record else { continue };
        let again = logged.insert(conn.id.orig.1 - 1000, conn.packets.orig + conn.packets.resp);
        assert_eq!(again, None, "{conn:?} is recorded twice");
    }
    logged
}

#[test]
fn a_panic_in_a_function_costs_the_flow_of_its_packet_and_no_other() {
    let mut stepped = MemoryNode::new(&plan(), 1);
    assert_eq!(send(&mut stepped, 0..20), 20);
    let fault = Fault { stage: FaultStage::Function, packets: 4 };
    stepped.node.panic_worker(WorkerId(0), fault).unwrap();
    assert_eq!(send(&mut stepped, 0..20), 19);
    assert_eq!(send(&mut stepped, 0..20), 19, "the flow is given up");
    let drops = drops_at_rest(&stepped).unwrap();
    let expected = [("poisoned".to_owned(), 1), ("worker_panic".to_owned(), 1)];
    assert_eq!(drops, BTreeMap::from(expected));
    let figures = counted(&mut stepped, FIRST);
    assert_eq!((figures["panics"], figures["flows"]), (1, 19), "{figures:?}");
    assert_eq!(stepped.node.list_workers()[0].restarts, 1);
    let logged = stop(&mut stepped);
    assert_eq!(logged.len(), 19);
    assert!(logged.values().all(|packets| *packets == 3), "{logged:?}");
}

#[test]
fn a_panic_in_a_function_while_flows_are_moved_costs_one_flow() {
    for selection in [all_buckets(), Selection::Filter("proto=udp".parse().unwrap())] {
        let mut stepped = MemoryNode::new(&plan(), 1);
        let second = add(&mut stepped, "second");
        assert_eq!(send(&mut stepped, 0..40), 40);
        let id = begin_move(&mut stepped, FIRST, second, selection.clone());
        // Both ends prepare, the table flips, and packets come the new way before the state.
        for _ in 0..100 {
            let phase = stepped.node.show_move(id).unwrap().phase();
            if phase == api::MovePhase::Draining || phase == api::MovePhase::Done {
                break;
            }
            stepped.step_node();
            (0..2).for_each(|worker| _ = stepped.step_worker(WorkerId(worker)));
        }
        let fault = Fault { stage: FaultStage::Function, packets: 9 };
        stepped.node.panic_worker(WorkerId(1), fault).unwrap();
        stepped.step_node();
        stepped.step_worker(WorkerId(1));
        assert_eq!(send(&mut stepped, 0..40), 39, "{selection:?}");
        assert_eq!(stepped.node.show_move(id).unwrap().phase(), api::MovePhase::Done);
        assert_eq!(send(&mut stepped, 0..40), 39, "{selection:?}");
        let figures = counted(&mut stepped, second);
        assert_eq!((figures["panics"], figures["flows"]), (1, 39), "{figures:?}");
        let logged = stop(&mut stepped);
        assert_eq!(logged.len(), 39, "{selection:?}");
        assert!(logged.values().all(|packets| *packets == 3), "{selection:?}: {logged:?}");
    }
}

#[test]
fn a_panic_in_a_sweep_passes_over_one_flow() {
    let mut stepped = MemoryNode::new(&plan(), 1);
    assert_eq!(send(&mut stepped, 0..30), 30);
    let fault = Fault { stage: FaultStage::Sweep, packets: 7 };
    stepped.node.panic_worker(WorkerId(0), fault).unwrap();
    stepped.settle();
    // Nothing was over: all go on as they were.
    let figures = counted(&mut stepped, FIRST);
    assert_eq!((figures["panics"], figures["flows"]), (1, 30), "{figures:?}");
    assert_eq!(send(&mut stepped, 0..30), 30);
    // All are over, and one of them is in the way.
    stepped.node.panic_worker(WorkerId(0), fault).unwrap();
    stepped.step_node();
    stepped.now = stepped.now + Duration::from_secs(61);
    (0..20).for_each(|_| stepped.settle());
    let figures = counted(&mut stepped, FIRST);
    assert_eq!((figures["panics"], figures["flows"]), (2, 0), "{figures:?}");
    assert_eq!(drops_at_rest(&stepped), Ok(BTreeMap::new()));
    assert_eq!(stepped.node.list_workers()[0].restarts, 2);
    let logged = logged(&stepped);
    assert_eq!((logged.len(), logged.values().all(|packets| *packets == 2)), (30, true));
}

#[test]
fn a_node_that_is_stopped_under_traffic_loses_no_record() {
    for rounds in 0..40 {
        let mut stepped = MemoryNode::new(&plan(), 1);
        let second = add(&mut stepped, "second");
        begin_move(&mut stepped, FIRST, second, Selection::Buckets("0-2047".parse().unwrap()));
        let step = |stepped: &mut MemoryNode, round: u16| {
            for n in 0..8 {
                let flow = round * 4 + n;
                let to = stepped.wires.get_mut(&(IN, flow % 2)).unwrap();
                to.inject(&packet(1000 + flow, host(1), &[7]));
            }
            stepped.step_node();
            (0..2).for_each(|worker| _ = stepped.step_worker(WorkerId(worker)));
            while stepped.take(OUT, 0).or_else(|| stepped.take(OUT, 1)).is_some() {}
        };
        (0..rounds).for_each(|round| step(&mut stepped, round));
        stepped.node.stop(stepped.now);
        (rounds..rounds + 40).for_each(|round| step(&mut stepped, round));
        settle(&mut stepped, OUT);
        let figures = [FIRST, second].map(|id| counted(&mut stepped, id));
        let all = |name: &str| figures.iter().map(|figures| figures[name]).sum::<u64>();
        let logged = logged(&stepped);
        assert_eq!(all("flows"), 0);
        assert_eq!((logged.len() as u64, all("connections")), (all("ended"), all("ended")));
        assert_eq!(logged.values().sum::<u64>(), all("packets"), "after {rounds} rounds");
    }
}

#[test]
fn the_heir_of_an_instance_is_the_longest_lived_of_those_that_stay() {
    let mut stepped = MemoryNode::new(&plan(), 1);
    let (second, third) = (add(&mut stepped, "second"), add(&mut stepped, "third"));
    send(&mut stepped, 0..10);
    move_all(&mut stepped, FIRST, third);
    remove(&mut stepped, FIRST);
    assert_eq!(counted(&mut stepped, second)["packets"], 10);
    assert_eq!(counted(&mut stepped, third)["packets"], 0);
    // It has the number of the first, and is younger than the third.
    let again = add(&mut stepped, "again");
    assert_eq!(again, FIRST);
    send(&mut stepped, 0..10);
    remove(&mut stepped, second);
    assert_eq!(counted(&mut stepped, third)["packets"], 20);
    assert_eq!(counted(&mut stepped, again)["packets"], 0);
    // A second life of its number counts apart from the first.
    move_all(&mut stepped, third, again);
    send(&mut stepped, 0..10);
    move_all(&mut stepped, again, third);
    remove(&mut stepped, again);
    assert_eq!(counted(&mut stepped, third)["packets"], 30);
    assert_eq!(counted(&mut stepped, third)["connections"], 10);
}

#[test]
fn a_destination_without_room_ends_the_states_that_it_can_not_take() {
    let mut plan = plan();
    // Room for eight of them.
    plan.limits.own_flows = 8;
    let mut stepped = MemoryNode::new(&plan, 1);
    let second = add(&mut stepped, "second");
    assert_eq!(send(&mut stepped, 0..30), 30);
    let selection = Selection::Filter("proto=udp".parse().unwrap());
    let id = begin_move(&mut stepped, FIRST, second, selection);
    settle(&mut stepped, OUT);
    assert_eq!(stepped.node.show_move(id).unwrap().phase(), api::MovePhase::Done);
    let figures = counted(&mut stepped, second);
    assert_eq!((figures["flows"], figures["flows_without_room"], figures["ended"]), (8, 22, 22));
    assert_eq!(logged(&stepped).len(), 22, "their ends are recorded");
    let logged = stop(&mut stepped);
    assert_eq!((logged.len(), logged.values().all(|packets| *packets == 1)), (30, true));
}

#[test]
fn a_panic_at_the_end_of_a_state_that_there_is_no_room_for_costs_its_record_and_the_move_says_so() {
    let mut plan = plan();
    plan.limits.own_flows = 8;
    let mut stepped = MemoryNode::new(&plan, 1);
    let second = add(&mut stepped, "second");
    assert_eq!(send(&mut stepped, 0..30), 30);
    let fault = Fault { stage: FaultStage::Ended, packets: 5 };
    stepped.node.panic_worker(WorkerId(1), fault).unwrap();
    let selection = Selection::Filter("proto=udp".parse().unwrap());
    let id = begin_move(&mut stepped, FIRST, second, selection);
    settle(&mut stepped, OUT);
    let shown = stepped.node.show_move(id).unwrap();
    assert_eq!((shown.phase(), shown.flows), (api::MovePhase::Done, 30), "every flow has come");
    assert!(shown.reason.starts_with("a network function has panicked"), "{shown:?}");
    let figures = counted(&mut stepped, second);
    assert_eq!((figures["panics"], figures["flows"], figures["ended"]), (1, 8, 21), "{figures:?}");
    assert_eq!(stepped.node.list_workers()[1].restarts, 0);
    assert_eq!(logged(&stepped).len(), 21);
}
