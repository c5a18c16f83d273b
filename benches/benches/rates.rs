//! What does a move add to the packets of its flows, by the rate at which they come?
//!
//! The shipped node and two workers over memory rings, stepped in turn on one thread. Flows move by
//! filter from one instance to the other and back, loss-free and in order, while packets of all of
//! them come at a rate: in parts of what the poll loop takes, which is found first, and in the end
//! as many as it takes. A packet's time is from when it was due until it has left, so that one that
//! waits in front of a busy router is late too. Each move is followed by as many rounds without one, in
//! which what has waited catches up.
//! That nothing is lost and every flow leaves in order is checked. Time is CPU time of the thread,
//! which is the work of both workers and of the node; compare figures of one run only.

use std::collections::VecDeque;
use std::io::{self, Write};

use rustix::time::{ClockId, clock_gettime};
use weir_api::dataplane::v1 as api;
use weir_benches::router::{BURST, Router, frame, second_instance};
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{InstanceId, MoveId, PortId, Selection, WorkerId};

/// What OpenNF has moved.
const FLOWS: usize = 500;
/// Moves at each rate, half of them back.
const MOVES: usize = 40;
/// Parts of what the poll loop takes, in thousandths; behind them all of it.
const PARTS: [u64; 5] = [1, 10, 100, 250, 500];
/// Packets with which that is found.
const PROBED: u64 = 200_000;
/// Packets that have come and not left, at most.
const OUTSTANDING: usize = 192;
/// Where the number of a packet stands: in the payload.
const NUMBER: std::ops::Range<usize> = 42..50;

/// Who sends, and what has become of it.
struct World {
    router: Router,
    other: InstanceId,
    frames: Vec<Vec<u8>>,
    /// When each packet that has not left was due, and whether a move was going on; the first is
    /// of number `left`.
    due: VecDeque<(u64, bool)>,
    sent: u64,
    left: u64,
    /// Of each flow, the number of the last packet that has left.
    last: Vec<Option<u64>>,
    /// Which of those that are due have left, behind gaps.
    gone: VecDeque<bool>,
}

/// How packets come.
#[derive(Clone, Copy)]
enum Rate {
    /// Every so many nanoseconds.
    Every(f64),
    /// As many as the router takes.
    Full,
}

/// Nanoseconds of packets without a move, and during one.
#[derive(Default)]
struct Times([Vec<u64>; 2]);

fn main() -> io::Result<()> {
    let mut world = World::new();
    let a_packet = world.probed();
    let mut out = io::stdout();
    writeln!(
        out,
        "\nA move of {FLOWS} flows under traffic, {MOVES} at each rate: its time, packets held, and the time of a \
         packet, microseconds\n\n{:>10}{:>9}{:>11}{:>8}{:>24}{:>24}{:>18}",
        "packets/s",
        "of full",
        "move",
        "held",
        "without: p50 p99 max",
        "during: p50 p99 max",
        "adds: p50 p99"
    )?;
    let parts = PARTS.iter().map(|part| {
        let every = a_packet * 1_000.0 / *part as f64;
        (*part as f64 / 1_000.0, every, Rate::Every(every))
    });
    for (part, every, rate) in parts.chain([(1.0, a_packet, Rate::Full)]) {
        let (mut times, mut took, mut held) = (Times::default(), Vec::new(), 0);
        for number in 0..MOVES {
            let ends = [FIRST, world.other];
            let (from, to) = (ends[number % 2], ends[1 - number % 2]);
            let (time, shown) = world.moved((from, to), rate, &mut times);
            took.push(time);
            held += shown.held;
        }
        took.sort_unstable();
        let [without, during] = times.quantiles();
        let adds = [0, 1].map(|n| during[n] - without[n]);
        let row = |us: &[f64]| us.iter().map(|us| format!("{us:>8.2}")).collect::<String>();
        writeln!(
            out,
            "{:>10.0}{:>8.1}%{:>11.1}{:>8.1}{}{}  {}",
            1e9 / every,
            100.0 * part,
            took[took.len() / 2] as f64 / 1e3,
            held as f64 / MOVES as f64,
            row(&without),
            row(&during),
            row(&adds),
        )?;
    }
    Ok(())
}

impl World {
    fn new() -> Self {
        let mut router = Router::new(2, FLOWS);
        router.warm();
        let other = second_instance(&mut router);
        let (due, gone) = (VecDeque::new(), VecDeque::new());
        let frames = (0..FLOWS).map(frame).collect();
        let last = vec![None; FLOWS];
        let mut world = Self { router, other, frames, due, sent: 0, left: 0, last, gone };
        // The other worker learns the next hop.
        for ends in [(FIRST, other), (other, FIRST)] {
            world.moved(ends, Rate::Full, &mut Times::default());
        }
        world
    }

