//! `[[port]]`: where packets enter and leave.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::Name;
use super::report::{Finding, Findings};
use super::section::Section;
use super::value::{self, Label};
use crate::packet::MacAddr;

/// Most ports of a node.
pub const PORTS_MAX: usize = 64;
/// Most addresses of a port, the link-local one that it has anyway not included.
pub const ADDRESSES_MAX: usize = 15;
/// Most queues of a port.
pub const QUEUES_MAX: u8 = 64;

/// Longest IP packet of a port: a frame of 4,096 bytes less 256 that the kernel reserves in front,
/// the Ethernet header and a VLAN tag.
const MTU_MAX: u16 = 4096 - 256 - 18;

/// One `[[port]]`.
#[derive(Clone, Debug)]
pub struct Port {
    /// Unique on the node.
    pub name: Name,
    /// What is behind it.
    pub backend: Backend,
    /// The largest IP packet in bytes, 68 to 3,822; `None` takes what the backend has.
    pub mtu: Option<u16>,
    /// What becomes of checksums that a sender on this machine has left to its hardware.
    pub checksums: Checksums,
    /// The router's addresses, each with the network that is connected there.
    pub addresses: Vec<IpNet>,
}

/// What a port is made of.
#[derive(Clone, Debug)]
pub enum Backend {
    /// AF_XDP sockets on a network interface of this machine.
    AfXdp {
        /// The kernel's name of the interface.
        device: DeviceName,
        /// Queues, 1 to 64; default one for each worker. A worker without one sends by another's.
        queues: u8,
        /// Sizes of the rings of each queue, in descriptors.
        rings: Rings,
        /// By which way packets leave.
        transmit: Transmit,
    },
    /// Capture files, with one queue: one is replayed, one is written.
    Pcap {
        /// The file whose packets it receives.
        rx: Option<PathBuf>,
        /// The file for what it sends.
        tx: Option<PathBuf>,
        /// Its link-layer address; `None` makes one from the port's number.
        mac: Option<MacAddr>,
    },
}

/// What is done with a TCP or UDP checksum that holds the sum of the pseudo-header alone, as kernel
/// hosts behind a veth send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Completed when the interface is virtual: the sender may be on this machine.
    Auto,
    /// Completed.
    Complete,
    /// Left alone: every sender computes them.
    Trust,
}

/// The way out of a port, where its interface copies packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// By the socket.
    Socket,
    /// As live frames; the port does not start where the other end does not take them.
    Frames,
}

/// Ring sizes of a queue: powers of two from 64 to 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Received packets; default 8,192.
    pub rx: u32,
    /// Frames lent to the kernel to receive into, at most `rx`, which then never overflows; default
    /// as many as `rx`.
    pub fill: u32,
    /// Packets to send, and packets that have left; default 2,048.
    pub tx: u32,
}

/// A network interface by the kernel's name: 1 to 15 bytes without `/` and white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(Box<str>);

impl DeviceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = ();

    /// Accepts what the kernel's `dev_valid_name` accepts.
    fn from_str(text: &str) -> Result<Self, ()> {
        let bad = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0';
        let good =
            (1..=15).contains(&text.len()) && !matches!(text, "." | "..") && !text.contains(bad);
        if good { Ok(Self(text.into())) } else { Err(()) }
    }
}

