//! Frames of strangers, whole and cut at every length, through everything that looks at packets.

use std::collections::BTreeMap;

use weir_frame::{Frame, FrameSize, Region};
use weir_state_transfer::{PortId, ServiceId};

use super::samples::{self, HOST_A, HOST_A6, HOST_B, HOST_B6, MAC_B};
use super::{DropReason, Flags, MacAddr, Meta, Parsed, forward, parse, partial, scope};
use crate::icmp_error::{self, Kind};
use crate::local::{self, LocalAddresses, PortAddresses, Verdict};

const SERVICE: ServiceId = ServiceId(0);

/// How a frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Dropped(DropReason),
    Consumed,
    Answered,
    Refused,
    Forwarded,
}

/// A router with one port that owns every address that a test frame is likely to name.
struct Router {
    frame: Frame,
    error: Frame,
    port: PortAddresses,
    all: LocalAddresses,
    outcomes: BTreeMap<Outcome, u64>,
}

impl Router {
    fn new() -> (Region, Self) {
        let (region, mut frames) = Region::heap(2, FrameSize::B4096);
        let nets = ["10.0.1.1/24", "192.168.0.1/16", "2001:db8:1::1/64"];
        let nets = nets.map(|net| net.parse().unwrap());
        let port = PortAddresses::new(PortId(0), MAC_B, nets).unwrap();
        let all = LocalAddresses::new([&port], &Default::default());
        let (frame, error) = (frames.pop().unwrap(), frames.pop().unwrap());
        (region, Self { frame, error, port, all, outcomes: BTreeMap::new() })
    }

    /// The frame as it is, and as if it were addressed to this router in both layers.
    fn take(&mut self, bytes: &[u8]) {
        self.take_one(bytes);
        let mut aimed = bytes.to_vec();
        if let Some(mac) = aimed.get_mut(..6) {
            mac.copy_from_slice(&MAC_B.0);
        }
        self.take_one(&aimed);
        if aimed.get(12..14) == Some(&[8, 0]) && aimed.len() >= 34 {
            aimed[30..34].copy_from_slice(&[10, 0, 1, 1]);
            samples::mend_ipv4(&mut aimed);
            self.take_one(&aimed);
        }
    }

