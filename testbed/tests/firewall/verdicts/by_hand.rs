//! What is known to differ from nftables, each by a packet of its own, and what looks as if it
//! might and does not.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use weir_dataplane::nf::firewall::Limits;
use weir_testbed::wait;

use super::both::{Both, Class};
use super::kernel::Tracking;
use super::limits::let_ticks_pass;
use super::verdict::Verdict;

const HERE: [u8; 4] = [10, 1, 0, 1];
const THERE: [u8; 4] = [10, 2, 0, 9];

fn both(nft: &[&str], ours: &[&str]) -> Both {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    Both::new(Tracking::default(), &owned(nft), &owned(ours), Limits::default())
}

/// Both, where this source may have one connection open. There is no set of sources, which the kernel
/// would look through when it likes.
fn both_with_one_open() -> Both {
    let count = "ip saddr 10.1.0.1 ct count over 1 drop";
    let (nft, ours) = ([count, "accept"], ["accept any".to_owned()]);
    let limits = Limits { connections_max: Some(1), ..Limits::default() };
    Both::new(Tracking::default(), &nft.map(str::to_owned), &ours, limits)
}

/// A segment between ports 40000 here and 80 there, with these flags.
fn segment(from_here: bool, flags: &str, numbers: (u32, u32)) -> Vec<u8> {
    segment_by(40_000, from_here, flags, numbers)
}

/// The same by another port here.
fn segment_by(port: u16, from_here: bool, flags: &str, (seq, ack): (u32, u32)) -> Vec<u8> {
    let (ends, ports) =
        if from_here { ((HERE, THERE), (port, 80)) } else { ((THERE, HERE), (80, port)) };
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(ends.0, ends.1, 64);
    let mut step = step.tcp(ports.0, ports.1, seq, 5_000);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            'F' => step.fin(),
            'R' => step.rst(),
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

/// The ends ignore such a reset (RFC 5961, section 3), and the kernel takes it in.
#[test]
#[ignore = "needs root"]
fn a_reset_at_any_number_ends_the_count_of_a_closing_connection_at_both() {
    let mut both = both_with_one_open();
    let (here, there) = ((100, 201), (200, 101));
    let far = (1_000_000_000, 0);
    for (from_here, flags, numbers) in [
        (true, "S", (here.0, 0)),
        (false, "SA", there),
        (true, "A", (101, 201)),
        (true, "FA", (101, 201)),
        (false, "A", (201, 102)),
    ] {
        both.judge(&segment(from_here, flags, numbers));
    }
    assert_eq!(both.tally.verdicts["forwarded"], 5, "{}", both.tally);
    let another = |port| segment_by(port, true, "S", (7, 0));
    both.judge(&another(40_001));
    assert_eq!(both.tally.verdicts["dropped"], 1, "it counts: {}", both.tally);
    both.judge(&segment(true, "R", far));
    both.judge(&segment(false, "A", (201, 102)));
    assert_eq!(both.tally.verdicts["forwarded"], 7, "{}", both.tally);
    both.tally.assert_same(0);
    // The kernel forgets what it has counted in a jiffy or two.
    let another = another(40_002);
    let begins = || (both.kernel.judge(&another) == Verdict::Forwarded).then_some(());
    wait::until("the kernel to forget what it has counted", wait::LIMIT, begins).unwrap();
    assert_eq!(both.ours.judge(&another), Verdict::Forwarded);
}

/// The kernel finds the tuple that it has counted, as that of replies of the other end's connection.
#[test]
#[ignore = "needs root"]
fn what_the_other_end_begins_anew_counts_for_who_began_it_first_at_the_kernel_only() {
    let mut both = both_with_one_open();
    for (from_here, flags, numbers) in [
        (true, "S", (100, 0)),
        (false, "SA", (200, 101)),
        (true, "FA", (101, 201)),
        (false, "FA", (201, 102)),
        (true, "A", (102, 202)),
        (false, "S", (90_000, 0)),
    ] {
        both.judge(&segment(from_here, flags, numbers));
    }
    assert_eq!(both.tally.verdicts["forwarded"], 6, "{}", both.tally);
    let another = segment_by(40_001, true, "S", (7, 0));
    let (theirs, ours) = (both.kernel.judge(&another), both.ours.judge(&another));
    assert_eq!((theirs, ours), (Verdict::Dropped, Verdict::Forwarded));
}

/// To the kernel it is a packet of the old connection, which it has ceased to count.
#[test]
#[ignore = "needs root"]
fn what_begins_anew_behind_a_reset_of_the_other_end_is_counted_again_here_only() {
    let mut both = both_with_one_open();
    for (from_here, flags, numbers) in
        [(true, "S", (100, 0)), (false, "SA", (200, 101)), (false, "RA", (201, 101))]
    {
        both.judge(&segment(from_here, flags, numbers));
    }
    let_ticks_pass();
    both.judge(&segment_by(40_001, true, "S", (7, 0)));
    both.judge(&segment(true, "S", (101, 0)));
    assert_eq!(both.tally.verdicts["forwarded"], 5, "{}", both.tally);
    let anew = segment(false, "SA", (300, 102));
    let (theirs, ours) = (both.kernel.judge(&anew), both.ours.judge(&anew));
    assert_eq!((theirs, ours), (Verdict::Forwarded, Verdict::Dropped));
}

/// The kernel looks for what is over in the order in which it has counted, up to the packet's own.
#[test]
#[ignore = "needs root"]
fn a_syn_that_comes_again_is_refused_for_one_refused_since_at_the_kernel_only() {
    let mut both = both_with_one_open();
    let first = segment(true, "S", (100, 0));
    both.judge(&first);
    both.judge(&segment_by(40_001, true, "S", (7, 0)));
    assert_eq!((both.tally.verdicts["forwarded"], both.tally.verdicts["dropped"]), (1, 1));
    let (theirs, ours) = (both.kernel.judge(&first), both.ours.judge(&first));
    assert_eq!((theirs, ours), (Verdict::Dropped, Verdict::Forwarded));
}
