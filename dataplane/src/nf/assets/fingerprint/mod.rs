//! Fingerprints of TCP stacks: what is characteristic of a SYN or SYN+ACK, in a notation like that
//! of p0f 3.
//!
//! ```text
//! version:TTL:IP options:MSS:window,scale:layout of options:quirks:payload
//! 4:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0
//! ```
//!
//! The TTL is that which the packet has probably begun with. How many routers it has passed is not
//! part of the fingerprint: another way there makes no other stack.

mod options;
mod quirk;
mod signature;
#[cfg(test)]
mod tests;

use std::fmt;

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::lowest::Kept;
use super::packet::{Ip, Packet, Segment};
use crate::packet::ipv4::{DONT_FRAGMENT, HEADER_LEN};
use options::Options;

pub use options::Layout;
pub use quirk::{Quirk, Quirks};
pub use signature::{SignatureError, Signatures};

/// The flag of an IPv4 header that must be zero (RFC 791).
const RESERVED: u16 = 0x8000;
/// Bytes of the time stamps in a segment, which some stacks take off the MSS for their window.
const TIMES: u16 = 12;

/// Which segment a fingerprint is of. One that begins a connection tells more than the answer to
/// it, in which a stack offers nothing that it was not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A SYN.
    Syn,
    /// A SYN+ACK.
    SynAck,
}

/// What is characteristic of a SYN or SYN+ACK.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    kind: Kind,
    /// 4 or 6.
    version: u8,
    ttl: u8,
    /// Bytes of IPv4 options.
    ip_options: u8,
    /// 0 when there is none.
    mss: u16,
    window: u16,
    /// 0 when there is none.
    scale: u8,
    layout: Layout,
    quirks: Quirks,
    payload: bool,
}

/// A window by what it is a multiple of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Bytes(u16),
    /// Times the MSS, less time stamps where there are any.
    Segments(u16),
    /// Times the MSS with its headers.
    Packets(u16),
}

impl Fingerprint {
    /// The fingerprint of a segment that is a SYN.
    pub(super) fn of(packet: &Packet<'_>, segment: &Segment<'_>) -> Self {
        let options = Options::read(segment.options);
        let kind = if segment.has_ack() { Kind::SynAck } else { Kind::Syn };
        let mut quirks = options.quirks;
        let (version, ip_options) = match packet.ip {
            Ip::V4(header) => {
                let (flags, id) = (header.fragment.get(), header.identification.get());
                let whole = flags & DONT_FRAGMENT != 0;
                quirks.add_if(whole, Quirk::DontFragment);
                quirks.add_if(whole && id != 0, Quirk::NeedlessId);
                quirks.add_if(!whole && id == 0, Quirk::MissingId);
                quirks.add_if(flags & RESERVED != 0, Quirk::Reserved);
                quirks.add_if(header.traffic_class & 3 != 0, Quirk::Congestion);
                (4, header.header_len().saturating_sub(HEADER_LEN) as u8)
            }
            Ip::V6(header) => {
                let word = header.version_class_label.get();
                quirks.add_if(word & 0xf_ffff != 0, Quirk::FlowLabel);
                quirks.add_if(word >> 20 & 3 != 0, Quirk::Congestion);
                (6, 0)
            }
        };
        let (has_ack, urg) = (segment.has_ack(), segment.urg());
        quirks.add_if(segment.ecn(), Quirk::Congestion);
        quirks.add_if(segment.seq() == 0, Quirk::ZeroSequence);
        quirks.add_if(!has_ack && segment.ack() != 0, Quirk::NeedlessAck);
        quirks.add_if(has_ack && segment.ack() == 0, Quirk::ZeroAck);
        quirks.add_if(!urg && segment.urgent_pointer() != 0, Quirk::NeedlessUrgent);
        quirks.add_if(urg, Quirk::Urgent);
        quirks.add_if(segment.psh(), Quirk::Push);
        if let Some((own, other)) = options.times {
            quirks.add_if(own == 0, Quirk::ZeroTime);
            quirks.add_if(kind == Kind::Syn && other != 0, Quirk::EchoedTime);
        }
        Self {
            kind,
            version,
            ttl: initial_ttl(packet.ip.ttl()),
            ip_options,
            mss: options.mss,
            window: segment.window(),
            scale: options.scale,
            layout: options.layout,
            quirks,
            payload: !segment.payload.is_empty(),
        }
    }

    /// Which segment it is of.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The window as a multiple, of what it first is one of.
    fn window(&self) -> Window {
        let times = |bytes: u16| {
            let fits = bytes > 0 && self.window > 0 && self.window.is_multiple_of(bytes);
            fits.then(|| self.window / bytes)
        };
        let segments = self.segment_sizes().into_iter().find_map(times).map(Window::Segments);
        let packets = || times(self.packet_size()).map(Window::Packets);
        segments.or_else(packets).unwrap_or(Window::Bytes(self.window))
    }

    /// What a window may be counted in, 0 where there is nothing.
    fn segment_sizes(&self) -> [u16; 2] {
        // A smaller one is none that anything is counted in.
        let mss = if self.mss < 100 { 0 } else { self.mss };
        [mss, if self.layout.has_times() { mss.saturating_sub(TIMES) } else { 0 }]
    }

    fn packet_size(&self) -> u16 {
        let headers = if self.version == 4 { 40 } else { 60 };
        if self.mss < 100 { 0 } else { self.mss.saturating_add(headers) }
    }
}

/// The TTL that a packet has probably begun with: stacks begin with few.
pub(super) fn initial_ttl(ttl: u8) -> u8 {
    match ttl {
        0..=32 => 32,
        33..=64 => 64,
        65..=128 => 128,
        129.. => 255,
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, ttl, ip_options, mss, scale, layout, quirks, .. } = self;
        write!(f, "{version}:{ttl}:{ip_options}:{mss}:")?;
        match self.window() {
            Window::Bytes(bytes) => write!(f, "{bytes}")?,
            Window::Segments(count) => write!(f, "mss*{count}")?,
            Window::Packets(count) => write!(f, "mtu*{count}")?,
        }
        let payload = if self.payload { "+" } else { "0" };
        write!(f, ",{scale}:{layout}:{quirks}:{payload}")
    }
}

impl Kept for Fingerprint {
    fn put(&self, out: &mut Writer) {
        out.facts([self.kind == Kind::SynAck, self.version == 6, self.payload]);
        out.u8(self.ttl);
        out.u8(self.ip_options);
        out.u16(self.mss);
        out.u16(self.window);
        out.u8(self.scale);
        self.layout.put(out);
        self.quirks.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let [answer, six, payload] = reader.facts("set of facts")?;
        let ttl = reader.u8()?;
        if initial_ttl(ttl) != ttl {
            return Err(WireError::BadField { what: "TTL at the beginning" });
        }
        Ok(Self {
            kind: if answer { Kind::SynAck } else { Kind::Syn },
            version: if six { 6 } else { 4 },
            ttl,
            ip_options: reader.u8()?,
            mss: reader.u16()?,
            window: reader.u16()?,
            scale: reader.u8()?,
            layout: Layout::take(reader)?,
            quirks: Quirks::take(reader)?,
            payload,
        })
    }
}
