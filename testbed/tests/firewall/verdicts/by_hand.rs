//! What is known to differ from nftables, each by a packet of its own, and what looks as if it
//! might and does not.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use weir_dataplane::nf::firewall::Limits;

use super::both::{Both, Class};
use super::kernel::Tracking;

const HERE: [u8; 4] = [10, 1, 0, 1];
const THERE: [u8; 4] = [10, 2, 0, 9];

fn both(nft: &[&str], ours: &[&str]) -> Both {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    Both::new(Tracking::default(), &owned(nft), &owned(ours), Limits::default())
}

/// A segment between ports 40000 here and 80 there, with these flags.
fn segment(from_here: bool, flags: &str, (seq, ack): (u32, u32)) -> Vec<u8> {
    let (ends, ports) =
        if from_here { ((HERE, THERE), (40_000, 80)) } else { ((THERE, HERE), (80, 40_000)) };
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(ends.0, ends.1, 64);
    let mut step = step.tcp(ports.0, ports.1, seq, 5_000);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            'F' => step.fin(),
            'A' => step.ack(ack),
            other => panic!("{other}"),
        };
    }
    let mut frame = Vec::new();
    step.write(&mut frame, &[]).unwrap();
    frame
}

/// An IPv4 packet with a header of one's own.
fn packet(header: &Ipv4Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&[2; 6][..], &[4; 6], &[8, 0]].concat();
    header.write(&mut frame).unwrap();
    frame.extend(payload);
    frame
}

fn header(protocol: IpNumber, payload: usize) -> Ipv4Header {
    Ipv4Header::new(payload as u16, 64, protocol, HERE, THERE).unwrap()
}

#[test]
#[ignore = "needs root"]
fn fragments_are_dropped_by_name_where_the_kernel_puts_them_together() {
    let mut both = both(&["accept"], &["accept any"]);
    let udp = [&[0x9c, 0x40, 0, 53, 0, 32, 0, 0][..], &[7; 24]].concat();
    let pieces = [(&udp[..16], 0, true), (&udp[16..], 2, false)].map(|(piece, at, more)| {
        let mut header = header(IpNumber::UDP, piece.len());
        header.identification = 9;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new(at).unwrap();
        header.header_checksum = header.calc_header_checksum();
        packet(&header, piece)
    });
    let forwarded = pieces.each_ref().map(|piece| both.kernel.pass(piece).len());
    assert_eq!(forwarded, [0, 2], "the kernel waits for the last, and has both pass");
    let verdicts = pieces.each_ref().map(|piece| both.ours.judge(piece).name());
    assert_eq!(verdicts, ["dropped"; 2]);
    assert_eq!(both.ours.counted()["dropped.fragment"], 2);
}

#[test]
#[ignore = "needs root"]
fn questions_of_icmp_that_are_no_echoes_are_dropped_by_name_where_the_kernel_tracks_them() {
    let mut both = both(&["accept"], &["accept any"]);
    // A timestamp request (RFC 792): its checksum is that of its other words, complemented.
    let mut timestamp = [0; 20];
    (timestamp[0], timestamp[5]) = (13, 7);
    timestamp[2..4].copy_from_slice(&(!(0x0d00_u16 + 7)).to_be_bytes());
    let frame = packet(&header(IpNumber::ICMP, timestamp.len()), &timestamp);
    let (theirs, ours) = (both.kernel.judge(&frame).name(), both.ours.judge(&frame).name());
    assert_eq!((theirs, ours), ("forwarded", "dropped"));
    assert_eq!(both.ours.counted()["dropped.unsupported_icmp"], 1);
}

#[test]
#[ignore = "needs root"]
fn options_of_ip_are_no_reason_to_drop_at_either() {
    let mut both = both(&["tcp dport 80 accept"], &["accept proto=tcp,dport=80"]);
    let syn = segment(true, "S", (7, 0)).split_off(34);
    let mut header = header(IpNumber::TCP, syn.len());
    // Three that do nothing and the end of the list (RFC 791, section 3.1).
    header.options = [1, 1, 1, 0].into();
    header.set_payload_len(syn.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    both.judge(&packet(&header, &syn));
    both.judge(&segment(false, "SA", (3, 8)));
    assert_eq!(both.tally.verdicts["forwarded"], 2, "{}", both.tally);
}

#[test]
#[ignore = "needs root"]
fn what_has_a_wrong_checksum_and_is_rejected_is_answered_here_only() {
    let mut both = both(&["reject with icmpx admin-prohibited"], &["reject any"]);
    let mut frame = segment(true, "S", (7, 0));
    both.judge(&frame);
    assert_eq!(both.tally.verdicts["answered"], 1, "{}", both.tally);
    frame[50] ^= 1;
    both.judge(&frame);
    assert_eq!(both.tally.classes[&Class::WrongChecksum], 1, "{}", both.tally);
    both.tally.assert_same(0);
}

#[test]
#[ignore = "needs root"]
fn a_refused_syn_ends_a_closed_connection_at_the_kernel_only() {
    let mut both = both(
        &["ip saddr 10.1.0.0/16 accept", "reject with icmpx admin-prohibited"],
        &["accept src=10.1.0.0/16", "reject any"],
    );
    let (here, there) = ((100, 200), (200, 100));
    let add = |(seq, ack): (u32, u32), a: u32, b: u32| (seq + a, ack + b);
    for (from_here, flags, numbers) in [
        (true, "S", here),
        (false, "SA", add(there, 0, 1)),
        (true, "A", add(here, 1, 1)),
        (true, "FA", add(here, 1, 1)),
        (false, "FA", add(there, 1, 2)),
        (true, "A", add(here, 2, 2)),
    ] {
        both.judge(&segment(from_here, flags, numbers));
    }
    assert_eq!(both.tally.verdicts["forwarded"], 6, "{}", both.tally);
    both.judge(&segment(false, "S", (90_000, 0)));
    assert_eq!(both.tally.verdicts["answered"], 1, "{}", both.tally);
    both.judge(&segment(true, "A", add(here, 2, 2)));
    assert_eq!(both.tally.classes[&Class::RefusedReopening], 1, "{}", both.tally);
    both.tally.assert_same(0);
}
