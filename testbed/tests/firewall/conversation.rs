//! Random conversations: most of what is said is right, and much of the rest nearly so.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{PacketBuilder, PacketBuilderStep};
use fastrand::Rng;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

/// Two hosts that talk to each other.
pub(crate) struct Conversation {
    hosts: [u32; 2],
    /// Of the end that mostly begins.
    port: u16,
    v6: bool,
    kind: Kind,
}

enum Kind {
    Tcp([End; 2]),
    Udp,
    Echo,
}

/// One end of a TCP connection, as it sees itself.
#[derive(Clone, Copy)]
struct End {
    next: u32,
    window: u16,
    scale: Option<u8>,
    sack: bool,
}

/// A TCP segment that is to be sent.
struct Segment {
    seq: u32,
    ack: u32,
    flags: u8,
    length: usize,
    window: u16,
    options: Vec<u8>,
}

impl Conversation {
    /// A TCP connection whose sequence numbers soon begin again at 0.
    pub(crate) fn tcp(rng: &mut Rng, number: usize) -> Self {
        let end = |rng: &mut Rng| End {
            next: 0_u32.wrapping_sub(rng.u32(..40_000)),
            window: *rng.choice(&[1, 500, 8_000, 29_200, 65_535]).unwrap(),
            scale: rng.bool().then(|| rng.u8(..16)),
            sack: rng.bool(),
        };
        let ends = [end(rng), end(rng)];
        Self::of(number, rng.u8(..4) == 0, Kind::Tcp(ends))
    }

    /// UDP or echoes, and ICMP errors about them.
    pub(crate) fn datagrams(rng: &mut Rng, number: usize) -> Self {
        let kind = if rng.bool() { Kind::Udp } else { Kind::Echo };
        Self::of(number, rng.bool(), kind)
    }

    fn of(number: usize, v6: bool, kind: Kind) -> Self {
        // The cast holds: a test has a few thousand.
        let number = number as u32;
        // Not one more in both, or all flows would be in one bucket.
        Self { hosts: [number, 31 * number], port: 40_000, v6, kind }
    }

    /// The same, but that one of so many hosts mostly begins it.
    pub(crate) fn begun_by_one_of(self, hosts: u32) -> Self {
        let number = self.hosts[0];
        // The cast holds: a test has a few thousand.
        Self { hosts: [number % hosts, number], port: 40_000 + number as u16, ..self }
    }

    /// What is said, in order.
    pub(crate) fn frames(mut self, rng: &mut Rng, count: usize) -> Vec<Vec<u8>> {
        let mut frames: Vec<Vec<u8>> = Vec::with_capacity(count);
        let orderly = rng.u8(..10) < 8;
        for place in 0..count {
            let again = frames.len() > 3 && rng.u8(..12) == 0;
            let frame = if again {
                rng.choice(&frames).unwrap().clone()
            } else {
                self.next(rng, place, orderly, frames.last())
            };
            frames.push(frame);
        }
        frames
    }

    fn next(
        &mut self,
        rng: &mut Rng,
        place: usize,
        orderly: bool,
        last: Option<&Vec<u8>>,
    ) -> Vec<u8> {
        if let Some(last) = last
            && rng.u8(..20) == 0
        {
            return self.error(rng, last);
        }
        match &mut self.kind {
            Kind::Tcp(ends) => {
                let from = if orderly && place < 3 { place % 2 } else { rng.usize(..2) };
                let segment = say(rng, ends, from, orderly.then_some(place));
                self.segment(from, &segment)
            }
            Kind::Udp => self.udp(rng.usize(..2)),
            Kind::Echo => self.echo(rng),
        }
    }

    fn segment(&self, from: usize, segment: &Segment) -> Vec<u8> {
        let (ports, payload) = (self.ports(from), vec![b'x'; segment.length]);
        let mut step = self.ip(from).tcp(ports.0, ports.1, segment.seq, segment.window);
        for (flag, set) in [
            (FIN, (|step| step.fin()) as fn(PacketBuilderStep<_>) -> PacketBuilderStep<_>),
            (SYN, |step| step.syn()),
            (RST, |step| step.rst()),
            (PSH, |step| step.psh()),
            (URG, |step| step.urg(0)),
        ] {
            if segment.flags & flag != 0 {
                step = set(step);
            }
        }
        if segment.flags & ACK != 0 {
            step = step.ack(segment.ack);
        }
        let step = step.options_raw(&segment.options).unwrap();
        let mut frame = Vec::new();
        step.write(&mut frame, &payload).unwrap();
        frame
    }

    fn udp(&self, from: usize) -> Vec<u8> {
        let ports = self.ports(from);
        let mut frame = Vec::new();
        self.ip(from).udp(ports.0, ports.1).write(&mut frame, b"hello").unwrap();
        frame
    }

