//! Echo requests of the router itself, behind all that a worker has sent to a next hop: whoever answers
//! has taken all of that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_frame::Frame;
use weir_state_transfer::{WorkerId, protocol};
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::U16;

use super::PortAddresses;
use super::echo::TTL;
use crate::packet::checksum::{self, Sum, pseudo_header};
use crate::packet::ethernet::{self, EthernetHeader};
use crate::packet::icmp::{self, IcmpHeader};
use crate::packet::ipv4::{self, Ipv4Header};
use crate::packet::ipv6::{self, Ipv6Header};
use crate::packet::{MacAddr, Meta};

/// What an echo says of itself, which its answer says again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Drawn at random for each question, so that nobody else can answer it.
    pub nonce: u64,
    /// The worker that has sent it.
    pub worker: WorkerId,
    /// Which of the next hops that are asked.
    pub target: u8,
}

/// Bytes behind the ICMP header.
const BODY: usize = 10;
const LENGTH: usize = icmp::HEADER_LEN + BODY;

/// Writes the request to `to` into `frame`, as it leaves by a port; its Ethernet destination is still to
/// be told.
///
/// False, and the frame is of no use, when the port has no address to ask from or the frame no room.
#[must_use]
pub(crate) fn write(frame: &mut Frame, port: &PortAddresses, to: IpAddr, probe: Probe) -> bool {
    match (port.source_for(to), to) {
        (Some(IpAddr::V4(from)), IpAddr::V4(to)) => {
            let ip = ipv4(from, to);
            let echo = echo(icmp::v4::ECHO_REQUEST, Sum::default(), probe);
            put(frame, (port.mac(), ethernet::IPV4), ip.as_bytes(), &echo)
        }
        (Some(IpAddr::V6(from)), IpAddr::V6(to)) => {
            let ip = Ipv6Header::new(from, to, protocol::ICMPV6, TTL, LENGTH as u16);
            let pseudo = pseudo(from, to);
            let echo = echo(icmp::v6::ECHO_REQUEST, pseudo, probe);
            put(frame, (port.mac(), ethernet::IPV6), ip.as_bytes(), &echo)
        }
        _ => false,
    }
}

/// The probe that a packet for the router answers, if it does.
pub(crate) fn answered(frame: &[u8], meta: &Meta) -> Option<Probe> {
    let bytes = meta.l4_bytes(frame).filter(|bytes| bytes.len() == LENGTH)?;
    let reply = if meta.key.is_v4() { icmp::v4::ECHO_REPLY } else { icmp::v6::ECHO_REPLY };
    let (nonce, rest) = bytes[icmp::HEADER_LEN..].split_first_chunk()?;
    let sums_up = match meta.addresses(frame)? {
        (IpAddr::V6(from), IpAddr::V6(to)) => pseudo(from, to).with(bytes).fold() == 0xffff,
        _ => checksum::is_valid(bytes),
    };
    (bytes[..2] == [reply, 0] && sums_up).then(|| Probe {
        nonce: u64::from_be_bytes(*nonce),
        worker: WorkerId(rest[0]),
        target: rest[1],
    })
}

fn echo(kind: u8, pseudo: Sum, probe: Probe) -> [u8; LENGTH] {
    let rest = [probe.worker.0, probe.target, 0, 1];
    let mut header = IcmpHeader { kind, code: 0, checksum: U16::new(0), rest };
    let mut body = [0; BODY];
    body[..8].copy_from_slice(&probe.nonce.to_be_bytes());
    body[8..].copy_from_slice(&[probe.worker.0, probe.target]);
    header.checksum.set(pseudo.with(header.as_bytes()).with(&body).checksum());
    let mut bytes = [0; LENGTH];
    bytes[..icmp::HEADER_LEN].copy_from_slice(header.as_bytes());
    bytes[icmp::HEADER_LEN..].copy_from_slice(&body);
    bytes
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr) -> Ipv4Header {
    let mut header = Ipv4Header {
        version_length: 0x45,
        // That of most packets, so that no queue on the way tells it from them.
        traffic_class: 0,
        total_length: U16::new((ipv4::HEADER_LEN + LENGTH) as u16),
        identification: U16::new(0),
        fragment: U16::new(ipv4::DONT_FRAGMENT),
        ttl: TTL,
        protocol: protocol::ICMP,
        checksum: U16::new(0),
        src: from.octets(),
        dst: to.octets(),
    };
    header.checksum.set(checksum::of(header.as_bytes()));
    header
}

