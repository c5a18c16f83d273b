//! What the intrusion detection reads of a packet.

use weir_state_transfer::{FlowKey, protocol};

use super::note::{Note, Notes};
use crate::packet::{Flags, Meta};

/// A packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) key: FlowKey,
    /// Bytes from the IP header on.
    pub(super) ip_len: u64,
    pub(super) transport: Transport<'a>,
    pub(super) notes: Notes,
}

/// What is behind the IP header.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transport<'a> {
    Tcp(Segment<'a>),
    /// The length of the payload.
    Udp(u64),
    /// Type and code, and the length of what follows the first 8 bytes.
    Icmp((u8, u8), u64),
    /// Another protocol, or nothing that can be read: a fragment, or a header that is cut off.
    Opaque,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) seq: u32,
    pub(super) ack: u32,
    flags: u8,
    pub(super) window: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(super) fn read(meta: &Meta, frame: &'a [u8]) -> Self {
        let transport = Transport::read(meta, frame);
        let marked = [(Flags::FRAGMENT, Note::Fragment), (Flags::L4_TRUNCATED, Note::Truncated)];
        let mut notes: Notes = marked
            .into_iter()
            .filter_map(|(flag, note)| meta.flags.has(flag).then_some(note))
            .collect();
        if transport.is_none() && meta.l4 != 0 && protocol::has_ports(meta.protocol) {
            notes.add(Note::Truncated);
        }
        let transport = transport.unwrap_or(Transport::Opaque);
        Self { key: meta.key, ip_len: meta.ip_len().into(), transport, notes }
    }

    /// The segment, of a packet that has one.
    pub(super) fn segment(&self) -> Option<&Segment<'a>> {
        if let Transport::Tcp(segment) = &self.transport { Some(segment) } else { None }
    }
}

impl<'a> Transport<'a> {
    fn read(meta: &Meta, frame: &'a [u8]) -> Option<Self> {
        if meta.flags.has(Flags::L4_TRUNCATED) {
            return None;
        }
        let bytes = meta.l4_bytes(frame)?;
        match meta.protocol {
            protocol::TCP => Segment::read(bytes).map(Self::Tcp),
            protocol::UDP => Some(Self::Udp(bytes.len().checked_sub(8)? as u64)),
            protocol::ICMP | protocol::ICMPV6 => {
                let kind = (*bytes.first()?, *bytes.get(1)?);
                Some(Self::Icmp(kind, bytes.len().checked_sub(8)? as u64))
            }
            _ => None,
        }
    }
}

impl<'a> Segment<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; 20] = bytes.first_chunk()?;
        let number = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = usize::from(header[12] >> 4) * 4;
        let payload = if length < header.len() { None } else { bytes.get(length..) }?;
        let window = u16::from_be_bytes([header[14], header[15]]);
        Some(Self { seq: number(4), ack: number(8), flags: header[13], window, payload })
    }

    pub(super) fn fin(&self) -> bool {
        self.flags & 0x01 != 0
    }

    pub(super) fn syn(&self) -> bool {
        self.flags & 0x02 != 0
    }

    pub(super) fn rst(&self) -> bool {
        self.flags & 0x04 != 0
    }

    pub(super) fn has_ack(&self) -> bool {
        self.flags & 0x10 != 0
    }

    /// The sequence number of the first byte of the payload.
    pub(super) fn data_seq(&self) -> u32 {
        self.seq.wrapping_add(self.syn().into())
    }
}
