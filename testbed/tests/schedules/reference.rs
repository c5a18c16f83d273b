//! What must come out: the packets of each flow as a router leaves them, in the order in which
//! they left, and the state that one instance would have of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use weir_dataplane::instance::digest::digest;
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::FlowRecord;
use weir_state_transfer::mark::{Guarantee, Request};
use weir_state_transfer::{
    Bucket, FlowKey, InstanceId, MoveId, Nanos, PortId, ServiceId, SteeringHash, protocol,
};
use weir_testbed::schedule::{Failure, Kind};

use crate::memory_node::{host, host_mac, port_mac};
use crate::shape::{EXTERNAL, FLOW_TIMEOUT};

/// The flows of a schedule and what has become of them.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) flows: Vec<Flow>,
    /// What moves were asked to do, in the order in which those that overlap are carried out.
    pub(crate) moves: BTreeMap<MoveId, Request>,
    pub(crate) injected: u64,
    pub(crate) taken: u64,
    /// Packets that left out of order, of flows whose order was not promised.
    pub(crate) reordered: u64,
}

/// A flow; its packets come in by one or two queues, each numbered on its own.
#[derive(Debug)]
pub(crate) struct Flow {
    number: usize,
    pub(crate) key: FlowKey,
    pub(crate) bucket: Bucket,
    pub(crate) lanes: Vec<Lane>,
    out: PortId,
    /// Whether a move of the flow has promised less than order.
    unordered: bool,
    /// What has left, in order.
    left: Vec<Left>,
    /// What it is on its way in and on its way out, where a NAT makes it another than its key: none
    /// until the first packet of its forward direction has told.
    came_as: Option<FlowKey>,
    left_as: Option<FlowKey>,
}

/// The packets of a flow that come in by one queue.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) port: PortId,
    pub(crate) queue: u16,
    /// When each was injected.
    injected: Vec<Nanos>,
    seen: Vec<bool>,
    last: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    lane: usize,
    sequence: usize,
    at: Nanos,
}

impl Reference {
    /// Random flows between the ports; every third is the reverse of the one before. With a NAT,
    /// all others come from inside, and every third wants the port of the one two before.
    pub(crate) fn new(
        count: usize,
        (ports, queues): (u8, u16),
        hash: &SteeringHash,
        nat: bool,
        rng: &mut Rng,
    ) -> Self {
        let mut flows: Vec<Flow> = Vec::new();
        for n in 0..count {
            let before = flows.last().filter(|_| n % 3 == 1).map(|flow| flow.key.reversed());
            let rival = n.checked_sub(2).filter(|_| nat && n % 3 == 2);
            let rival = rival.map(|other| rival_of(&flows[other].key));
            let key = before.or(rival).unwrap_or_else(|| {
                let (from, to) = (if nat { 0 } else { rng.u8(..ports) }, rng.u8(1..ports));
                let to = (from + to) % ports;
                let sport = 1000 + u16::try_from(n).expect("a handful of flows");
                let (src, dst) = (host(from), host(to));
                // Only the .2 of a network answers, so what has a reverse must come from it.
                let last = if n % 3 == 0 { 2 } else { rng.u8(2..6) };
                let src = Ipv4Addr::from([src.octets()[0], src.octets()[1], from, last]);
                FlowKey::v4(src, dst, (sport, rng.u16(50..53)), protocol::UDP, ServiceId(0))
            });
            let (from, to) = (network(key.src_octets()), network(key.dst_octets()));
            let lanes = (0..rng.usize(1..=2))
                .map(|_| Lane {
                    port: PortId(from),
                    queue: rng.u16(..queues),
                    injected: Vec::new(),
                    seen: Vec::new(),
                    last: None,
                })
                .collect();
            flows.push(Flow {
                number: n,
                key,
                bucket: hash.bucket(&key),
                lanes,
                out: PortId(to),
                unordered: false,
                left: Vec::new(),
                came_as: (!nat || n % 3 != 1).then_some(key),
                left_as: (!nat || n % 3 == 1).then_some(key),
            });
        }
        Self { flows, moves: BTreeMap::new(), injected: 0, taken: 0, reordered: 0 }
    }

    /// A move has been asked for.
    pub(crate) fn move_begins(&mut self, id: MoveId, request: &Request) {
        for flow in &mut self.flows {
            flow.unordered |= request.guarantee < Guarantee::Ordered
                && request.selection.matches(&flow.key, flow.bucket);
        }
        self.moves.insert(id, request.clone());
    }

    /// Packets that have come in and not left.
    pub(crate) fn outstanding(&self) -> u64 {
        self.injected - self.taken
    }

