//! The sending end: which packet goes next, and whether there is credit for it.

use crate::flow::Flow;
use crate::sink::Digest;
use crate::udp::{self, ETHERNET, FRAME_MIN, Mark, TTL};

/// Flows of a host that are sent at a time: few, so that each has several packets in flight and
/// a change of their order can show.
const ACTIVE: usize = 16;
/// Most packets of a flow before another flow takes its place.
const ROUND_MAX: u32 = 16;

/// Builds numbered packets of many flows, never more of them in flight than there is credit for.
///
/// A packet takes credit of its sending host when it is built and gives it back when it arrives;
/// so no stall of the machine can overflow a queue that has room for the credit.
#[derive(Debug)]
pub struct Generator {
    flows: Vec<Flow>,
    states: Vec<FlowState>,
    hosts: Vec<Sender>,
    credit: usize,
    frame_max: usize,
    digest: Digest,
    random: fastrand::Rng,
}

/// What a router that forwards every packet of a flow once and in order has in its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    /// Packets sent.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// The rolling hash over the packets as they are forwarded: one hop less to live.
    pub digest: u64,
}

/// The flows that one host sends.
#[derive(Debug)]
struct Sender {
    flows: Vec<usize>,
    next: usize,
    active: Vec<Active>,
    outstanding: usize,
}

#[derive(Debug)]
struct Active {
    flow: usize,
    left: u32,
}

impl Generator {
    /// A generator for `flows` between `hosts` hosts with `credit` packets in flight a host, and
    /// frames of at most `frame_max` bytes, most of them short.
    pub fn new(flows: Vec<Flow>, hosts: usize, limits: Limits, digest: Digest, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let senders = (0..hosts)
            .map(|host| {
                let mut own: Vec<usize> =
                    (0..flows.len()).filter(|flow| flows[*flow].from == host).collect();
                random.shuffle(&mut own);
                Sender { flows: own, next: 0, active: Vec::new(), outstanding: 0 }
            })
            .collect();
        Self {
            states: vec![FlowState::default(); flows.len()],
            flows,
            hosts: senders,
            credit: limits.credit,
            frame_max: limits.frame_max.max(FRAME_MIN),
            digest,
            random,
        }
    }

    /// Builds the next packet of a host into `frame`; false when the host has no credit or flows.
    pub fn next(&mut self, host: usize, sent_ns: u64, frame: &mut Vec<u8>) -> bool {
        if self.available(host) == 0 {
            return false;
        }
        let Some(flow) = self.hosts[host].choose(&mut self.random) else { return false };
        self.hosts[host].outstanding += 1;
        // One frame in eight is long.
        let length_max = if self.random.u8(..8) == 0 { self.frame_max } else { FRAME_MIN + 32 };
        frame.resize(self.random.usize(FRAME_MIN..=length_max.min(self.frame_max)), 0);
        let state = &mut self.states[flow];
        let mark = Mark { flow: flow as u64, sequence: state.packets, sent_ns };
        udp::write(&self.flows[flow], &mark, TTL - 1, frame);
        state.digest = (self.digest)(state.digest, &frame[ETHERNET..]);
        state.packets += 1;
        state.bytes += (frame.len() - ETHERNET) as u64;
        udp::write(&self.flows[flow], &mark, TTL, frame);
        true
    }

    /// Packets that a host may send at this moment.
    pub fn available(&self, host: usize) -> usize {
        self.credit - self.hosts[host].outstanding
    }

    /// Gives back the credit of a packet of a flow that arrived for the first time.
    pub fn arrived(&mut self, flow: usize) {
        let outstanding = &mut self.hosts[self.flows[flow].from].outstanding;
        // One that was given up may come after all.
        *outstanding = outstanding.saturating_sub(1);
    }

    /// Gives back the credit of packets that have not arrived: they are lost.
    pub fn give_up(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.outstanding = 0);
    }

    /// Packets of all hosts that were built and have not arrived.
    pub fn outstanding(&self) -> usize {
        self.hosts.iter().map(|host| host.outstanding).sum()
    }

    /// The flows, in the order of their numbers.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// What a router must have counted, flow by flow.
    pub fn states(&self) -> &[FlowState] {
        &self.states
    }
}

/// Bounds of a generator.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Packets of a host in flight.
    pub credit: usize,
    /// Longest frame in bytes.
    pub frame_max: usize,
}

impl Sender {
    /// The flow of the next packet: one of the active ones by chance.
    fn choose(&mut self, random: &mut fastrand::Rng) -> Option<usize> {
        while self.active.len() < ACTIVE.min(self.flows.len()) {
            let flow = self.flows[self.next];
            self.next = (self.next + 1) % self.flows.len();
            self.active.push(Active { flow, left: random.u32(1..=ROUND_MAX) });
        }
        if self.active.is_empty() {
            return None;
        }
        let slot = random.usize(..self.active.len());
        let active = &mut self.active[slot];
        active.left -= 1;
        let flow = active.flow;
        if active.left == 0 {
            self.active.swap_remove(slot);
        }
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::between_all_pairs;
    use crate::sink::{Arrival, Sink};

    const LIMITS: Limits = Limits { credit: 50, frame_max: 300 };

    fn digest(so_far: u64, packet: &[u8]) -> u64 {
        packet.iter().fold(so_far, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0193))
    }