    /// Nanoseconds that a packet takes of the poll loop when there are always others.
    fn probed(&mut self) -> f64 {
        let (began, first) = (cpu_ns(), self.left);
        while self.left - first < PROBED {
            self.fill(cpu_ns(), false);
            self.turn(&mut Times::default());
        }
        (cpu_ns() - began) as f64 / (self.left - first) as f64
    }

    /// Moves all flows, and goes on for as many turns without a move until all has left.
    fn moved(
        &mut self,
        (from, to): (InstanceId, InstanceId),
        rate: Rate,
        times: &mut Times,
    ) -> (u64, api::Move) {
        let selection = Selection::Filter("proto=udp".parse().expect("a filter of this bench"));
        let stepped = &mut self.router.stepped;
        let (request, change) = (Request::new(from, to, selection), api::Change::default());
        let begun = cpu_ns();
        let id = stepped.node.start_move(&change, request, false, stepped.now).expect("a move").id;
        let mut next = begun as f64;
        let mut turns = 0_u32;
        let shown = loop {
            self.send(rate, &mut next, true);
            self.turn(times);
            turns += 1;
            let shown = self.router.stepped.node.show_move(MoveId(id)).expect("it is remembered");
            if shown.ended_ns > 0 {
                break shown;
            }
        };
        let took = cpu_ns() - begun;
        assert_eq!((shown.phase(), shown.flows), (api::MovePhase::Done, FLOWS as u64));
        for _ in 0..turns {
            self.send(rate, &mut next, false);
            self.turn(times);
        }
        for _ in 0..1_000_000 {
            if self.due.is_empty() {
                return (took, shown);
            }
            self.turn(times);
        }
        panic!("{} packets are lost", self.due.len());
    }

    /// Sends what is due.
    fn send(&mut self, rate: Rate, next: &mut f64, moving: bool) {
        let now = cpu_ns();
        match rate {
            Rate::Full => self.fill(now, moving),
            Rate::Every(every) => {
                let room = OUTSTANDING.saturating_sub(self.due.len());
                for _ in 0..room {
                    if *next > now as f64 || !self.inject(*next as u64, moving) {
                        return;
                    }
                    *next += every;
                }
            }
        }
    }

    /// Sends a burst, or as much of it as there is room for.
    fn fill(&mut self, now: u64, moving: bool) {
        let room = OUTSTANDING.saturating_sub(self.due.len());
        for _ in 0..room.min(BURST) {
            if !self.inject(now, moving) {
                return;
            }
        }
    }

    /// Sends the next packet; whether there was room.
    fn inject(&mut self, due: u64, moving: bool) -> bool {
        let frame = &mut self.frames[self.sent as usize % FLOWS];
        frame[NUMBER].copy_from_slice(&self.sent.to_be_bytes());
        let wire = self.router.stepped.wires.get_mut(&(PortId(0), 0)).expect("the queue is there");
        let sent = wire.inject(frame);
        if sent {
            self.sent += 1;
            self.due.push_back((due, moving));
            self.gone.push_back(false);
        }
        sent
    }

    /// A turn of both workers and of the node, and of who receives.
    fn turn(&mut self, times: &mut Times) {
        [WorkerId(0), WorkerId(1)].into_iter().for_each(|worker| self.router.step_worker(worker));
        self.router.stepped.step_node();
        let now = cpu_ns();
        let Self { router, due, left, last, gone, .. } = self;
        for ((port, _), wire) in &mut router.stepped.wires {
            while let Some(frame) = (*port == PortId(1)).then(|| wire.take()).flatten() {
                let number = frame.data()[NUMBER].try_into().map(u64::from_be_bytes);
                let number = number.expect("it is that long");
                wire.complete(frame);
                let before = last[number as usize % FLOWS].replace(number);
                assert!(before < Some(number), "{number} behind {before:?}");
                let place = (number - *left) as usize;
                let (at, moving) = due[place];
                times.0[usize::from(moving)].push(now.saturating_sub(at));
                gone[place] = true;
            }
        }
        while gone.front() == Some(&true) {
            gone.pop_front();
            due.pop_front();
            *left += 1;
        }
    }
}

impl Times {
    /// The median, the 99th percentile and the longest, in microseconds, of both.
    fn quantiles(&mut self) -> [[f64; 3]; 2] {
        self.0.each_mut().map(|times| {
            times.sort_unstable();
            let Some(last) = times.len().checked_sub(1) else { return [f64::NAN; 3] };
            [last / 2, last * 99 / 100, last].map(|place| times[place] as f64 / 1e3)
        })
    }
}

/// CPU time of this thread so far.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
