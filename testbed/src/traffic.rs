//! UDP traffic between the hosts of a topology, judged exactly.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::event::{EventfdFlags, eventfd};

use crate::engine::{Command, Engine, Live};
use crate::flow::{DESTINATION_PORTS, Flow, between_all_pairs};
use crate::generator::{FlowState, Generator, Limits};
use crate::packet_socket::{PacketSocket, arriving_udp};
use crate::sink::{Digest, Sink, Tally};
use crate::topology::Topology;

/// Packets of a host in flight unless asked otherwise.
///
/// The narrowest queue on the way is the ring of a veth end with an XDP program: 256 packets. All
/// four hosts together also stay below the 1,000 packets that the kernel queues for a host
/// (`net.core.netdev_max_backlog`). So at no stall of this machine is there an overflow, with
/// as much again left for TCP.
pub const CREDIT: usize = 120;

/// What traffic to make.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// UDP flows, spread over all ordered pairs of hosts; rounded up.
    pub flows: usize,
    /// Packets a second of all flows together.
    pub rate: u64,
    /// Packets of a host in flight, and the longest frame.
    pub limits: Limits,
    /// Where everything random comes from.
    pub seed: u64,
    /// The rolling hash that the router keeps for each flow.
    pub digest: Digest,
}

impl Options {
    /// Traffic of the default shape.
    pub fn new(flows: usize, rate: u64, seed: u64, digest: Digest) -> Self {
        Self { flows, rate, limits: Limits { credit: CREDIT, frame_max: 600 }, seed, digest }
    }
}

/// Traffic that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Traffic {
    /// None once the thread has been told to end.
    commands: Option<Sender<Command>>,
    wake: Arc<OwnedFd>,
    live: Arc<Live>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What became of the packets, when everything had arrived or was lost.
#[derive(Clone, Debug)]
pub struct Report {
    /// Packets sent.
    pub sent: u64,
    /// Packets received, duplicated, reordered, stray.
    pub tally: Tally,
    /// Packets that never arrived.
    pub lost: u64,
    /// Flows whose packets arrived in another form or order than they were to be forwarded in.
    pub changed: usize,
    /// What the router must have counted, flow by flow.
    pub states: Vec<(Flow, FlowState)>,
    /// From sending to receiving.
    pub latency: Latency,
    /// CPU time of the generator and sink together.
    pub cpu: Duration,
    /// Time since the traffic was started.
    pub elapsed: Duration,
}

/// One-way latency, as the sink sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Packets.
    pub packets: u64,
    /// What they took on average, in nanoseconds.
    pub mean_ns: f64,
    /// Half of the packets took less, in nanoseconds.
    pub p50_ns: u64,
    /// 99 % of the packets took less, in nanoseconds.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Report {
    /// Whether every packet arrived once, in order, at the right host and as it was to be.
    pub fn is_clean(&self) -> bool {
        let Tally { received, duplicated, reordered, stray } = self.tally;
        received == self.sent
            && [self.lost, duplicated, reordered, stray, self.changed as u64] == [0; 5]
    }

    /// CPU time of the testbed itself for a packet sent and received, in nanoseconds.
    pub fn cpu_ns_a_packet(&self) -> u64 {
        u64::try_from(self.cpu.as_nanos()).unwrap_or(u64::MAX) / self.sent.max(1)
    }
}

impl Traffic {
    /// Starts traffic between all hosts. They should have reached each other before: a router
    /// may drop packets to a host whose link-layer address it does not know yet.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(topology: &Topology, options: Options) -> Result<Self> {
        let filter = || arriving_udp(*DESTINATION_PORTS.start(), *DESTINATION_PORTS.end());
        let sockets =
            topology.hosts.iter().map(|host| host.socket(&filter())).collect::<Result<Vec<_>>>()?;
        Self::over(sockets, options)
    }

    /// Starts traffic between the hosts of these sockets, those of the first SAPs.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn over(sockets: Vec<PacketSocket>, options: Options) -> Result<Self> {
        let flows = between_all_pairs(sockets.len(), options.flows, options.seed);
        let sink = Sink::new(flows.len(), options.digest);
        let generator =
            Generator::new(flows, sockets.len(), options.limits, options.digest, options.seed);
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (commands, orders) = mpsc::channel();
        let live = Arc::new(Live::default());
        let thread = thread::Builder::new().name("traffic".into()).spawn({
            let (wake, live) = (Arc::clone(&wake), Arc::clone(&live));
            move || Engine::new(generator, sink, sockets, options.rate)?.run(&orders, &wake, &live)
        })?;
        Ok(Self { commands: Some(commands), wake, live, thread: Some(thread) })
    }

    /// Changes the rate, in packets a second.
    pub fn set_rate(&self, rate: u64) {
        self.order(Command::Rate(rate));
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.live.sent.load(Ordering::Relaxed)
    }

    /// Packets received so far.
    pub fn received(&self) -> u64 {
        self.live.received.load(Ordering::Relaxed)
    }

    /// The latency of packets that have arrived since this was last asked.
    ///
    /// # Errors
    /// When the traffic has failed.
    pub fn latency(&mut self) -> Result<Latency> {
        let (reply, latency) = mpsc::channel();
        self.order(Command::Latency(reply));
        latency.recv().map_err(|_| self.failure())
    }

    /// Stops sending, waits until everything has arrived or is lost, and reports from the start.
    ///
    /// # Errors
    /// When the traffic has failed.
    pub fn settle(&mut self) -> Result<Report> {
        let (reply, report) = mpsc::channel();
        self.order(Command::Settle(reply));
        report.recv().map_err(|_| self.failure())
    }

    /// Goes on sending after [`Self::settle`].
    pub fn resume(&self) {
        self.order(Command::Resume);
    }

    /// Settles, reports and ends.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub fn stop(mut self) -> Result<Report> {
        self.settle()
    }

    fn order(&self, command: Command) {
        // A thread that has failed says why at the next report.
        let _failed = self.commands.as_ref().map(|commands| commands.send(command));
        let _counter_full = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn failure(&mut self) -> anyhow::Error {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error.context("the traffic has failed"),
            Some(Ok(Ok(()))) | None => anyhow!("the traffic has ended"),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.commands = None;
        let _counter_full = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _result = thread.join();
        }
    }
}