    /// What a router does to a packet: one hop less, the IPv4 checksum adjusted.
    fn forward(frame: &mut [u8]) {
        match frame[ETHERNET] >> 4 {
            4 => {
                frame[ETHERNET + 8] -= 1;
                let old = u16::from_be_bytes([frame[24], frame[25]]);
                let (sum, carry) = old.overflowing_add(0x100);
                frame[24..26].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
            }
            _ => frame[ETHERNET + 7] -= 1,
        }
    }

    #[test]
    fn a_host_stops_at_its_credit_and_goes_on_when_packets_arrive() {
        let mut generator = Generator::new(between_all_pairs(4, 48, 1), 4, LIMITS, digest, 1);
        let mut frame = Vec::new();
        let built = |generator: &mut Generator, frame: &mut Vec<u8>| {
            let mut count = 0;
            while generator.next(0, 0, frame) {
                count += 1;
            }
            count
        };
        assert_eq!(built(&mut generator, &mut frame), 50);
        assert_eq!(generator.outstanding(), 50);
        generator.arrived(0);
        generator.arrived(1);
        assert_eq!(built(&mut generator, &mut frame), 2);
        assert!(generator.next(1, 0, &mut frame), "another host has credit of its own");
    }

    #[test]
    fn every_flow_is_sent_and_several_packets_of_a_flow_are_in_flight() {
        let mut generator = Generator::new(between_all_pairs(4, 480, 1), 4, LIMITS, digest, 1);
        let mut frame = Vec::new();
        let mut in_flight_of_one_flow = 0;
        for _ in 0..400 {
            for host in 0..4 {
                let mut flows = Vec::new();
                while generator.next(host, 0, &mut frame) {
                    flows.push(usize::try_from(udp::read(&frame).unwrap().0.flow).unwrap());
                }
                let count = flows.iter().filter(|flow| **flow == flows[0]).count();
                in_flight_of_one_flow = in_flight_of_one_flow.max(count);
                flows.into_iter().for_each(|flow| generator.arrived(flow));
            }
        }
        assert!(generator.states().iter().all(|state| state.packets > 0));
        assert!(in_flight_of_one_flow >= 4, "{in_flight_of_one_flow}");
    }

    #[test]
    fn a_clean_forwarder_leaves_the_digests_that_were_foreseen() {
        let mut generator = Generator::new(between_all_pairs(4, 48, 1), 4, LIMITS, digest, 1);
        let mut sink = Sink::new(48, digest);
        let mut frame = Vec::new();
        for step in 0..2_000 {
            assert!(generator.next(step % 4, 0, &mut frame));
            forward(&mut frame);
            let (mark, packet) = udp::read(&frame).unwrap();
            assert_eq!(sink.arrive(&mark, packet), Arrival::First);
            generator.arrived(usize::try_from(mark.flow).unwrap());
        }
        for (flow, state) in generator.states().iter().enumerate() {
            assert_eq!(sink.digest(flow), state.digest);
            assert_eq!(sink.lost(flow, state.packets), 0);
        }
    }

    /// Drops, duplicates and swaps packets on purpose: the sink must count each exactly.
    #[test]
    fn faults_injected_on_the_way_are_each_detected() {
        let mut generator = Generator::new(between_all_pairs(2, 6, 1), 2, LIMITS, digest, 1);
        let mut sink = Sink::new(6, digest);
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut frame = Vec::new();
        while generator.next(0, 0, &mut frame) {
            forward(&mut frame);
            frames.push(frame.clone());
        }
        let mark_of = |frame: &[u8]| udp::read(frame).unwrap().0;
        // Two neighbours of one flow, to be swapped behind a third packet of another.
        let first = mark_of(&frames[0]).flow;
        let again = (1..50).find(|at| mark_of(&frames[*at]).flow == first).unwrap();
        frames.swap(0, again);
        let dropped = mark_of(&frames.pop().unwrap());
        frames.push(frames[20].clone());
        for frame in &frames {
            let (mark, packet) = udp::read(frame).unwrap();
            sink.arrive(&mark, packet);
        }
        assert_eq!(sink.tally().reordered, 1);
        assert_eq!(sink.tally().duplicated, 1);
        let lost: Vec<u64> = (0..6).map(|f| sink.lost(f, generator.states()[f].packets)).collect();
        assert_eq!(lost.iter().sum::<u64>(), 1);
        assert_eq!(lost[usize::try_from(dropped.flow).unwrap()], 1);
    }
}
