//! TCP segments that are longer than a port takes, cut up as the sender's network card did it
//! after the capture was made.

use weir_dataplane::packet::checksum;

/// Longest frame of a port with an MTU of 1,500 bytes.
pub(super) const FRAME_MAX: usize = 1514;

const ETHERNET: usize = 14;
const IPV4_MIN: usize = 20;
const TCP_MIN: usize = 20;
const TCP: u8 = 6;
const FIN: u8 = 1;
const PSH: u8 = 8;

/// The frame, or several that carry its payload; nothing when it is too long and is not a TCP
/// segment over IPv4.
pub(super) fn of(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    if frame.len() <= FRAME_MAX {
        return Some(vec![frame.to_vec()]);
    }
    let ip = frame.get(ETHERNET..)?;
    let ip_header = usize::from(ip.first()? & 0xf) * 4;
    let is_tcp = ip[0] >> 4 == 4 && ip_header >= IPV4_MIN && *ip.get(9)? == TCP;
    let tcp = ip.get(ip_header..).filter(|_| is_tcp)?;
    let tcp_header = usize::from(tcp.get(12)? >> 4) * 4;
    let headers = ETHERNET + ip_header + tcp_header;
    if tcp_header < TCP_MIN || headers > frame.len() {
        return None;
    }
    let payload = &frame[headers..];
    let length = FRAME_MAX - headers;
    let parts = payload.chunks(length).enumerate().map(|(number, part)| {
        let is_last = (number + 1) * length >= payload.len();
        let mut frame = [&frame[..headers], part].concat();
        number_ipv4(&mut frame[ETHERNET..], ip_header, number);
        number_tcp(&mut frame[ETHERNET..], ip_header, number * length, is_last);
        frame
    });
    Some(parts.collect())
}

/// Sets the length, the identification and the checksum of a packet's header.
fn number_ipv4(packet: &mut [u8], header: usize, number: usize) {
    let length = packet.len() as u16;
    let id = word(packet, 4).wrapping_add(number as u16);
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Sets the sequence number, the flags and the checksum of a packet's TCP header.
fn number_tcp(packet: &mut [u8], ip_header: usize, ahead: usize, is_last: bool) {
    let (ip, tcp) = packet.split_at_mut(ip_header);
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(ahead as u32);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_last {
        tcp[13] &= !(FIN | PSH);
    }
    tcp[16..18].fill(0);
    let pseudo = checksum::pseudo_header(&ip[12..16], &ip[16..20], TCP, tcp.len() as u16);
    let sum = pseudo.with(tcp).checksum();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..payload).map(|n| n as u8).collect();
        let step =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [198, 18, 0, 1], 64);
        let mut frame = Vec::new();
        let step = step.tcp(1000, 80, u32::MAX - 100, 9000).ack(7).psh().fin();
        step.write(&mut frame, &payload).unwrap();
        frame
    }

    #[test]
    fn parts_carry_the_payload_under_valid_headers() {
        let long = frame(5_000);
        let parts = of(&long).unwrap();
        assert_eq!(parts.len(), 4);
        let (mut next, mut payload) = (u32::MAX - 100, Vec::new());
        for (number, part) in parts.iter().enumerate() {
            assert!(part.len() <= FRAME_MAX);
            let sliced = SlicedPacket::from_ethernet(part).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("{sliced:?}") };
            let last = number + 1 == parts.len();
            assert_eq!(
                (tcp.sequence_number(), tcp.fin(), tcp.psh(), tcp.ack()),
                (next, last, last, true)
            );
            assert!(checksum::is_valid(&part[14..34]));
            let length = (part.len() - 34) as u16;
            let sum = checksum::pseudo_header(&part[26..30], &part[30..34], 6, length);
            assert_eq!(sum.with(&part[34..]).fold(), 0xffff);
            next = next.wrapping_add(tcp.payload().len() as u32);
            payload.extend_from_slice(tcp.payload());
        }
        assert_eq!(payload, long[54..]);
    }

    #[test]
    fn what_fits_stays_as_it_is_and_what_cannot_be_cut_is_refused() {
        let fits = frame(FRAME_MAX - 54);
        assert_eq!(of(&fits), Some(vec![fits]));
        let mut datagram = frame(5_000);
        datagram[23] = 17;
        assert_eq!(of(&datagram), None);
        assert_eq!(of(&vec![0xff; 2_000]), None);
    }
}
