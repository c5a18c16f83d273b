//! The frames of the generator: written at the sender, read back at the receiver.

use std::net::{IpAddr, SocketAddr};

use crate::flow::Flow;

/// Length of an Ethernet header: a packet begins behind it.
pub const ETHERNET: usize = 14;
/// Shortest frame that carries a mark, over IPv6.
pub const FRAME_MIN: usize = ETHERNET + IPV6 + UDP + MARK;
/// Time to live at the sender; the router leaves one less.
pub const TTL: u8 = 64;

const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const MARK: usize = 32;
const MAGIC: &[u8; 8] = b"weirmark";

/// What a packet says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Number of its flow.
    pub flow: u64,
    /// Number of the packet in its flow, from 0.
    pub sequence: u64,
    /// When it was sent, in nanoseconds of the generator's clock.
    pub sent_ns: u64,
}

/// Fills `frame` with a UDP packet of the flow, checksums complete, with `ttl` hops to live.
///
/// # Panics
/// When the frame is shorter than [`FRAME_MIN`] or longer than an IP packet may be.
pub fn write(flow: &Flow, mark: &Mark, ttl: u8, frame: &mut [u8]) {
    assert!(frame.len() >= FRAME_MIN, "no room for the mark");
    frame[0..6].copy_from_slice(&mac(flow.from, ROUTER));
    frame[6..12].copy_from_slice(&mac(flow.from, HOST));
    let packet = &mut frame[ETHERNET..];
    let header = match (flow.source.ip(), flow.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // No fragments, so no identification either (RFC 6864 section 4.1).
            packet[..IPV4].copy_from_slice(&[
                0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ]);
            let length = length(packet.len());
            packet[2..4].copy_from_slice(&length);
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            let sum = finish(sum(&packet[..IPV4]));
            packet[10..12].copy_from_slice(&sum);
            IPV4
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, ttl]);
            let length = length(packet.len() - IPV6);
            packet[4..6].copy_from_slice(&length);
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
            IPV6
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("a flow is of one family")
        }
    };
    write_udp(&mut packet[header..], flow, mark);
    frame[12..14].copy_from_slice(if header == IPV4 { &[8, 0] } else { &[0x86, 0xdd] });
}

/// The mark of an arrived frame and the packet from its IP header on; none when it is not ours
/// or its UDP checksum is wrong.
pub fn read(frame: &[u8]) -> Option<(Mark, &[u8])> {
    let packet = frame.get(ETHERNET..)?;
    let (header, addresses, length) = match packet.first()? >> 4 {
        4 => (IPV4, 12..20, packet.get(2..4)?),
        6 => (IPV6, 8..40, packet.get(4..6)?),
        _ => return None,
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    // Ethernet pads short frames behind the packet.
    let packet = packet.get(..if header == IPV4 { length } else { IPV6 + length })?;
    let datagram = packet.get(header..).filter(|datagram| datagram.len() >= UDP + MARK)?;
    if finish(sum(&packet[addresses]) + pseudo(datagram.len()) + sum(datagram)) != [0, 0] {
        return None;
    }
    let mark = datagram[UDP..].strip_prefix(MAGIC)?;
    let word = |at: usize| {
        mark.get(at..at + 8).map(|word| u64::from_be_bytes(word.try_into().expect("8 bytes")))
    };
    Some((Mark { flow: word(0)?, sequence: word(8)?, sent_ns: word(16)? }, packet))
}

/// The end of a SAP's cable at the host.
pub const HOST: u8 = 2;
/// The end of a SAP's cable at the router.
pub const ROUTER: u8 = 1;

/// The link-layer address of one end of a SAP's cable, locally administered.
pub fn mac(sap: usize, end: u8) -> [u8; 6] {
    [2, 0, 0, 0, u8::try_from(sap + 1).expect("a testbed has a handful of hosts"), end]
}

fn write_udp(datagram: &mut [u8], flow: &Flow, mark: &Mark) {
    let length = length(datagram.len());
    datagram[0..2].copy_from_slice(&flow.source.port().to_be_bytes());
    datagram[2..4].copy_from_slice(&flow.destination.port().to_be_bytes());
    datagram[4..6].copy_from_slice(&length);
    datagram[6..8].fill(0);
    let payload = &mut datagram[UDP..];
    payload[..8].copy_from_slice(MAGIC);
    payload[8..16].copy_from_slice(&mark.flow.to_be_bytes());
    payload[16..24].copy_from_slice(&mark.sequence.to_be_bytes());
    payload[24..32].copy_from_slice(&mark.sent_ns.to_be_bytes());
    // Filler that differs from packet to packet, so that swapped contents show.
    payload[MARK..].fill(mark.flow.wrapping_mul(31).wrapping_add(mark.sequence).to_le_bytes()[0]);
    let pseudo = address_sum(flow.source) + address_sum(flow.destination) + pseudo(datagram.len());
    let checksum = match finish(pseudo + sum(datagram)) {
        // A sum of 0 would say that there is none (RFC 768).
        [0, 0] => [0xff, 0xff],
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&checksum);
}

fn address_sum(address: SocketAddr) -> u64 {
    match address.ip() {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// Protocol and length of the pseudo header (RFC 768, RFC 8200 section 8.1).
fn pseudo(datagram: usize) -> u64 {
    17 + datagram as u64
}

/// The sum of big-endian 16-bit words, not folded.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let total: u64 =
        words.by_ref().map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    total + words.remainder().first().map_or(0, |last| u64::from(*last) << 8)
}

/// The one's complement of the folded sum (RFC 1071).
fn finish(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("folded")).to_be_bytes()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("an IP packet is at most 65,535 bytes long").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::between_all_pairs;

    fn frame(flow: &Flow, sequence: u64, length: usize) -> (Mark, Vec<u8>) {
        let mark = Mark { flow: 5, sequence, sent_ns: 77 };
        let mut frame = vec![0xee; length];
        write(flow, &mark, TTL, &mut frame);
        (mark, frame)
    }

    #[test]
    fn what_is_written_is_read_back_in_both_families_and_at_every_length() {
        for flow in between_all_pairs(2, 8, 3) {
            for length in FRAME_MIN..FRAME_MIN + 9 {
                let (mark, frame) = frame(&flow, 9, length);
                let (found, packet) = read(&frame).unwrap();
                assert_eq!(found, mark);
                assert_eq!(packet, &frame[ETHERNET..]);
            }
        }
    }

    #[test]
    fn padding_behind_the_packet_is_not_part_of_it() {
        let flow = &between_all_pairs(2, 2, 3)[0];
        let (mark, mut frame) = frame(flow, 1, 100);
        frame.extend([1, 2, 3]);
        let (found, packet) = read(&frame).unwrap();
        assert_eq!((found, packet.len()), (mark, 100 - ETHERNET));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let flow = &between_all_pairs(2, 2, 3)[0];
        let (_, frame) = frame(flow, 1, 120);
        for at in ETHERNET + IPV4 + UDP..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            assert_eq!(read(&changed), None, "byte {at}");
        }
    }

    #[test]
    fn frames_cut_anywhere_are_refused() {
        for flow in between_all_pairs(2, 8, 3) {
            let (_, frame) = frame(&flow, 1, 120);
            assert!((0..frame.len()).all(|length| read(&frame[..length]).is_none()));
        }
    }
}
