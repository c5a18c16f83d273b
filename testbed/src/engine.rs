//! The thread behind the traffic: it sends for all hosts and receives for all of them.
//!
//! One thread, so that credit and counts are plain variables and a report is exact.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::generator::Generator;
use crate::packet_socket::{BURST, Burst, PacketSocket};
use crate::sink::{Arrival, Sink};
use crate::traffic::{Latency, Report};
use crate::{udp, wait};

/// What is outstanding when nothing has arrived for so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// How long it stays quiet after the last packet, so that a late duplicate is seen.
const QUIET: Duration = Duration::from_millis(20);
/// Longest sleep while packets are to be sent at a rate.
const TICK: Duration = Duration::from_micros(500);
/// Most packets that may be sent at once to catch up after the thread was off its core.
const CATCH_UP: Duration = Duration::from_millis(5);
/// Longest latency recorded; longer ones count as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// An order to the thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send so many packets a second, all hosts together.
    Rate(u64),
    /// Stop sending, wait until everything has arrived or is lost, and report.
    Settle(Sender<Report>),
    /// Send again.
    Resume,
    /// Tell the latency of packets that have arrived since the last time.
    Latency(Sender<Latency>),
}

/// Counts that others may look at while it runs. The thread is their only writer.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// Everything that the thread owns.
pub(crate) struct Engine {
    generator: Generator,
    sink: Sink,
    hosts: Vec<HostSide>,
    rate: u64,
    /// Packets that the rate allows at this moment.
    budget: f64,
    /// The host that is the last to send in this round.
    turn: usize,
    settling: Option<Sender<Report>>,
    paused: bool,
    started: Instant,
    last_round: Instant,
    last_arrival: Instant,
    latency: Histogram<u64>,
    /// That of packets since it was last asked for.
    recent: Histogram<u64>,
    sent: u64,
}

