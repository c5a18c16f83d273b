//! A TCP segment: what is read of its header and options (RFC 9293, section 3.1).

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::invalid::Invalid;
use crate::packet::header::header_at;

/// The largest shift of a window that counts (RFC 7323, section 2.3).
pub(super) const SCALE_MAX: u8 = 14;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    ports: [u8; 4],
    seq: U32,
    ack: U32,
    offset: u8,
    flags: u8,
    window: U16,
    checksum: [u8; 2],
    urgent: [u8; 2],
}

/// A segment whose header is whole and whose flags make sense together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// As it stands there, not scaled.
    pub(super) window: u16,
    pub(super) flags: u8,
    /// The sequence number behind its data, SYN and FIN.
    pub(super) end: u32,
    options: &'a [u8],
}

/// What a segment is for, by its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Syn, Self::SynAck, Self::Fin, Self::Ack, Self::Rst];
}

/// What a SYN offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// The shift of the sender's later windows, if both ends name one.
    pub(super) scale: Option<u8>,
    /// Whether the sender takes selective acknowledgements (RFC 2018).
    pub(super) sack: bool,
}

impl<'a> Segment<'a> {
    /// Reads the segment that bytes begin with and end with.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Invalid> {
        let header: &Header = header_at(bytes, 0).ok_or(Invalid::BadHeader)?;
        let length = usize::from(header.offset >> 4) * 4;
        let options = bytes.get(size_of::<Header>()..length).ok_or(Invalid::BadHeader)?;
        if !flags_are_possible(header.flags) {
            return Err(Invalid::BadFlags);
        }
        let counted = u32::from(header.flags & SYN != 0) + u32::from(header.flags & FIN != 0);
        // The cast holds: a packet has at most 65,535 bytes.
        let data = (bytes.len() - length) as u32;
        let seq = header.seq.get();
        Ok(Self {
            seq,
            ack: header.ack.get(),
            window: header.window.get(),
            flags: header.flags,
            end: seq.wrapping_add(data + counted),
            options,
        })
    }

    pub(super) fn kind(&self) -> Kind {
        if self.is_rst() {
            Kind::Rst
        } else if self.is_syn() {
            if self.has_ack() { Kind::SynAck } else { Kind::Syn }
        } else if self.flags & FIN != 0 {
            Kind::Fin
        } else {
            Kind::Ack
        }
    }

    pub(super) fn is_syn(&self) -> bool {
        self.flags & SYN != 0
    }

    pub(super) fn is_rst(&self) -> bool {
        self.flags & RST != 0
    }

    pub(super) fn has_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    /// What the segment offers, if it is a SYN.
    pub(super) fn offer(&self) -> Offer {
        let mut offer = Offer::default();
        for (kind, value) in Options(self.options) {
            match (kind, value) {
                (3, [scale]) => offer.scale = Some((*scale).min(SCALE_MAX)),
                (4, []) => offer.sack = true,
                _ => {}
            }
        }
        offer
    }

    /// The highest sequence number that the segment acknowledges, alone or by a block (RFC 2018).
    pub(super) fn highest_ack(&self) -> u32 {
        let mut highest = self.ack;
        for (kind, value) in Options(self.options) {
            let (blocks, rest) = value.as_chunks::<8>();
            if kind != 5 || !rest.is_empty() {
                continue;
            }
            for [_, _, _, _, right @ ..] in blocks {
                let right = u32::from_be_bytes(*right);
                if is_after(right, highest) {
                    highest = right;
                }
            }
        }
        highest
    }
}

/// Whether one sequence number comes behind another: less than half of all further on.
#[inline]
pub(super) fn is_after(one: u32, other: u32) -> bool {
    (other.wrapping_sub(one) as i32) < 0
}

fn flags_are_possible(flags: u8) -> bool {
    let counts = flags & (FIN | SYN | RST | ACK | URG);
    match counts & !URG {
        SYN | ACK => true,
        both if both == FIN | ACK => true,
        RST => counts & URG == 0,
        both if both == RST | ACK || both == SYN | ACK => counts & URG == 0,
        _ => false,
    }
}

/// The options of a header, up to their end or the first that is cut off.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.0 {
                [] | [0, ..] => return None,
                [1, ref rest @ ..] => self.0 = rest,
                [kind, length, ..] => {
                    let (option, rest) = self.0.split_at_checked(usize::from(length))?;
                    self.0 = rest;
                    return Some((kind, option.get(2..)?));
                }
                [_] => return None,
            }
        }
    }
}
