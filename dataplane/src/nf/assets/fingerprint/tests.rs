//! Fingerprints, part by part, and the table.

use etherparse::{IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader};
use weir_state_transfer::ServiceId;
use weir_state_transfer::wire::{Reader, Writer};

use super::*;
use crate::nf::assets::packet::Transport;
use crate::packet::{Parsed, parse};

const LINUX: &[u8] = &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
const WINDOWS: &[u8] = &[2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];
const APPLE: &[u8] = &[2, 4, 5, 180, 1, 3, 3, 6, 1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 4, 2, 0, 0];
const FREE_BSD: &[u8] = &[2, 4, 5, 180, 1, 3, 3, 6, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
const OPEN_BSD: &[u8] =
    &[2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 6, 1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
const MSS_ONLY: &[u8] = &[2, 4, 5, 180];

/// A SYN, as a stack makes it.
#[derive(Clone)]
struct Syn {
    ip: IpHeaders,
    tcp: TcpHeader,
    payload: &'static [u8],
}

impl Syn {
    fn new(ttl: u8, window: u16, options: &[u8]) -> Self {
        let mut ip =
            Ipv4Header::new(0, ttl, etherparse::ip_number::TCP, [10, 0, 0, 1], [10, 0, 0, 2])
                .expect("a header");
        (ip.dont_fragment, ip.identification) = (true, 7);
        let mut tcp = TcpHeader::new(1000, 80, 5, window);
        tcp.syn = true;
        tcp.set_options_raw(options).expect("options that fit");
        Self { ip: IpHeaders::Ipv4(ip, Default::default()), tcp, payload: b"" }
    }

    fn v6(mut self, flow_label: u32) -> Self {
        let ip = Ipv6Header {
            flow_label: flow_label.try_into().expect("20 bits"),
            hop_limit: 60,
            source: [1; 16],
            destination: [2; 16],
            next_header: etherparse::ip_number::TCP,
            ..Ipv6Header::default()
        };
        self.ip = IpHeaders::Ipv6(ip, Default::default());
        self
    }

    fn but(&self, change: impl Fn(&mut Ipv4Header, &mut TcpHeader)) -> Self {
        let mut other = self.clone();
        let IpHeaders::Ipv4(ip, _) = &mut other.ip else { panic!("IPv4") };
        change(ip, &mut other.tcp);
        other
    }

    fn frame(&self) -> Vec<u8> {
        let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(self.ip.clone());
        let mut frame = Vec::new();
        step.tcp_header(self.tcp.clone()).write(&mut frame, self.payload).expect("a frame");
        frame
    }

    fn fingerprint(&self) -> Fingerprint {
        read(&self.frame(), |_| {})
    }

    fn system(&self) -> Option<String> {
        let signatures = Signatures::built_in();
        signatures.system(&self.fingerprint()).map(str::to_owned)
    }
}

/// The fingerprint of a frame whose bytes are changed once it has been parsed.
fn read(frame: &[u8], change: impl Fn(&mut [u8])) -> Fingerprint {
    let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { panic!("no packet") };
    let mut frame = frame.to_vec();
    change(&mut frame);
    let packet = Packet::read(&meta, &frame).expect("a packet");
    let Transport::Tcp(segment) = &packet.transport else { panic!("no segment") };
    Fingerprint::of(&packet, segment)
}

#[test]
fn every_part_of_a_syn_shows_in_its_place() {
    let linux = Syn::new(61, 64_240, LINUX);
    let shows = |syn: &Syn, text: &str| assert_eq!(syn.fingerprint().to_string(), text);
    shows(&linux, "4:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0");
    let ttls = [(1, 32), (32, 32), (33, 64), (65, 128), (128, 128), (129, 255), (255, 255)];
    for (ttl, initial) in ttls {
        let text = format!("4:{initial}:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0");
        shows(&linux.but(|ip, _| ip.time_to_live = ttl), &text);
    }
    let with_options = linux.but(|ip, _| ip.options = [1, 1, 1, 0].into());
    shows(&with_options, "4:64:4:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0");
    let windows = [(1448 * 3, "mss*3"), (1500 * 2, "mtu*2"), (65_535, "65535"), (0, "0")];
    for (window, shown) in windows {
        let text = format!("4:64:0:1460:{shown},7:mss,sok,ts,nop,ws:df,id+:0");
        shows(&linux.but(|_, tcp| tcp.window_size = window), &text);
    }
    // Without a time stamp nothing is taken off the MSS.
    shows(&Syn::new(61, 1448, WINDOWS), "4:64:0:1460:1448,8:mss,nop,ws,nop,nop,sok:df,id+:0");
    // An MSS of one byte is no measure.
    shows(&Syn::new(61, 44, &[2, 4, 0, 1]), "4:64:0:1:44,0:mss:df,id+:0");
    shows(&Syn::new(61, 44, &[]), "4:64:0:0:44,0::df,id+:0");
    shows(&linux.clone().v6(0), "6:64:0:1460:mss*44,7:mss,sok,ts,nop,ws::0");
    shows(&linux.clone().v6(9), "6:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:flow:0");
    let with_payload = Syn { payload: b"GET", ..linux };
    shows(&with_payload, "4:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:+");
}

#[test]
fn every_quirk_is_told() {
    const TCP: usize = 34;
    let plain = Syn::new(64, 1000, &LINUX[..16]);
    let quirks = |syn: &Syn, change: fn(&mut [u8])| read(&syn.frame(), change).quirks.to_string();
    type Change = fn(&mut [u8]);
    let cases: [(Change, &str); 11] = [
        (|frame| frame[20] = 0, "id-"),
        (|frame| frame[20] = 0x80, "id-,0+"),
        (|frame| frame[15] |= 1, "id-,ecn"),
        (|frame| frame[TCP + 13] |= 0x40, "id-,ecn"),
        (|frame| frame[TCP + 4..TCP + 8].fill(0), "id-,seq-"),
        (|frame| frame[TCP + 11] = 1, "id-,ack+"),
        (|frame| frame[TCP + 13] |= 0x10, "id-,ack-"),
        (|frame| frame[TCP + 19] = 1, "id-,uptr+"),
        (|frame| frame[TCP + 13] |= 0x20, "id-,urgf+"),
        (|frame| frame[TCP + 13] |= 0x08, "id-,pushf+"),
        (|frame| frame[TCP + 20 + 8..TCP + 20 + 16].reverse(), "id-,ts1-,ts2+"),
    ];
    let without = plain.but(|ip, _| (ip.dont_fragment, ip.identification) = (false, 0));
    for (change, told) in cases {
        assert_eq!(quirks(&without, change), told);
    }
    let df = plain.but(|ip, _| ip.identification = 0);
    assert_eq!((quirks(&plain, |_| {}), quirks(&df, |_| {})), ("df,id+".into(), "df".into()));
    let id = plain.but(|ip, _| ip.dont_fragment = false);
    assert_eq!(quirks(&id, |_| {}), "");
    let options: [(&[u8], &str); 3] =
        [(&[3, 3, 15, 1], "exws"), (&[0, 0, 0, 1], "opt+"), (&[2, 40, 0, 0], "bad")];
    for (options, told) in options {
        assert_eq!(
            Syn::new(64, 1, options).fingerprint().quirks.to_string(),
            format!("df,id+,{told}")
        );
    }
    let flags = Quirk::ALL.iter().map(|quirk| quirk.name()).collect::<Vec<_>>().join(",");
    assert_eq!(Quirks::parse(&flags).map(|all| all.to_string()), Some(flags));
}

#[test]
fn stacks_are_told_by_the_first_packet_that_they_send() {
    let no_df = |syn: Syn| syn.but(|ip, _| ip.dont_fragment = false);
    let cases = [
        (Syn::new(57, 64_240, LINUX), "Linux 4.20 or later"),
        (Syn::new(57, 64_240, LINUX).v6(5), "Linux 4.20 or later"),
        (Syn::new(64, 29_200, LINUX), "Linux 3.11 to 4.19"),
        (Syn::new(64, 14_600, LINUX), "Linux 2.6.39 to 3.10"),
        (Syn::new(64, 5_840, LINUX), "Linux 2.6"),
        (Syn::new(64, 65_535, LINUX), "Linux (Android)"),
        (Syn::new(120, 64_240, WINDOWS), "Windows 10 or 11"),
        (Syn::new(128, 8_192, WINDOWS), "Windows Vista to 8.1"),
        (Syn::new(60, 65_535, APPLE), "macOS or iOS"),
        (Syn::new(60, 65_535, APPLE).but(|ip, _| ip.identification = 0), "macOS or iOS"),
        (Syn::new(60, 65_535, FREE_BSD), "FreeBSD"),
        (Syn::new(60, 16_384, OPEN_BSD), "OpenBSD"),
        (no_df(Syn::new(50, 1024, MSS_ONLY)), "Nmap (SYN scan)"),
        (no_df(Syn::new(240, 1024, &[])), "masscan"),
        (no_df(Syn::new(240, 65_535, MSS_ONLY)), "ZMap"),
        (no_df(Syn::new(255, 4_128, MSS_ONLY)), "Cisco IOS"),
    ];
    for (syn, system) in cases {
        assert_eq!(syn.system().as_deref(), Some(system), "{}", syn.fingerprint());
    }
    let answer = |syn: Syn| syn.but(|_, tcp| (tcp.ack, tcp.acknowledgment_number) = (true, 9));
    let cases = [
        (Syn::new(57, 65_160, LINUX).but(|ip, _| ip.identification = 0), "Linux 4.20 or later"),
        (Syn::new(57, 28_960, LINUX).but(|ip, _| ip.identification = 0), "Linux 3.11 to 4.19"),
        (Syn::new(128, 65_535, WINDOWS), "Windows 10 or 11"),
    ];
    for (syn, system) in cases {
        assert_eq!(answer(syn).system().as_deref(), Some(system));
    }
}

#[test]
fn what_the_table_does_not_have_is_not_claimed() {
    let linux = Syn::new(57, 64_240, LINUX);
    let strange = [
        linux.but(|ip, _| ip.time_to_live = 100),
        linux.but(|_, tcp| tcp.window_size += 1),
        linux.but(|_, tcp| tcp.psh = true),
        linux.but(|ip, _| ip.identification = 0),
        linux.but(|_, tcp| tcp.ack = true),
        linux.but(|_, tcp| tcp.set_options_raw(&LINUX[..16]).expect("options")),
        linux.but(|ip, _| ip.options = [1, 1, 1, 0].into()),
        Syn { payload: b"x", ..linux.clone() },
    ];
    for syn in strange {
        assert_eq!(syn.system(), None, "{}", syn.fingerprint());
    }
}

#[test]
fn a_table_is_read_line_by_line_and_the_first_that_fits_counts() {
    let text =
        "# a comment\n\nsyn 4:64:*:*:*,*:mss:df,id+:* One\nsyn *:64:0:1460:%4,0:mss:df,id+:0 Two\n";
    let table = Signatures::parse(text).unwrap();
    let four = Syn::new(64, 12, MSS_ONLY);
    assert_eq!(table.system(&four.fingerprint()), Some("One"));
    assert_eq!(table.system(&four.clone().v6(3).fingerprint()), Some("Two"));
    assert_eq!(table.system(&Syn::new(64, 13, MSS_ONLY).v6(3).fingerprint()), None);
    for (line, what) in [
        ("fin 4:64:0:1:1,0:::0 X", "kind"),
        ("syn 4:64:0:1:1,0:::0", "system"),
        ("syn 4:64:0:1:1,0::0 X", "parts"),
        ("syn x:64:0:1:1,0:::0 X", "version"),
        ("syn 4:63:0:1:1,0:::0 X", "TTL"),
        ("syn 4:64:x:1:1,0:::0 X", "IP options"),
        ("syn 4:64:0:-1:1,0:::0 X", "MSS"),
        ("syn 4:64:0:1:1:::0 X", "window and its scale"),
        ("syn 4:64:0:1:mss*0,1:::0 X", "the window"),
        ("syn 4:64:0:1:1,y:::0 X", "the scale"),
        ("syn 4:64:0:1:1,0:what::0 X", "layout"),
        ("syn 4:64:0:1:1,0::what:0 X", "quirks"),
        ("syn 4:64:0:1:1,0:::2 X", "payload"),
    ] {
        let error = Signatures::parse(&format!("\n{line}\n")).unwrap_err();
        assert!(error.line == 2 && error.what.contains(what), "{line}: {error}");
    }
    assert!(Signatures::built_in().len() > 60);
}

#[test]
fn a_fingerprint_has_one_form_as_bytes() {
    for syn in
        [Syn::new(57, 64_240, LINUX), Syn::new(1, 2, &[9, 9, 9]).v6(1), Syn::new(9, 9, APPLE)]
    {
        let fingerprint = syn.fingerprint();
        let bytes = Writer::bytes_of(|out| fingerprint.put(out));
        assert_eq!(Reader::whole(&bytes, Fingerprint::take), Ok(fingerprint));
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] ^= 0x11;
            if let Ok(other) = Reader::whole(&other, Fingerprint::take) {
                assert_ne!(Writer::bytes_of(|out| other.put(out)), bytes);
            }
        }
    }
}