/// The socket of a host and the frames that wait to be sent through it.
struct HostSide {
    socket: PacketSocket,
    pending: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Engine {
    pub(crate) fn new(
        generator: Generator,
        sink: Sink,
        sockets: Vec<PacketSocket>,
        rate: u64,
    ) -> Result<Self> {
        let now = wait::now();
        let side = |socket| HostSide { socket, pending: VecDeque::new(), spare: Vec::new() };
        Ok(Self {
            generator,
            sink,
            hosts: sockets.into_iter().map(side).collect(),
            rate,
            budget: 0.0,
            turn: 0,
            settling: None,
            paused: false,
            started: now,
            last_round: now,
            last_arrival: now,
            latency: Histogram::new_with_max(LATENCY_MAX_NS, 3)?,
            recent: Histogram::new_with_max(LATENCY_MAX_NS, 3)?,
            sent: 0,
        })
    }

    /// Runs until the other end of `commands` is gone. `wake` is readable when there is a command.
    pub(crate) fn run(
        mut self,
        commands: &Receiver<Command>,
        wake: &OwnedFd,
        live: &Live,
    ) -> Result<()> {
        let mut burst = Burst::default();
        loop {
            match commands.try_recv() {
                Ok(Command::Rate(rate)) => self.rate = rate,
                Ok(Command::Settle(reply)) => {
                    self.paused = true;
                    self.last_arrival = wait::now();
                    self.settling = Some(reply);
                }
                Ok(Command::Resume) => self.paused = false,
                Ok(Command::Latency(reply)) => {
                    // Whoever asked may have given up.
                    let _gone = reply.send(latency_of(&self.recent));
                    self.recent.reset();
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let now = wait::now();
            let received = self.receive(&mut burst, now)?;
            let sent = self.send(now)?;
            live.sent.store(self.sent, Ordering::Relaxed);
            live.received.store(self.sink.tally().received, Ordering::Relaxed);
            self.report_when_settled(now);
            if received + sent == 0 {
                self.sleep(wake)?;
            }
        }
    }

    fn receive(&mut self, burst: &mut Burst, now: Instant) -> Result<usize> {
        let mut total = 0;
        let now_ns = nanoseconds(now - self.started);
        for (host, side) in self.hosts.iter().enumerate() {
            total += side.socket.receive(burst, |frame| {
                let Some((mark, packet)) = udp::read(frame) else { return self.sink.stray() };
                let flow = usize::try_from(mark.flow).unwrap_or(usize::MAX);
                if self.generator.flows().get(flow).is_none_or(|flow| flow.to != host) {
                    return self.sink.stray();
                }
                if self.sink.arrive(&mark, packet) == Arrival::First {
                    self.generator.arrived(flow);
                }
                let took = now_ns.saturating_sub(mark.sent_ns);
                self.latency.saturating_record(took);
                self.recent.saturating_record(took);
            })?;
        }
        if total > 0 {
            self.last_arrival = now;
        }
        Ok(total)
    }

    fn send(&mut self, now: Instant) -> Result<usize> {
        let elapsed = now - self.last_round;
        self.last_round = now;
        #[expect(clippy::cast_precision_loss, reason = "a rate is far below 2^52 packets a second")]
        let rate = self.rate as f64;
        let most = (rate * CATCH_UP.as_secs_f64()).max(1.0);
        self.budget = (self.budget + rate * elapsed.as_secs_f64()).min(most);
        let mut total = 0;
        // At a low rate there is one packet to send in a round: each host is first in its turn.
        self.turn = (self.turn + 1) % self.hosts.len();
        for left in (1..=self.hosts.len()).rev() {
            let host = (self.turn + left) % self.hosts.len();
            self.build(host, left, nanoseconds(now - self.started));
            let side = &mut self.hosts[host];
            let sent = side.socket.send(side.pending.iter().map(Vec::as_slice))?;
            side.spare.extend(side.pending.drain(..sent));
            total += sent;
        }
        self.sent += total as u64;
        Ok(total)
    }

    /// Fills the queue of a host, `left` of which have not had their share, up to a burst, as far as
    /// rate and credit allow.
    fn build(&mut self, host: usize, left: usize, now_ns: u64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the budget is positive and at most 5 ms of a rate"
        )]
        let share = (self.budget / left as f64).ceil() as usize;
        let side = &mut self.hosts[host];
        let room = if self.paused { 0 } else { BURST - side.pending.len() };
        for _ in 0..room.min(share) {
            if self.budget < 1.0 {
                break;
            }
            let mut frame = side.spare.pop().unwrap_or_default();
            if !self.generator.next(host, now_ns, &mut frame) {
                side.spare.push(frame);
                break;
            }
            side.pending.push_back(frame);
            self.budget -= 1.0;
        }
    }

    fn report_when_settled(&mut self, now: Instant) {
        let quiet = now - self.last_arrival;
        let complete = self.generator.outstanding() == 0 && quiet >= QUIET;
        if self.settling.is_some() && (complete || quiet >= LOST_AFTER) {
            let reply = self.settling.take().expect("it is there");
            // Whoever asked may have given up.
            let _gone = reply.send(self.report(now));
            self.generator.give_up();
        }
    }

    fn report(&self, now: Instant) -> Report {
        let states = self.generator.states();
        let lost = |(flow, state): (usize, &crate::generator::FlowState)| {
            self.sink.lost(flow, state.packets)
        };
        let differs = |(flow, state): &(usize, &crate::generator::FlowState)| {
            self.sink.digest(*flow) != state.digest
        };
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu = Duration::new(
            u64::try_from(cpu.tv_sec).unwrap_or_default(),
            u32::try_from(cpu.tv_nsec).unwrap_or_default(),
        );
        Report {
            sent: self.sent,
            tally: self.sink.tally(),
            lost: states.iter().enumerate().map(lost).sum(),
            changed: states.iter().enumerate().filter(differs).count(),
            states: self.generator.flows().iter().cloned().zip(states.iter().copied()).collect(),
            latency: latency_of(&self.latency),
            cpu,
            elapsed: now - self.started,
        }
    }

    /// Sleeps until a packet arrives, a command comes, or it is time to send.
    fn sleep(&self, wake: &OwnedFd) -> Result<()> {
        let limit = if self.settling.is_some() {
            QUIET / 4
        } else if self.paused || self.rate == 0 {
            LOST_AFTER
        } else {
            TICK
        };
        let mut descriptors: Vec<PollFd<'_>> =
            self.hosts.iter().map(|host| PollFd::new(&host.socket, PollFlags::IN)).collect();
        descriptors.push(PollFd::new(wake, PollFlags::IN));
        wait::pause(&mut descriptors, limit)?;
        let mut counter = [0; 8];
        // Empty unless a command came.
        let _empty = rustix::io::read(wake, &mut counter);
        Ok(())
    }
}

fn latency_of(latency: &Histogram<u64>) -> Latency {
    Latency {
        packets: latency.len(),
        mean_ns: latency.mean(),
        p50_ns: latency.value_at_quantile(0.5),
        p99_ns: latency.value_at_quantile(0.99),
        max_ns: latency.max(),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
