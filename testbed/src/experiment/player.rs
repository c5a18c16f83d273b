//! The thread that replays packets at a rate and takes what comes out of the router.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{mem, sync::Arc};

use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags};

use super::conversations::{Conversations, End, Packet};
use super::replay::{Replay, Tally};
use crate::demo::Cancel;
use crate::packet_socket::{BURST, Burst, PacketSocket};
use crate::wait;

/// When nothing has arrived for so long, what is outstanding is lost.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// How long it stays quiet after the last packet, so that a late duplicate is seen.
const QUIET: Duration = Duration::from_millis(20);
/// Longest sleep while packets are to be sent.
const TICK: Duration = Duration::from_micros(200);
/// Most that may be sent at once to catch up after the thread was off its core.
const CATCH_UP: Duration = Duration::from_millis(5);

/// A replay that runs.
#[derive(Debug)]
pub(super) struct Player {
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Played>>,
}

/// A replay that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Played {
    pub(super) tally: Tally,
    /// From the first packet to the last that was sent.
    pub(super) took: Duration,
}

impl Player {
    /// Starts it: `sockets` are those of the clients' and of the servers' host, `rate` is in
    /// packets a second.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn start(
        all: &Arc<Conversations>,
        sockets: [PacketSocket; 2],
        rate: u64,
    ) -> Result<Self> {
        let sent = Arc::new(AtomicUsize::new(0));
        let thread = thread::Builder::new().name("replay".into()).spawn({
            let (all, sent) = (Arc::clone(all), Arc::clone(&sent));
            move || Loop::new(&all, sockets, rate).run(&sent)
        })?;
        Ok(Self { sent, thread })
    }

    /// Waits until so many packets have been sent.
    ///
    /// # Errors
    /// When the replay has ended before or does not go on, or the user has asked to stop.
    pub(super) fn wait_for(&self, packets: usize, cancel: &Cancel) -> Result<()> {
        let reached = || self.sent.load(Ordering::Relaxed) >= packets;
        wait::until(&format!("packet {packets}"), wait::LIMIT, || {
            (reached() || self.thread.is_finished() || cancel.check().is_err()).then_some(())
        })?;
        cancel.check()?;
        reached().then_some(()).with_context(|| format!("the replay ended before {packets}"))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When a device has failed.
    pub(super) fn finish(self) -> Result<Played> {
        self.thread.join().map_err(|_| anyhow!("the replay has panicked"))?
    }
}

/// What the thread owns.
struct Loop<'a> {
    replay: Replay<'a>,
    sides: [Side<'a>; 2],
    rate: f64,
    /// Packets that the rate allows at this moment.
    budget: f64,
}

struct Side<'a> {
    end: End,
    socket: PacketSocket,
    /// Packets that wait for the device.
    pending: Vec<&'a Packet>,
}

impl<'a> Loop<'a> {
    fn new(all: &'a Conversations, sockets: [PacketSocket; 2], rate: u64) -> Self {
        let [clients, servers] = sockets;
        let side = |end, socket| Side { end, socket, pending: Vec::new() };
        Self {
            replay: Replay::new(&all.packets, all.clients.len()),
            sides: [side(End::Client, clients), side(End::Server, servers)],
            rate: rate as f64,
            budget: 0.0,
        }
    }

    fn run(mut self, sent: &AtomicUsize) -> Result<Played> {
        let started = wait::now();
        let (mut last_round, mut last_event) = (started, started);
        let mut took = Duration::ZERO;
        let mut burst = Burst::default();
        loop {
            let now = wait::now();
            let moved =
                self.receive(&mut burst)? + self.send(now - mem::replace(&mut last_round, now))?;
            sent.store(self.replay.tally().sent as usize, Ordering::Relaxed);
            if moved > 0 {
                last_event = now;
            } else {
                self.sleep()?;
            }
            if !self.replay.is_sent() {
                took = now - started;
            }
            if self.is_over(now - last_event) {
                return Ok(Played { tally: self.replay.tally(), took });
            }
        }
    }

    /// Whether all has arrived, or nothing more will. `idle` is for how long nothing has happened.
    fn is_over(&self, idle: Duration) -> bool {
        let complete = self.replay.is_sent() && self.replay.is_quiet();
        idle >= if complete { QUIET } else { LOST_AFTER }
    }

    fn receive(&mut self, burst: &mut Burst) -> Result<usize> {
        let mut total = 0;
        for Side { end, socket, .. } in &self.sides {
            total += socket.receive(burst, |frame| {
                // Hosts say other things too, such as who they are.
                if super::conversations::segment(frame).is_some() {
                    self.replay.arrived(*end, frame);
                }
            })?;
        }
        Ok(total)
    }

    fn send(&mut self, elapsed: Duration) -> Result<usize> {
        let most = (self.rate * CATCH_UP.as_secs_f64()).max(1.0);
        self.budget = (self.budget + self.rate * elapsed.as_secs_f64()).min(most);
        let mut room = BURST;
        while self.budget >= 1.0 && room > 0 {
            let Some(packet) = self.replay.next() else { break };
            self.sides[packet.from as usize].pending.push(packet);
            self.budget -= 1.0;
            room -= 1;
        }
        let mut total = 0;
        for Side { socket, pending, .. } in &mut self.sides {
            let sent = socket.send(pending.iter().map(|packet| packet.frame.as_slice()))?;
            pending.drain(..sent);
            total += sent;
        }
        Ok(total)
    }

    /// Until a packet arrives, or it is time to send.
    fn sleep(&self) -> Result<()> {
        let mut descriptors =
            self.sides.each_ref().map(|side| PollFd::new(&side.socket, PollFlags::IN));
        wait::pause(&mut descriptors, TICK)?;
        Ok(())
    }
}
