//! Flow ids as bytes, in network order.

use super::{EXTRAS_MAX, End, Ends, Extra, FlowId, NAME_MAX, VALUE_MAX};
use crate::id::ServiceId;
use crate::prefix::Prefix;
use crate::wire::{Reader, WireError, Writer};

/// Bytes of an encoded flow id at most.
pub const FLOW_ID_MAX: usize =
    2 + 2 * PREFIX_MAX + 2 * 2 + 1 + 2 + 1 + EXTRAS_MAX * (3 + NAME_MAX + VALUE_MAX);
/// Family, length and address.
const PREFIX_MAX: usize = 2 + 16;

/// Bits of the field that says which fields there are.
mod has {
    pub(super) const HOST: u16 = 1;
    pub(super) const PAIR: u16 = 1 << 1;
    pub(super) const SRC: u16 = 1 << 2;
    pub(super) const DST: u16 = 1 << 3;
    pub(super) const SRC_PORT: u16 = 1 << 4;
    pub(super) const DST_PORT: u16 = 1 << 5;
    pub(super) const PROTOCOL: u16 = 1 << 6;
    pub(super) const SERVICE: u16 = 1 << 7;
    pub(super) const EXTRAS: u16 = 1 << 8;
    pub(super) const ALL: u16 = (1 << 9) - 1;
}

impl FlowId {
    /// Appends the id: at most [`FLOW_ID_MAX`] bytes.
    pub fn put(&self, out: &mut Writer) {
        let (src, dst) = match self.ends {
            Ends::Pair { src, dst } => (src, dst),
            Ends::Any | Ends::Host(_) => Default::default(),
        };
        let host = if let Ends::Host(prefix) = &self.ends { Some(*prefix) } else { None };
        let fields = [
            (has::HOST, host.is_some()),
            (has::PAIR, matches!(self.ends, Ends::Pair { .. })),
            (has::SRC, src.prefix.is_some()),
            (has::DST, dst.prefix.is_some()),
            (has::SRC_PORT, src.port.is_some()),
            (has::DST_PORT, dst.port.is_some()),
            (has::PROTOCOL, self.protocol.is_some()),
            (has::SERVICE, self.service.is_some()),
            (has::EXTRAS, !self.extras.is_empty()),
        ];
        out.u16(fields.iter().filter(|(_, is)| *is).fold(0, |all, (bit, _)| all | bit));
        [host, src.prefix, dst.prefix].iter().flatten().for_each(|prefix| put_prefix(prefix, out));
        [src.port, dst.port].iter().flatten().for_each(|port| out.u16(*port));
        self.protocol.iter().for_each(|number| out.u8(*number));
        self.service.iter().for_each(|service| out.u16(service.0));
        if !self.extras.is_empty() {
            // Each is bounded when it is made.
            out.u8(self.extras.len() as u8);
            for extra in &self.extras {
                out.u8(extra.name().len() as u8);
                out.raw(extra.name().as_bytes());
                out.u16(extra.value().len() as u16);
                out.raw(extra.value().as_bytes());
            }
        }
    }

    /// Takes an id off the front of bytes.
    ///
    /// # Errors
    /// When they are none, or not in the one form that an id has.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let present = reader.u16()?;
        let is = |bit: u16| present & bit != 0;
        let of_a_pair = has::SRC | has::DST | has::SRC_PORT | has::DST_PORT;
        let pair_only = !is(has::PAIR) && is(of_a_pair);
        if is(!has::ALL) || (is(has::HOST) && is(has::PAIR)) || pair_only {
            return Err(BAD);
        }
        let mut prefix = |bit| is(bit).then(|| take_prefix(reader)).transpose();
        let (host, src, dst) = (prefix(has::HOST)?, prefix(has::SRC)?, prefix(has::DST)?);
        let src_port = is(has::SRC_PORT).then(|| reader.u16()).transpose()?;
        let dst_port = is(has::DST_PORT).then(|| reader.u16()).transpose()?;
        let ends = match host {
            Some(host) => Ends::Host(host),
            None if is(has::PAIR) => Ends::Pair {
                src: End { prefix: src, port: src_port },
                dst: End { prefix: dst, port: dst_port },
            },
            None => Ends::Any,
        };
        let protocol = is(has::PROTOCOL).then(|| reader.u8()).transpose()?;
        let service = is(has::SERVICE).then(|| reader.u16()).transpose()?.map(ServiceId);
        let mut id = Self::new(ends, protocol, service);
        if is(has::EXTRAS) {
            id.extras = take_extras(reader)?;
        }
        Ok(id)
    }
}

const BAD: WireError = WireError::BadField { what: "flow id" };

fn put_prefix(prefix: &Prefix, out: &mut Writer) {
    out.u8(prefix.length());
    out.address(prefix.address());
}

fn take_prefix(reader: &mut Reader<'_>) -> Result<Prefix, WireError> {
    let length = reader.u8()?;
    Prefix::new(reader.address()?, length).map_err(|_| BAD)
}

fn take_extras(reader: &mut Reader<'_>) -> Result<Vec<Extra>, WireError> {
    let count = usize::from(reader.u8()?);
    if !(1..=EXTRAS_MAX).contains(&count) {
        return Err(BAD);
    }
    let extras: Vec<_> = (0..count).map(|_| take_extra(reader)).collect::<Result<_, _>>()?;
    // In order, so that there is one form only.
    let in_order = extras.is_sorted_by(|one, other| one.name() < other.name());
    if in_order { Ok(extras) } else { Err(BAD) }
}

fn take_extra(reader: &mut Reader<'_>) -> Result<Extra, WireError> {
    let length = usize::from(reader.u8()?);
    let name = reader.raw(length)?;
    let length = usize::from(reader.u16()?);
    let value = reader.raw(length)?;
    let texts = std::str::from_utf8(name).ok().zip(std::str::from_utf8(value).ok());
    texts.and_then(|(name, value)| Extra::new(name, value).ok()).ok_or(BAD)
}