/// A port with the places in the file that checks over several ports point at.
pub(super) struct PortDraft {
    pub(super) port: Port,
    pub(super) name_span: Range<usize>,
    pub(super) device_span: Range<usize>,
    pub(super) mtu_span: Range<usize>,
    pub(super) address_spans: Vec<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BackendKind {
    AfXdp,
    Pcap,
}

const QUEUE_KEYS: [&str; 4] = ["queues", "rx_ring", "fill_ring", "tx_ring"];
const BACKENDS: &[(&str, BackendKind)] =
    &[("af_xdp", BackendKind::AfXdp), ("pcap", BackendKind::Pcap)];
const CHECKSUMS: &[(&str, Checksums)] =
    &[("auto", Checksums::Auto), ("complete", Checksums::Complete), ("trust", Checksums::Trust)];
const TRANSMITS: &[(&str, Transmit)] =
    &[("socket", Transmit::Socket), ("frames", Transmit::Frames)];
const RING: std::ops::RangeInclusive<u32> = 64..=65_536;

/// Reads one port; `None` when it is too wrong to check against others.
pub(super) fn read_port(
    mut section: Section<'_>,
    workers: u8,
    findings: &Findings,
) -> Option<PortDraft> {
    let name = section.required("name", value::name);
    let kind = section.required("backend", backend_kind);
    let backend = match kind.map(Spanned::into_inner) {
        Some(BackendKind::AfXdp) => read_af_xdp(&mut section, workers),
        Some(BackendKind::Pcap) => read_pcap(&mut section),
        // Which keys belong to the port is not known: only the backend is wrong.
        None => {
            section.know(&["device", "transmit", "rx", "tx", "mac"]);
            section.know(&QUEUE_KEYS);
            None
        }
    };
    let addresses = section.list("addresses", ADDRESSES_MAX, value::interface_address);
    let mtu = section.optional("mtu", value::count(68..=MTU_MAX));
    let checksums = section.or("checksums", Checksums::Auto, value::word(CHECKSUMS));
    section.close();
    check_mtu(mtu.as_ref(), &addresses, findings);
    let (name, (backend, device_span)) = (name?, backend?);
    Some(PortDraft {
        name_span: name.span(),
        device_span,
        mtu_span: mtu.as_ref().map_or(0..0, Spanned::span),
        address_spans: addresses.iter().map(Spanned::span).collect(),
        port: Port {
            name: name.into_inner(),
            backend,
            mtu: mtu.map(Spanned::into_inner),
            checksums,
            addresses: addresses.into_iter().map(Spanned::into_inner).collect(),
        },
    })
}

fn backend_kind(value: &DeValue<'_>) -> Result<BackendKind, Label> {
    value::word(BACKENDS)(value).map_err(|label| match value.as_str() {
        Some("memory") => format!("{label}: memory ports exist in tests only"),
        Some(_) | None => label,
    })
}

fn read_af_xdp(section: &mut Section<'_>, workers: u8) -> Option<(Backend, Range<usize>)> {
    for key in ["rx", "tx"] {
        section.forbid(key, "files belong to ports with backend = \"pcap\"");
    }
    section.forbid("mac", "an af_xdp port has the address of its interface");
    let wanted = "the name of a network interface: 1 to 15 bytes";
    let device = section.required("device", value::parsed::<DeviceName>(wanted));
    let queues = section.or("queues", workers, value::count(1..=QUEUES_MAX));
    let rings = read_rings(section);
    let transmit = section.or("transmit", Transmit::Socket, value::word(TRANSMITS));
    let device = device?;
    let span = device.span();
    Some((Backend::AfXdp { device: device.into_inner(), queues, rings, transmit }, span))
}

fn read_pcap(section: &mut Section<'_>) -> Option<(Backend, Range<usize>)> {
    section.forbid("device", "interfaces belong to ports with backend = \"af_xdp\"");
    for key in QUEUE_KEYS {
        section.forbid(key, "a pcap port has one queue of fixed size");
    }
    section.forbid("transmit", "a pcap port writes to a file");
    let mut path = |key| section.optional(key, value::file_path).map(Spanned::into_inner);
    let (rx, tx) = (path("rx"), path("tx"));
    let wanted = "the address of one station, as in \"02:00:00:00:00:01\"";
    let station = move |value: &DeValue<'_>| {
        let mac: MacAddr = value::parsed(wanted)(value)?;
        if mac.is_station() { Ok(mac) } else { Err(format!("expected {wanted}")) }
    };
    let mac = section.optional("mac", station).map(Spanned::into_inner);
    if rx.is_none() && tx.is_none() {
        let help = "give rx = \"FILE\" to replay, tx = \"FILE\" to capture, or both";
        section.fault("a pcap port without a file", "rx and tx are both missing", help.to_owned());
        return None;
    }
    Some((Backend::Pcap { rx, tx, mac }, section.header()))
}

fn read_rings(section: &mut Section<'_>) -> Rings {
    let rx = section.or("rx_ring", 8192, value::power_of_two(RING));
    let fill = section.or("fill_ring", rx, value::power_of_two(RING));
    let tx = section.or("tx_ring", 2048, value::power_of_two(RING));
    if fill > rx {
        section.fault(
            "fill_ring is larger than rx_ring",
            "the rx ring could overflow",
            format!("raise rx_ring to {fill} or lower fill_ring to {rx}"),
        );
    }
    Rings { rx, fill, tx }
}

/// A link that carries IPv6 takes packets of 1,280 bytes (RFC 8200 section 5).
fn check_mtu(mtu: Option<&Spanned<u16>>, addresses: &[Spanned<IpNet>], findings: &Findings) {
    let Some(mtu) = mtu.filter(|mtu| *mtu.get_ref() < 1280) else { return };
    if let Some(v6) = addresses.iter().find(|address| address.get_ref().addr().is_ipv6()) {
        let finding = Finding::error(mtu.span(), "mtu is too small for IPv6", "at least 1280");
        findings.push(finding.over_the_whole().context(v6.span(), "this port has an IPv6 address"));
    }
}
