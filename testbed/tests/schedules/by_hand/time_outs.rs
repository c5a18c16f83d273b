//! Time-outs of the TCP connections of a firewall whose flow moves to and fro meanwhile: each ends
//! once, at one instance, at the very moment at which it would have ended without a move.

use std::sync::mpsc::channel;
use std::time::Duration;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::connection::Settings;
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp, firewall};
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{InstanceId, MoveId, Nanos, Selection};

use super::{DESTINATION, IN, OUT, node_of, step};
use crate::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

const ESTABLISHED: Duration = Duration::from_secs(20);
const TIME_WAIT: Duration = Duration::from_secs(10);
/// Of every other state: longer than both.
const OTHER: Duration = Duration::from_secs(40);
/// In this time each instance looks at all its flows, in simulated milliseconds.
const LAP: u64 = 1_000;
/// Rounds without time in which a packet has left or was dropped, whatever moves.
const PASS: usize = 2_000;

/// Who sends a segment, with which flags, and how far on in its numbers it and its peer are.
type Segment = (bool, &'static str, u32, u32);

/// A connection that is established and then idle.
const IDLE: [Segment; 4] =
    [(true, "S", 0, 0), (false, "SA", 0, 1), (true, "A", 1, 1), (false, "A", 1, 1)];
/// A connection that both ends close.
const CLOSED: [Segment; 7] = [
    (true, "S", 0, 0),
    (false, "SA", 0, 1),
    (true, "A", 1, 1),
    (true, "FA", 1, 1),
    (false, "A", 1, 2),
    (false, "FA", 1, 2),
    (true, "A", 2, 2),
];

/// A node with two instances that run a firewall, and a connection whose flow moves.
struct World {
    node: MemoryNode,
    instances: [InstanceId; 2],
    /// What moves, again and again, if anything.
    selection: Option<Selection>,
    /// Rounds of all workers between two looks at the moves.
    rounds: usize,
    moving: Option<MoveId>,
    moved: usize,
}

impl World {
    fn new(selection: Option<Selection>, rounds: usize) -> Self {
        let mut tracking = Settings::default();
        let tcp = &mut tracking.timeouts.tcp;
        for timeout in [
            &mut tcp.syn_sent,
            &mut tcp.syn_received,
            &mut tcp.fin_wait,
            &mut tcp.close_wait,
            &mut tcp.last_ack,
        ] {
            *timeout = OTHER;
        }
        (tcp.established, tcp.time_wait) = (ESTABLISHED, TIME_WAIT);
        let rules = vec!["all: accept any".parse().unwrap()];
        let rules = firewall::Rules::new(rules).unwrap();
        let config = firewall::Config { rules, tracking, ..firewall::Config::default() };
        let mut plan = Plan::default();
        let functions = vec![FunctionConfig::Firewall(config)];
        plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
        // The clock jumps while a move is in progress.
        plan.limits.step_timeout = Duration::from_hours(1);
        let (node, others) = node_of(&plan, 1, DESTINATION);
        let instances = [FIRST, others[0]];
        Self { node, instances, selection, rounds, moving: None, moved: 0 }
    }

    /// Rounds without time; a move that has ended is followed by one back.
    fn go_on(&mut self) {
        let ended = |id: &MoveId| self.node.node.show_move(*id).unwrap().ended_ns > 0;
        if let Some(id) = self.moving.take_if(|id| ended(id)) {
            let shown = self.node.node.show_move(id).unwrap();
            assert_eq!(shown.phase(), api::MovePhase::Done, "{shown:?}");
            self.moved += 1;
        }
        if let (None, Some(selection)) = (&self.moving, &self.selection) {
            let [from, to] = [self.moved % 2, (self.moved + 1) % 2].map(|n| self.instances[n]);
            let request = Request::new(from, to, selection.clone());
            let begun =
                self.node.node.start_move(&api::Change::default(), request, true, self.node.now);
            self.moving = Some(MoveId(begun.unwrap().id));
        }
        step(&mut self.node, self.rounds);
    }

    fn inject(&mut self, segment: Segment) {
        let port = if segment.0 { IN } else { OUT };
        let wire = self.node.wires.get_mut(&(port, u16::from(segment.0))).unwrap();
        assert!(wire.inject(&frame(segment)));
    }

    /// How many packets have left since the last look.
    fn left(&mut self) -> usize {
        let places = [(IN, 0), (IN, 1), (OUT, 0), (OUT, 1)];
        let next = || places.iter().find_map(|(port, queue)| self.node.take(*port, *queue));
        std::iter::from_fn(next).count()
    }

    /// The connection as it goes, a millisecond for each segment; when the last was sent. Some
    /// packets lie on the wire for a while, so that the source of a move has to wait.
    fn talk(&mut self, segments: &[Segment]) -> Nanos {
        let mut left = 0;
        for segment in segments {
            self.node.now = self.node.now + Duration::from_millis(1);
            self.inject(*segment);
            self.go_on();
            left += self.left();
            self.go_on();
        }
        // Held packets are of the moment in which they are let go.
        for _ in 0..PASS {
            if left == segments.len() {
                break;
            }
            step(&mut self.node, 1);
            left += self.left();
        }
        assert_eq!(left, segments.len());
        self.node.now
    }

    /// Whether a packet passes at a moment, which comes at once, whatever moves then.
    fn passes_at(&mut self, moment: Nanos, segment: Segment) -> bool {
        self.node.now = moment;
        self.go_on();
        self.left();
        let dropped = self.dropped();
        self.inject(segment);
        for _ in 0..PASS {
            step(&mut self.node, 1);
            let (left, dropped) = (self.left(), self.dropped() - dropped);
            assert_eq!(self.node.now, moment);
            if left + dropped > 0 {
                assert_eq!(left + dropped, 1);
                return left == 1;
            }
        }
        panic!("the packet is nowhere");
    }

    fn dropped(&self) -> usize {
        let drops = self.node.node.counters().drops;
        assert!(drops.iter().all(|drop| drop.reason == "firewall"), "{drops:?}");
        drops.iter().map(|drop| drop.packets as usize).sum()
    }

    /// What each instance has counted by a name. No time passes.
    fn counted(&mut self, name: &str) -> [u64; 2] {
        self.instances.map(|id| {
            let (to, from) = channel();
            self.node.node.report_nfs(id, to);
            step(&mut self.node, 20);
            let counters = from.try_iter().flatten().flat_map(|report| report.counters);
            counters.filter(|(counted, _)| counted == name).map(|(_, count)| count).sum()
        })
    }

    fn ends(&mut self) -> u64 {
        self.counted("ended").iter().sum()
    }

    /// So many milliseconds, in which the instances look at what they have.
    fn pass_time(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.node.now = self.node.now + Duration::from_millis(1);
            self.go_on();
            self.left();
        }
    }
}