    /// The next packet of a lane; none while it is not known what its receiver is called.
    pub(crate) fn next(&self, flow: usize, lane: usize) -> Option<Vec<u8>> {
        let sequence = self.flows[flow].lanes[lane].injected.len();
        self.flows[flow].packet(lane, sequence, Side::In)
    }

    /// The next packet of a lane has been injected.
    pub(crate) fn inject(&mut self, flow: usize, lane: usize, now: Nanos) {
        let lane = &mut self.flows[flow].lanes[lane];
        lane.injected.push(now);
        lane.seen.push(false);
        self.injected += 1;
    }

    /// A packet has left by a port.
    pub(crate) fn take(&mut self, port: PortId, bytes: &[u8], now: Nanos) -> Result<(), Failure> {
        let number = |at: usize| {
            let word = bytes.get(at..at + 2)?.try_into().ok()?;
            Some(usize::from(u16::from_be_bytes(word)))
        };
        let named = || Some((number(PAYLOAD)?, number(PAYLOAD + 2)?, number(PAYLOAD + 4)?));
        let known = named().filter(|(flow, lane, sequence)| {
            let lane = self.flows.get(*flow).and_then(|flow| flow.lanes.get(*lane));
            lane.is_some_and(|lane| lane.injected.len() > *sequence)
        });
        let Some((number, lane, sequence)) = known else {
            return Err(Kind::Corrupted.at(format!("{bytes:02x?}")));
        };
        if self.flows[number].left_as.is_none() {
            self.learn(number, bytes)?;
        }
        let flow = &mut self.flows[number];
        let name = format!("{} lane {lane} packet {sequence}", flow.key);
        if flow.packet(lane, sequence, Side::Out).as_deref() != Some(bytes) || port != flow.out {
            return Err(Kind::Corrupted.at(format!("{name} by port {port}")));
        }
        flow.left.push(Left { lane, sequence, at: now });
        let lane = &mut flow.lanes[lane];
        if std::mem::replace(&mut lane.seen[sequence], true) {
            return Err(Kind::Duplicated.at(name));
        }
        match lane.last.replace(sequence) {
            Some(last) if last > sequence && flow.unordered => self.reordered += 1,
            Some(last) if last > sequence => {
                return Err(Kind::Reordered.at(format!("{name} after {last}")));
            }
            Some(_) | None => {}
        }
        self.taken += 1;
        Ok(())
    }

    /// What a NAT has made of a flow, which no other may be, stays until the end.
    fn learn(&mut self, number: usize, bytes: &[u8]) -> Result<(), Failure> {
        let key = self.flows[number].key;
        let source = bytes.get(SOURCE..SOURCE + 2).and_then(|bytes| bytes.try_into().ok());
        let ports = (u16::from_be_bytes(source.unwrap_or_default()), key.dst_port());
        let left_as = FlowKey::new(EXTERNAL.into(), key.dst(), ports, protocol::UDP, key.service());
        if let Some(other) = self.flows.iter().find(|flow| flow.left_as == left_as) {
            return Err(Kind::Collided.at(format!("{key} and {} are {left_as:?}", other.key)));
        }
        self.flows[number].left_as = left_as;
        if let Some(back) = self.flows.iter_mut().find(|flow| flow.key == key.reversed()) {
            back.came_as = left_as.map(|key| key.reversed());
        }
        Ok(())
    }

    /// The owner of a flow after the moves that were done.
    pub(crate) fn owner(&self, flow: &Flow, done: impl Fn(MoveId) -> bool) -> InstanceId {
        self.moves.iter().filter(|(id, _)| done(**id)).fold(FIRST, |owner, (_, request)| {
            let moves = request.per_flow
                && request.from == owner
                && request.selection.matches(&flow.key, flow.bucket);
            if moves { request.to } else { owner }
        })
    }
}

impl Lane {
    /// Packets that have come in.
    pub(crate) fn injected(&self) -> usize {
        self.injected.len()
    }
}

