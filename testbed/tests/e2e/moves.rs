//! Moves under traffic, with two tx queues at each port.

use std::process::Stdio;

use weir_api::dataplane::v1::{Move, MovePhase};
use weir_dataplane::instance::digest::digest;
use weir_testbed::bulk::{self, Bulk};
use weir_testbed::dataplane::Selection;
use weir_testbed::flow::DESTINATION_PORTS;
use weir_testbed::node::Shape;
use weir_testbed::packet_socket::arriving_udp;
use weir_testbed::topology::device;
use weir_testbed::traffic::{Options, Traffic};
use weir_testbed::wait::{LIMIT, until};

use super::{Setup, let_flow};

const FLOWS: usize = 1_200;
const RATE: u64 = 30_000;
/// TCP streams from each of the four hosts to the next, and bytes a second of each.
const STREAMS: u16 = 3;
const STREAM_RATE: u64 = 1 << 20;

/// Two instances under traffic.
struct Pair {
    setup: Setup,
    traffic: Traffic,
    first: u32,
    second: u32,
}

impl Pair {
    fn new() -> Self {
        let setup = Setup::new(&Shape { queues: 2, ..Shape::default() });
        for port in setup.dataplane.ports().unwrap() {
            assert!(port.queues.len() >= 2, "{port:?}");
        }
        let first = setup.dataplane.instances().unwrap()[0].id;
        let second = setup.dataplane.add_instance("second").unwrap().id;
        let traffic = setup.traffic(FLOWS, RATE);
        let_flow(&traffic, 10_000);
        Self { setup, traffic, first, second }
    }

    /// Moves to the second instance and back, so many times, and returns the moves.
    fn to_and_fro(&self, times: usize, selection: &Selection) -> Vec<Move> {
        let ways = [(self.first, self.second), (self.second, self.first)];
        ways.iter()
            .cycle()
            .take(2 * times)
            .map(|(from, to)| {
                let started =
                    self.setup.dataplane.start_move(*from, *to, selection.clone()).unwrap();
                let ended = self.setup.dataplane.finish_move(started.id).unwrap();
                assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
                let_flow(&self.traffic, 2_000);
                ended
            })
            .collect()
    }

    fn finish(self, moves: &[Move]) {
        let during: u64 = moves.iter().map(|ended| ended.packets_during).sum();
        let flows: u64 = moves.iter().map(|ended| ended.flows).sum();
        let held = moves.iter().map(|ended| ended.held_max).max().unwrap();
        println!("{} moves, {flows} flows, {during} packets during, {held} held", moves.len());
        assert!(flows > 0 && during > 0);
        self.setup.assert_exact(&self.traffic.stop().unwrap());
    }
}

#[test]
#[ignore = "needs root"]
fn moves_by_bucket_lose_duplicate_and_reorder_nothing() {
    let pair = Pair::new();
    let moves = pair.to_and_fro(10, &Selection::Buckets("0-2047,3000".to_owned()));
    pair.finish(&moves);
}

#[test]
#[ignore = "needs root"]
fn moves_by_filter_lose_duplicate_and_reorder_nothing() {
    let pair = Pair::new();
    let moves = pair.to_and_fro(10, &Selection::Filter("src=10.0.0.0/15,proto=udp".to_owned()));
    pair.finish(&moves);
}

#[test]
#[ignore = "needs root"]
fn moves_of_everything_lose_duplicate_and_reorder_nothing() {
    let pair = Pair::new();
    let moves = pair.to_and_fro(5, &Selection::Buckets("0-4095".to_owned()));
    pair.finish(&moves);
}