    fn echo(&self, rng: &mut Rng) -> Vec<u8> {
        let (from, asks, id) = (rng.usize(..2), rng.bool(), [0, rng.u8(..4), 0, 1]);
        let mut frame = Vec::new();
        let ip = self.ip(from);
        if self.v6 {
            let step = ip.icmpv6_raw(if asks { 128 } else { 129 }, 0, id);
            step.write(&mut frame, b"ping").unwrap();
        } else {
            let step = ip.icmpv4_raw(if asks { 8 } else { 0 }, 0, id);
            step.write(&mut frame, b"ping").unwrap();
        }
        frame
    }

    /// An error about a packet, to who has sent it or to the wrong host.
    fn error(&self, rng: &mut Rng, about: &[u8]) -> Vec<u8> {
        let to = usize::from(rng.u8(..4) == 0);
        let quoted = &about[14..about.len().min(14 + 60)];
        let mut frame = Vec::new();
        if self.v6 {
            let step = self.ip(1 - to).icmpv6_raw(1, 4, [0; 4]);
            step.write(&mut frame, quoted).unwrap();
        } else {
            let step = self.ip(1 - to).icmpv4_raw(3, 1, [0; 4]);
            step.write(&mut frame, quoted).unwrap();
        }
        frame
    }

    fn ports(&self, from: usize) -> (u16, u16) {
        if from == 0 { (self.port, 80) } else { (80, self.port) }
    }

    fn ip(&self, from: usize) -> PacketBuilderStep<etherparse::IpHeaders> {
        let step = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let numbers = self.hosts.map(u32::to_be_bytes);
        let [one, other] = if from == 0 { [0, 1] } else { [1, 0] };
        if self.v6 {
            let low = |n: usize| u16::from_be_bytes([numbers[n][2], numbers[n][3]]);
            let host =
                |n: usize| Ipv6Addr::new(0x2001, 0xdb8, 1 + n as u16, 0, 0, 0, 0, low(n)).octets();
            step.ipv6(host(one), host(other), 64)
        } else {
            let host =
                |n: usize| Ipv4Addr::new(10, 1 + n as u8, numbers[n][2], numbers[n][3]).octets();
            step.ipv4(host(one), host(other), 64)
        }
    }
}

/// What one end says next: the handshake first where it is orderly, then anything.
fn say(rng: &mut Rng, ends: &mut [End; 2], from: usize, place: Option<usize>) -> Segment {
    let (own, peer) = (ends[from], ends[1 - from]);
    let exact = place.is_some_and(|place| place < 3) && rng.u8(..20) != 0;
    let flags = match (place, rng.u8(..100)) {
        (Some(0), 0..98) => SYN,
        (Some(1), 0..98) => SYN | ACK,
        (Some(2), 0..98) => ACK,
        (_, 0..4) => SYN,
        (_, 4..7) => SYN | ACK,
        (_, 7..11) => RST | if rng.bool() { ACK } else { 0 },
        (_, 11..18) => FIN | ACK,
        (_, 18..20) => rng.u8(..64),
        _ => ACK | if rng.bool() { PSH } else { 0 },
    };
    let length = if flags & (SYN | RST) == 0 && rng.bool() { rng.usize(1..1_200) } else { 0 };
    let near = |rng: &mut Rng, number: u32, window: u32| {
        let edges = [1, window, window + 1, 66_000, 66_001, 1 << 31, rng.u32(..)];
        let edge = *rng.choice(&edges).unwrap();
        if rng.bool() { number.wrapping_add(edge) } else { number.wrapping_sub(edge) }
    };
    let scaled = |end: &End| u32::from(end.window) << end.scale.unwrap_or(0).min(14);
    let (mut seq, mut ack) = (own.next, peer.next);
    let (off_seq, off_ack) = (rng.u8(..6) == 0, rng.u8(..8) == 0);
    if off_seq && !exact {
        seq = near(rng, seq, scaled(&peer));
    }
    if off_ack && !exact {
        ack = near(rng, ack, scaled(&own));
    }
    let counted = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    if seq == own.next {
        // The casts hold: a length is under 1,200.
        ends[from].next = seq.wrapping_add(length as u32 + counted);
    }
    if flags & RST != 0 && rng.u8(..4) == 0 {
        seq = 0;
    }
    let window = if rng.u8(..8) == 0 { rng.u16(..3) } else { own.window };
    let options = options(rng, &own, flags, peer.next);
    Segment { seq, ack, flags, length, window, options }
}

fn options(rng: &mut Rng, own: &End, flags: u8, acked: u32) -> Vec<u8> {
    let mut options = Vec::new();
    if flags & SYN != 0 {
        options.extend([2, 4, 5, 180]);
        if let Some(scale) = own.scale {
            options.extend([1, 3, 3, scale]);
        }
        if own.sack {
            options.extend([1, 1, 4, 2]);
        }
    } else if rng.u8(..6) == 0 {
        let right = acked.wrapping_add(*rng.choice(&[0, 1, 1_000, 100_000]).unwrap());
        options.extend([1, 1, 5, 10]);
        options.extend(right.wrapping_sub(500).to_be_bytes());
        options.extend(right.to_be_bytes());
    }
    options
}