impl Flow {
    /// Packets that have left.
    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }

    /// Its key as its packets come in, if one can have.
    pub(crate) fn came_as(&self) -> Option<&FlowKey> {
        self.came_as.as_ref()
    }

    /// Compares the state that the instances keep of the flow with what has left, from the last
    /// time that it may have been forgotten on.
    pub(crate) fn check_state(&self, kept: &[&FlowRecord], now: Nanos) -> Result<(), Failure> {
        let wrong = |why: &str| Err(Kind::State.at(format!("{}: {why}: {kept:?}", self.key)));
        let (packets, record) = match kept {
            [] => (0, None),
            [one] => (one.packets, Some(one)),
            _ => return Err(Kind::Owner.at(format!("{} is twice: {kept:?}", self.key))),
        };
        let packets = usize::try_from(packets).expect("it fits");
        let Some(start) = self.left.len().checked_sub(packets) else {
            return wrong("counts more than left");
        };
        if self.unordered {
            // Which packets it counts is not known if some came before it was forgotten.
            let forgotten = (1..=self.left.len()).any(|place| self.may_be_forgotten(place, now));
            return if start > 0 && !forgotten { wrong("counts less than left") } else { Ok(()) };
        }
        if start > 0 && !self.may_be_forgotten(start, now) {
            return wrong(&format!("{} left", self.left.len()));
        }
        let (mut bytes, mut state) = (0, 0);
        for left in &self.left[start..] {
            let Some(packet) = self.packet(left.lane, left.sequence, Side::Out) else {
                return wrong("has left without a name");
            };
            bytes += (packet.len() - ETHERNET) as u64;
            state = digest(state, &packet[ETHERNET..]);
        }
        match record {
            Some(record) if (record.bytes, record.digest) != (bytes, state) => {
                wrong(&format!("{bytes} bytes, digest {state}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the flow may have been idle for too long before what left as number `place`; or
    /// since, when nothing has left behind it.
    fn may_be_forgotten(&self, place: usize, now: Nanos) -> bool {
        let before = &self.left[place - 1];
        let until = self.left.get(place).map_or(now, |left| left.at);
        until.since(self.lanes[before.lane].injected[before.sequence]) >= FLOW_TIMEOUT
    }

    /// A packet as it comes in or goes out: Ethernet, IPv4, UDP without a checksum, and which one
    /// it is, with some more bytes in some.
    fn packet(&self, lane: usize, sequence: usize, side: Side) -> Option<Vec<u8>> {
        let name = match side {
            Side::In => self.came_as?,
            Side::Out => self.left_as?,
        };
        let (to, from, ttl) = match side {
            Side::In => {
                let PortId(port) = self.lanes[lane].port;
                (port_mac(port), host_mac(port), 64)
            }
            Side::Out => (host_mac(self.out.0), port_mac(self.out.0), 63),
        };
        let payload = NAME + sequence % 5;
        let ip_len = 20 + 8 + payload;
        let mut packet = Vec::with_capacity(ETHERNET + ip_len);
        packet.extend(to.0.iter().chain(&from.0).chain(&[8, 0]));
        packet.extend([0x45, 0]);
        packet.extend(short(ip_len));
        packet.extend(short(sequence));
        packet.extend([0x40, 0, ttl, protocol::UDP, 0, 0]);
        packet.extend(&name.src_octets()[12..]);
        packet.extend(&name.dst_octets()[12..]);
        let sum = checksum(&packet[ETHERNET..]);
        packet[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum);
        packet.extend(name.src_port().to_be_bytes());
        packet.extend(name.dst_port().to_be_bytes());
        packet.extend(short(8 + payload));
        packet.extend([0, 0]);
        packet.extend([short(self.number), short(lane), short(sequence)].as_flattened());
        packet.resize(ETHERNET + ip_len, 0xAB);
        Some(packet)
    }
}

/// Where a packet is seen.
#[derive(Clone, Copy, Debug)]
enum Side {
    In,
    Out,
}

const ETHERNET: usize = 14;
/// Where the name of a packet begins: its flow, lane and number.
const PAYLOAD: usize = ETHERNET + 20 + 8;
/// Where the source port is.
const SOURCE: usize = ETHERNET + 20;
/// Bytes of the name.
const NAME: usize = 6;

/// Another host's flow that a NAT would give the same port to: address and port come to the same.
fn rival_of(key: &FlowKey) -> FlowKey {
    let [.., a, b, c, d] = *key.src_octets();
    let ports = (key.src_port() ^ 1, key.dst_port());
    let src = IpAddr::from([a, b, c, d ^ 1]);
    FlowKey::new(src, key.dst(), ports, key.protocol(), key.service()).expect("of one family")
}

/// The number of the port whose network an address is in.
fn network(octets: &[u8; 16]) -> u8 {
    octets[14]
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a small number").to_be_bytes()
}

/// The Internet checksum (RFC 1071) of a header.
fn checksum(header: &[u8]) -> [u8; 2] {
    let words = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xFFFF) + (sum >> 16);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    (!u16::try_from(sum).expect("folded")).to_be_bytes()
}