/// Lets every host reach every other once over both families, so that neighbours are known.
///
/// # Errors
/// When a host cannot be reached.
pub fn warm_up(topology: &Topology) -> Result<()> {
    for (index, from) in topology.hosts.iter().enumerate() {
        for (_, to) in topology.hosts.iter().enumerate().filter(|(other, _)| *other != index) {
            for address in [to.ipv4().to_string(), to.ipv6().to_string()] {
                let ping = format!("ping -n -q -c 1 -W 10 {address}");
                from.namespace.run(&ping).context("a host does not reach another")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

    use super::*;
    use crate::wait::{LIMIT, until};

    fn digest(so_far: u64, packet: &[u8]) -> u64 {
        packet.chunks(8).fold(so_far, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95)
        })
    }

    /// Hosts that the kernel forwards between, with the traffic on one core: such a router queues
    /// what arrives by the core that sent it, so that a sender which is given another core may
    /// overtake itself.
    fn through_the_kernel() -> Topology {
        stay_on_this_core();
        let topology = Topology::new(2).unwrap();
        topology.forward_by_kernel().unwrap();
        topology.without_host_queues().unwrap();
        warm_up(&topology).unwrap();
        topology
    }

    /// For this thread, and those that it starts.
    fn stay_on_this_core() {
        let mut core = CpuSet::new();
        core.set(sched_getcpu());
        sched_setaffinity(None, &core).unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn the_testbed_itself_loses_duplicates_and_reorders_nothing() {
        let topology = through_the_kernel();
        let options = Options::new(2_000, 100_000, 1, digest);
        let mut traffic = Traffic::start(&topology, options).unwrap();
        until("100,000 packets", LIMIT, || (traffic.received() > 100_000).then_some(())).unwrap();
        let report = traffic.settle().unwrap();
        println!(
            "{} packets in {:?}, {} ns of CPU time each, latency {:?}",
            report.sent,
            report.elapsed,
            report.cpu_ns_a_packet(),
            report.latency
        );
        assert!(
            report.is_clean(),
            "{:?} lost {} changed {}",
            report.tally,
            report.lost,
            report.changed
        );
        assert!(report.states.iter().all(|(_, state)| state.packets > 0));
        traffic.resume();
        let before = traffic.sent();
        until("more packets", LIMIT, || (traffic.sent() > before + 1_000).then_some(())).unwrap();
        assert!(traffic.stop().unwrap().is_clean());
    }

    #[test]
    #[ignore = "needs root"]
    fn packets_dropped_on_the_way_are_all_missed() {
        let topology = through_the_kernel();
        let (first, last) = (DESTINATION_PORTS.start(), DESTINATION_PORTS.end());
        let mut nft = topology.router.command("nft");
        nft.arg(format!(
            "add table ip weir; \
             add chain ip weir forward {{ type filter hook forward priority 0; }}; \
             add rule ip weir forward udp dport {first}-{last} numgen inc mod 100 == 7 counter drop"
        ));
        crate::command::run(&mut nft).unwrap();
        let traffic = Traffic::start(&topology, Options::new(48, 50_000, 1, digest)).unwrap();
        until("10,000 packets", LIMIT, || (traffic.sent() > 10_000).then_some(())).unwrap();
        let report = traffic.stop().unwrap();
        let rules = topology.router.run("nft list chain ip weir forward").unwrap();
        let dropped: u64 =
            rules.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(report.lost, dropped);
        assert!(dropped > 0 && !report.is_clean());
        assert_eq!(report.tally.received + dropped, report.sent);
    }

    #[test]
    #[ignore = "needs root"]
    fn the_rate_is_kept() {
        let topology = through_the_kernel();
        let traffic = Traffic::start(&topology, Options::new(48, 2_000, 1, digest)).unwrap();
        until("2,000 packets", LIMIT, || (traffic.sent() >= 2_000).then_some(())).unwrap();
        let report = traffic.stop().unwrap();
        assert!(report.elapsed >= Duration::from_millis(900), "{:?}", report.elapsed);
        assert!(report.is_clean());
    }
}