fn pseudo(from: Ipv6Addr, to: Ipv6Addr) -> Sum {
    pseudo_header(&from.octets(), &to.octets(), protocol::ICMPV6, LENGTH as u16)
}

fn put(frame: &mut Frame, (mac, ethertype): (MacAddr, u16), ip: &[u8], echo: &[u8]) -> bool {
    let header = EthernetHeader {
        destination: MacAddr::default(),
        source: mac,
        ethertype: U16::new(ethertype),
    };
    let mut bytes = [0; ethernet::HEADER_LEN + ipv6::HEADER_LEN + LENGTH];
    let (front, rest) = bytes.split_at_mut(ethernet::HEADER_LEN);
    front.copy_from_slice(header.as_bytes());
    let (middle, back) = rest.split_at_mut(ip.len());
    middle.copy_from_slice(ip);
    back[..echo.len()].copy_from_slice(echo);
    frame.write(&bytes[..ethernet::HEADER_LEN + ip.len() + echo.len()]).is_ok()
}

#[cfg(test)]
mod tests {
    use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketHeaders, TransportHeader};
    use weir_frame::{FrameSize, Region};
    use weir_state_transfer::{PortId, ServiceId};

    use super::*;
    use crate::packet::{Parsed, parse, samples};

    const PROBE: Probe = Probe { nonce: 0x0123_4567_89ab_cdef, worker: WorkerId(3), target: 7 };

    fn request(to: IpAddr) -> Vec<u8> {
        let nets = ["10.0.1.1/24", "2001:db8:1::1/64"].map(|net| net.parse().unwrap());
        let port = PortAddresses::new(PortId(0), samples::MAC_B, nets).unwrap();
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        assert!(write(&mut frames[0], &port, to, PROBE));
        frames[0].data().to_vec()
    }

    fn meta(frame: &[u8]) -> Meta {
        let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { panic!() };
        meta
    }

    /// The answer of an independent library to a request.
    fn reply(request: &[u8]) -> Vec<u8> {
        let headers = PacketHeaders::from_ethernet_slice(request).unwrap();
        let body = headers.payload.slice();
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut frame = Vec::new();
        match headers.transport.unwrap() {
            TransportHeader::Icmpv4(icmp) => {
                let Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq }) = icmp.icmp_type else {
                    panic!("{icmp:?}")
                };
                let ip = builder.ipv4([10, 0, 1, 2], [10, 0, 1, 1], 64);
                ip.icmpv4_echo_reply(id, seq).write(&mut frame, body).unwrap();
            }
            TransportHeader::Icmpv6(icmp) => {
                let Icmpv6Type::EchoRequest(IcmpEchoHeader { id, seq }) = icmp.icmp_type else {
                    panic!("{icmp:?}")
                };
                let end = |last| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last).octets();
                let ip = builder.ipv6(end(2), end(1), 64);
                ip.icmpv6_echo_reply(id, seq).write(&mut frame, body).unwrap();
            }
            other => panic!("{other:?}"),
        }
        frame
    }

    #[test]
    fn the_answer_to_a_request_is_recognised_in_both_families_and_nothing_else_is() {
        for to in ["10.0.1.2", "2001:db8:1::2"] {
            let asked = request(to.parse().unwrap());
            assert_eq!(answered(&asked, &meta(&asked)), None, "a request is no answer");
            let reply = reply(&asked);
            assert_eq!(answered(&reply, &meta(&reply)), Some(PROBE), "{to}");
            let mut spoilt = reply.clone();
            *spoilt.last_mut().unwrap() ^= 1;
            assert_eq!(answered(&spoilt, &meta(&spoilt)), None, "{to}");
        }
    }

    #[test]
    fn a_request_sums_up_as_an_independent_library_says() {
        let asked = request("10.0.1.2".parse().unwrap());
        let headers = PacketHeaders::from_ethernet_slice(&asked).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = headers.net else { panic!() };
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let Some(TransportHeader::Icmpv4(icmp)) = headers.transport else { panic!() };
        assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(headers.payload.slice()));
    }
}