#[test]
#[ignore = "needs root"]
fn moves_under_tcp_change_no_byte_and_reset_no_connection() {
    let setup = Setup::new(&Shape { queues: 2, ..Shape::default() });
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let seed = weir_seed::seed();
    let options = bulk::Options { rate: STREAM_RATE, bytes: u64::MAX, seed, each: STREAMS };
    let resets = bulk::resets(&setup.topology).unwrap();
    let bulk = Bulk::start(&setup.topology, options).unwrap();
    let let_flow = || {
        let target = bulk.received() + STREAM_RATE;
        until("TCP to flow", LIMIT, || (bulk.received() >= target).then_some(())).unwrap();
    };
    let_flow();
    let selections = [
        Selection::Filter("proto=tcp".to_owned()),
        Selection::Buckets("0-2047".to_owned()),
        Selection::Filter("proto=tcp,src=10.0.2.0/24".to_owned()),
        Selection::Buckets("0-4095".to_owned()),
    ];
    let (mut flows, mut during) = (0, 0);
    for selection in selections.iter().cycle().take(12) {
        for (from, to) in [(first, second), (second, first)] {
            let started = setup.dataplane.start_move(from, to, selection.clone()).unwrap();
            let ended = setup.dataplane.finish_move(started.id).unwrap();
            assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
            flows += ended.flows;
            during += ended.packets_during;
            let_flow();
        }
    }
    let report = bulk.stop();
    let again = bulk::retransmits(&setup.topology).unwrap();
    println!("{report:?}; {flows} flows, {during} packets during, {again} segments sent again");
    let streams = setup.topology.hosts.len() * usize::from(STREAMS);
    assert_eq!((report.whole, report.streams), (streams, streams));
    assert_eq!(bulk::resets(&setup.topology).unwrap(), resets);
    assert!(flows > streams as u64 && during > 0);
    assert_eq!(setup.transit_drops(), Vec::<String>::new());
    assert_eq!(setup.dataplane.balance_at_rest().unwrap().overload, 0);
}

#[test]
#[ignore = "needs root"]
fn opposite_and_overlapping_moves_at_once_lose_duplicate_and_reorder_nothing() {
    let pair = Pair::new();
    let mut ended = Vec::new();
    for _ in 0..10 {
        let asked = [
            (pair.first, pair.second, Selection::Buckets("0-1023".to_owned())),
            (pair.second, pair.first, Selection::Buckets("0-4095".to_owned())),
            (pair.first, pair.second, Selection::Filter("dst=10.0.3.0/24".to_owned())),
        ];
        let started: Vec<Move> = asked
            .into_iter()
            .map(|(from, to, what)| pair.setup.dataplane.start_move(from, to, what).unwrap())
            .collect();
        for one in started {
            ended.push(pair.setup.dataplane.finish_move(one.id).unwrap());
        }
        let_flow(&pair.traffic, 1_000);
    }
    assert!(ended.iter().all(|one| one.phase() == MovePhase::Done), "{ended:?}");
    pair.finish(&ended);
}