    fn take_one(&mut self, bytes: &[u8]) {
        let outcome = match self.frame.write(bytes) {
            Ok(()) => self.handle(),
            Err(_) => Outcome::Dropped(DropReason::RxTooLong),
        };
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    fn handle(&mut self) -> Outcome {
        let meta = match parse(self.frame.data(), SERVICE) {
            Ok(Parsed::Arp) => Meta::of_arp(),
            Ok(Parsed::Ip(meta)) => meta,
            Err(reason) => return Outcome::Dropped(reason),
        };
        if partial::complete(self.frame.data_mut(), &meta) {
            assert!(!partial::complete(self.frame.data_mut(), &meta));
        }
        if meta.flags.has(Flags::ARP) || self.all.is_local(&meta) {
            self.answer(&meta)
        } else {
            self.forward(&meta)
        }
    }

    fn answer(&mut self, meta: &Meta) -> Outcome {
        match local::answer(&mut self.frame, meta, &self.port, &self.all).0 {
            Verdict::Reply => {
                assert!(parse(self.frame.data(), SERVICE).is_ok(), "a broken answer");
                Outcome::Answered
            }
            Verdict::PortUnreachable => self.refuse(meta, Kind::PortUnreachable),
            Verdict::Consumed(_) => Outcome::Consumed,
            Verdict::Dropped(reason) => Outcome::Dropped(reason),
        }
    }

    fn forward(&mut self, meta: &Meta) -> Outcome {
        let Some((src, dst)) = meta.addresses(self.frame.data()) else { panic!("parsed") };
        if let Err(reason) = scope::forwardable(src, dst) {
            return Outcome::Dropped(reason);
        }
        // The error that any packet could cause must be a sound one.
        self.refuse(meta, Kind::TooBig(1280));
        if forward::decrement_ttl(self.frame.data_mut(), meta).is_err() {
            return self.refuse(meta, Kind::TtlExpired);
        }
        forward::rewrite_macs(self.frame.data_mut(), MacAddr([2; 6]), MAC_B);
        let Ok(Parsed::Ip(after)) = parse(self.frame.data(), SERVICE) else {
            panic!("forwarding broke it")
        };
        assert_eq!((after.key, after.end, after.l4), (meta.key, meta.end, meta.l4));
        Outcome::Forwarded
    }

    fn refuse(&mut self, meta: &Meta, kind: Kind) -> Outcome {
        if icmp_error::may_be_sent(self.frame.data(), meta) {
            assert!(icmp_error::write(&mut self.error, self.frame.data(), meta, &self.port, kind));
            let error = parse(self.error.data(), SERVICE);
            let Ok(Parsed::Ip(error)) = error else { panic!("a broken error: {error:?}") };
            assert!(error.flags.has(Flags::ICMP_ERROR));
            assert!(!icmp_error::may_be_sent(self.error.data(), &error));
        }
        Outcome::Refused
    }
}

/// A few frames of each kind, so that the test runs without the data.
fn own_frames() -> Vec<Vec<u8>> {
    let quoted = samples::udp4(HOST_B, HOST_A, (1, 2), b"");
    let mut options = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload behind options");
    options[14] = 0x47;
    samples::mend_ipv4(&mut options);
    let mut extension = samples::udp6(HOST_A6, HOST_B6, (1, 2), b"\x11\x00\x01\x04\0\0\0\0");
    extension[20] = 60;
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(&[2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1]);
    arp.extend_from_slice(&[10, 0, 1, 2, 0, 0, 0, 0, 0, 0, 10, 0, 1, 1]);
    vec![
        arp,
        options,
        extension,
        samples::tcp4(HOST_A, HOST_B, (1, 2), b"payload"),
        samples::tcp6(HOST_A6, HOST_B6, (1, 2), b"payload"),
        samples::icmp4(HOST_A, [10, 0, 1, 1].into(), 8, b"ping"),
        samples::icmp4(HOST_B, HOST_A, 11, &quoted[14..]),
        samples::udp4(HOST_A, [10, 0, 1, 1].into(), (1, 33434), b"trace"),
        samples::icmp6(HOST_A6, "2001:db8:1::1".parse().unwrap(), 135, &[0; 24]),
    ]
}

/// Cuts the frame at every length, and once more with lengths and checksum made to fit, so that
/// what is behind the IP header is cut as well.
fn cut_everywhere(router: &mut Router, frame: &[u8]) -> u64 {
    let mut taken = 0;
    for len in 0..=frame.len() {
        let mut cut = frame[..len].to_vec();
        router.take(&cut);
        if len >= 54 {
            // The casts hold: a frame of a capture has at most 65,535 bytes.
            match cut[12..14] {
                [8, 0] => {
                    cut[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
                    samples::mend_ipv4(&mut cut);
                }
                [0x86, 0xdd] => cut[18..20].copy_from_slice(&((len - 54) as u16).to_be_bytes()),
                _ => continue,
            }
            router.take(&cut);
            taken += 1;
        }
        taken += 1;
    }
    taken
}

#[test]
fn our_own_frames_cut_everywhere_end_in_one_outcome_each() {
    let (_region, mut router) = Router::new();
    for frame in own_frames() {
        cut_everywhere(&mut router, &frame);
    }
    let ended = |outcome| router.outcomes.contains_key(&outcome);
    assert!(ended(Outcome::Forwarded) && ended(Outcome::Answered) && ended(Outcome::Refused));
    assert!(ended(Outcome::Dropped(DropReason::BadTotalLength)));
}

#[test]
fn random_damage_ends_in_one_outcome() {
    let mut rng = weir_seed::rng();
    let (_region, mut router) = Router::new();
    let frames = own_frames();
    for _ in 0..50_000 {
        let mut frame = rng.choice(&frames).unwrap().clone();
        for _ in 0..rng.u8(1..6) {
            let place = rng.usize(..frame.len());
            frame[place] = rng.u8(..);
        }
        if frame[12..14] == [8, 0] && rng.bool() {
            samples::mend_ipv4(&mut frame);
        }
        router.take(&frame);
    }
}

#[test]
fn frames_of_strangers_cut_everywhere_end_in_one_outcome_each() {
    let Some(frames) = samples::strange_frames() else { return };
    let (_region, mut router) = Router::new();
    let mut taken = 0;
    for frame in &frames {
        // Longer frames differ only in payload.
        taken += cut_everywhere(&mut router, &frame[..frame.len().min(700)]);
        router.take(frame);
    }
    println!("data test ran: frames of strangers: {} frames, {taken} cuts", frames.len());
    for (outcome, count) in &router.outcomes {
        println!("{count:>9} {outcome:?}");
    }
    assert!(frames.len() > 7000);
}

/// Where the parser takes a packet, it finds what another program found in it.
#[test]
fn addresses_and_ports_are_those_that_another_program_found() {
    let (Some(frames), Some(rows)) = (samples::strange_frames(), samples::strange_rows()) else {
        return;
    };
    assert_eq!(frames.len(), rows.len());
    let mut compared = 0;
    for (frame, row) in frames.iter().zip(&rows) {
        let Ok(Parsed::Ip(meta)) = parse(frame, SERVICE) else { continue };
        let Some((src, dst)) = meta.addresses(frame) else { continue };
        let column = |name: &str| row.get(name).map(String::as_str).unwrap_or_default();
        let (family, tunnel) = match meta.key.is_v4() {
            true => (("ip.src", "ip.dst"), column("ipv6.src")),
            false => (("ipv6.src", "ipv6.dst"), column("ip.src")),
        };
        // Of packets in packets the other program prints one, and not always the outer one; it
        // follows source routes; and it reads no further than what it calls malformed.
        let options = meta.key.is_v4() && meta.flags.has(Flags::HAS_OPTIONS);
        let other = !tunnel.is_empty() || options || meta.flags.has(Flags::ICMP_ERROR);
        if other || !column("_ws.malformed").is_empty() {
            continue;
        }
        let theirs = [column(family.0), column(family.1)];
        assert_eq!([src.to_string(), dst.to_string()], theirs, "{row:?}");
        if (meta.key.src_port(), meta.key.dst_port()) != (0, 0) {
            let name = if meta.protocol == 6 { "tcp" } else { "udp" };
            let ports = [meta.key.src_port(), meta.key.dst_port()].map(|port| port.to_string());
            let theirs = [".srcport", ".dstport"].map(|part| column(&format!("{name}{part}")));
            assert_eq!(ports, theirs, "{row:?}");
        }
        compared += 1;
    }
    println!("data test ran: parsed as another program does: {compared} packets compared");
    assert!(compared > 3000);
}