fn frame((there, flags, seq, ack): Segment) -> Vec<u8> {
    let (from, to) = if there { (IN.0, OUT.0) } else { (OUT.0, IN.0) };
    let (ports, numbers) = if there { ((1000, 80), (100, 900)) } else { ((80, 1000), (900, 100)) };
    let ip = PacketBuilder::ethernet2(host_mac(from).0, port_mac(from).0);
    let ip = ip.ipv4(host(from).octets(), host(to).octets(), 64);
    let mut tcp = ip.tcp(ports.0, ports.1, numbers.0 + seq, 8_000);
    for flag in flags.chars() {
        tcp = match flag {
            'S' => tcp.syn(),
            'F' => tcp.fin(),
            'A' => tcp.ack(numbers.1 + ack),
            other => panic!("{other}"),
        };
    }
    let mut frame = Vec::new();
    tcp.write(&mut frame, &[]).unwrap();
    frame
}

/// What moves: nothing, the buckets, or what a filter picks.
fn selections() -> [Option<Selection>; 3] {
    let buckets = Selection::Buckets("0-4095".parse().unwrap());
    let filter = Selection::Filter("proto=tcp,sport=1000".parse().unwrap());
    [None, Some(buckets), Some(filter)]
}

/// Each connection with its time-out, and with every selection.
fn each(mut story: impl FnMut(&[Segment], Duration, Option<Selection>)) {
    for (segments, timeout) in [(&IDLE[..], ESTABLISHED), (&CLOSED[..], TIME_WAIT)] {
        selections().into_iter().for_each(|selection| story(segments, timeout, selection));
    }
}

#[test]
fn a_connection_that_moves_to_and_fro_ends_at_the_moment_at_which_it_would_have_without_a_move() {
    const LAST: Duration = Duration::from_nanos(1);
    each(|segments, timeout, selection| {
        let probe = *segments.last().unwrap();
        let mut moved = 0;
        for rounds in 1..60 {
            for (before, passes) in [(LAST, true), (Duration::ZERO, false)] {
                let mut world = World::new(selection.clone(), rounds);
                let last = world.talk(segments);
                let about = format!("{selection:?}, {rounds} rounds, {before:?} before the end");
                let moment = last + timeout - before;
                assert_eq!(world.passes_at(moment, probe), passes, "{about}");
                let [one, other] = world.counted("ended");
                assert_eq!(one + other, u64::from(!passes), "{about}");
                assert_eq!(world.counted("begun").iter().sum::<u64>(), 1, "{about}");
                moved += world.moved;
            }
        }
        assert!(selection.is_none() || moved > 100, "{selection:?}: {moved}");
    });
}

#[test]
fn a_connection_that_nobody_asks_for_is_ended_once_by_the_instance_that_has_it_then() {
    each(|segments, timeout, selection| {
        for rounds in [1, 3, 8, 20] {
            let mut world = World::new(selection.clone(), rounds);
            let end = world.talk(segments) + timeout;
            let about = format!("{selection:?}, {rounds} rounds");
            world.node.now = Nanos(end.0 - LAP * 1_000_000);
            world.pass_time(LAP - 1);
            assert_eq!(world.ends(), 0, "{about}: a millisecond before its time");
            // Its time is up on a move, or between two.
            world.pass_time(LAP / 2);
            world.selection = None;
            world.pass_time(LAP);
            let ends = world.counted("ended");
            assert_eq!(ends.iter().sum::<u64>(), 1, "{about}: {ends:?}");
            world.pass_time(LAP);
            assert_eq!(world.counted("ended"), ends, "{about}: once");
            assert_eq!(world.counted("flows"), [0, 0], "{about}");
            assert!(selection.is_none() || world.moved > 10, "{about}: {}", world.moved);
        }
    });
}