#[test]
fn random_bytes_for_headers_never_panic() {
    let mut rng = weir_seed::rng();
    let frames = [Syn::new(57, 64_240, LINUX).frame(), Syn::new(57, 1, &[0; 40]).v6(1).frame()];
    for _ in 0..20_000 {
        let seed = rng.u64(..);
        let fingerprint = read(rng.choice(&frames).unwrap(), |frame| {
            let mut rng = fastrand::Rng::with_seed(seed);
            // All behind the Ethernet header but the version and the length of the TCP header.
            let tcp = frame.len() - if frame[14] >> 4 == 4 { 40 } else { 60 };
            for (place, byte) in frame.iter_mut().enumerate().skip(15) {
                if place != tcp + 12 && rng.bool() {
                    *byte = rng.u8(..);
                }
            }
        });
        let bytes = Writer::bytes_of(|out| fingerprint.put(out));
        assert_eq!(Reader::whole(&bytes, Fingerprint::take).as_ref(), Ok(&fingerprint));
        assert!(fingerprint.to_string().len() < 400);
    }
    for _ in 0..20_000 {
        let options: Vec<_> = (0..rng.usize(..=40)).map(|_| rng.u8(..)).collect();
        let read = Options::read(&options);
        assert_eq!(Layout::parse(&read.layout.to_string()), Some(read.layout));
    }
}
