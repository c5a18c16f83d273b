//! What becomes of a packet, as its sender and its receiver see it.

use std::net::IpAddr;

use weir_dataplane::packet::{Flags, Parsed, parse};
use weir_state_transfer::ServiceId;

use crate::kernel::is_same;

/// What came out of a router for a packet that went in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forwarded,
    Dropped,
    /// Its sender is told that it was dropped.
    Answered(Answer),
}

/// An ICMP error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    to: IpAddr,
    kind: u8,
    code: u8,
    /// The beginning of the packet that it is about: addresses and the first word behind the
    /// header, that of the ports.
    about: Vec<u8>,
}

impl Verdict {
    /// What came out tells.
    ///
    /// # Panics
    /// When it is neither the packet nor an error.
    pub(crate) fn of(sent: &[u8], out: &[Vec<u8>]) -> Self {
        match out {
            [] => Self::Dropped,
            [frame] if is_same(sent, frame) => Self::Forwarded,
            [frame] => match Answer::read(frame) {
                Some(answer) => Self::Answered(answer),
                None => panic!("{sent:02x?} became {frame:02x?}"),
            },
            more => panic!("{sent:02x?} became {more:02x?}"),
        }
    }

    /// In a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Dropped => "dropped",
            Self::Answered(_) => "answered",
        }
    }
}

impl Answer {
    fn read(frame: &[u8]) -> Option<Self> {
        let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { return None };
        let (_, to) = meta.addresses(frame)?;
        let icmp = meta.l4_bytes(frame).filter(|_| meta.flags.has(Flags::ICMP_ERROR))?;
        let ([kind, code, ..], quoted) = icmp.split_first_chunk::<8>()?;
        // A router may count the TTL down before it drops.
        let header = if to.is_ipv4() { 12..20 } else { 8..40 };
        let ports = header.end..header.end + 4;
        let about = [quoted.get(header)?, quoted.get(ports)?].concat();
        Some(Self { to, kind: *kind, code: *code, about })
    }
}