#[test]
#[ignore = "needs root"]
fn a_port_that_is_down_holds_up_no_move_and_works_again_when_it_is_up() {
    let setup = Setup::new(&Shape { queues: 2, ..Shape::default() });
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let host = &setup.topology.hosts[0].namespace;
    let link = |state: &str| {
        let line = format!("ip link set {} {state}", device(2));
        setup.topology.router.run(&line).unwrap();
    };
    let ping = || host.run("ping -n -c 3 -i 0.01 -W 1 10.0.3.2").is_ok();
    link("down");
    // The first packet waits in a transmit ring, and those behind it are dropped.
    until("a drop at the port", LIMIT, || {
        assert!(!ping(), "the device is down");
        let drops = setup.transit_drops();
        drops.iter().any(|drop| drop.ends_with("port_down")).then_some(())
    })
    .unwrap();
    for (from, to) in [(first, second), (second, first), (first, second)] {
        let everything = Selection::Buckets("0-4095".to_owned());
        let started = setup.dataplane.start_move(from, to, everything).unwrap();
        let ended = setup.dataplane.finish_move(started.id).unwrap();
        assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
        assert!(!ping(), "the device is down");
    }
    let waiting = setup.dataplane.counters().unwrap().balance.unwrap().in_rings;
    link("up");
    until("the port to work again", LIMIT, || ping().then_some(())).unwrap();
    println!("{waiting} packets waited; {:?}", setup.transit_drops());
    assert!(waiting > 0);
    setup.dataplane.balance_at_rest().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_device_that_is_gone_holds_up_no_move_and_costs_the_other_ports_nothing() {
    let setup = Setup::new(&Shape { queues: 2, ..Shape::default() });
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let hosts = &setup.topology.hosts;
    let filter = || arriving_udp(*DESTINATION_PORTS.start(), *DESTINATION_PORTS.end());
    let sockets = hosts[..2].iter().map(|host| host.socket(&filter()).unwrap()).collect();
    let seed = weir_seed::seed();
    let traffic = Traffic::over(sockets, Options::new(FLOWS, RATE, seed, digest)).unwrap();
    let_flow(&traffic, 5_000);

    let mut ping = hosts[3].namespace.command("ping");
    ping.args(["-n", "-q", "-i", "0.002", "-w", "60", "10.0.3.2"]);
    let mut on_the_way = ping.stdout(Stdio::null()).spawn().unwrap();
    setup.topology.router.run(&format!("ip link del {}", device(2))).unwrap();
    let port = || {
        let ports = setup.dataplane.ports().unwrap();
        ports.into_iter().find(|port| port.device == device(2)).unwrap()
    };
    until("the port to be known as gone", LIMIT, || {
        port().mode_notes.iter().any(|note| note.contains("gone")).then_some(())
    })
    .unwrap();
    for (from, to) in [(first, second), (second, first), (first, second)] {
        let everything = Selection::Buckets("0-4095".to_owned());
        let started = setup.dataplane.start_move(from, to, everything).unwrap();
        let ended = setup.dataplane.finish_move(started.id).unwrap();
        assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
        let_flow(&traffic, 2_000);
    }
    on_the_way.kill().unwrap();
    on_the_way.wait().unwrap();
    let report = traffic.stop().unwrap();
    assert!(report.is_clean(), "{:?} of {}, {} lost", report.tally, report.sent, report.lost);
    let balance = setup.dataplane.balance_at_rest().unwrap();
    let drops = setup.transit_drops();
    println!("{drops:?} {balance:?} {:?}", port().mode_notes);
    // The carrier goes before the device does, and the neighbours are forgotten in time.
    let of_the_port = ["port_down", "tx_refused", "neighbour_unresolved", "park_full"];
    let excused = |drop: &String| of_the_port.iter().any(|reason| drop.ends_with(reason));
    assert!(drops.iter().any(|drop| drop.ends_with("port_down")), "{drops:?}");
    assert!(drops.iter().all(excused), "{drops:?}");
    assert_eq!(balance.overload, 0, "{balance:?}");
}

#[test]
#[ignore = "needs root"]
fn packets_to_a_host_that_does_not_answer_hold_up_no_move() {
    let pair = Pair::new();
    let mut ping = pair.setup.topology.hosts[0].namespace.command("ping");
    ping.args(["-n", "-q", "-i", "0.01", "-w", "60", "10.0.3.99"]);
    let mut in_vain = ping.stdout(Stdio::null()).spawn().unwrap();
    let waited_in_vain = ["neighbour_unresolved", "park_full"];
    let excused = |drop: &String| waited_in_vain.iter().any(|reason| drop.ends_with(reason));
    // From here on some wait at any time, for longer than a step of a move may take.
    until("a packet too many", LIMIT, || {
        pair.setup.transit_drops().iter().any(excused).then_some(())
    })
    .unwrap();
    let moves = pair.to_and_fro(3, &Selection::Buckets("0-4095".to_owned()));
    in_vain.kill().unwrap();
    in_vain.wait().unwrap();

    assert!(moves.iter().all(|ended| ended.flows > 0), "{moves:?}");
    let report = pair.traffic.stop().unwrap();
    assert!(report.is_clean(), "{:?} of {}, {} lost", report.tally, report.sent, report.lost);
    let drops = pair.setup.transit_drops();
    println!("{drops:?}");
    assert!(drops.iter().all(excused), "{drops:?}");
    pair.setup.dataplane.balance_at_rest().unwrap();
}
