//! Flow ids as bytes, in network order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{EXTRAS_MAX, End, Ends, Extra, FlowId, NAME_MAX, VALUE_MAX};
use crate::id::ServiceId;
use crate::prefix::Prefix;

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

/// Bytes that end before what they say has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut;

/// Reads numbers off the front of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Cut> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Cut> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Cut)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Cut> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Cut> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Cut> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Cut> {
        self.array().map(u64::from_be_bytes)
    }
}

impl FlowId {
    /// Appends the id to bytes: at most [`FLOW_ID_MAX`] of them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
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
        let present = fields.iter().filter(|(_, is)| *is).fold(0, |all, (bit, _)| all | bit);
        out.extend(present.to_be_bytes());
        [host, src.prefix, dst.prefix].iter().flatten().for_each(|prefix| put_prefix(prefix, out));
        [src.port, dst.port].iter().flatten().for_each(|port| out.extend(port.to_be_bytes()));
        out.extend(self.protocol);
        out.extend(self.service.iter().flat_map(|service| service.0.to_be_bytes()));
        if !self.extras.is_empty() {
            // Each is bounded when it is made.
            out.push(self.extras.len() as u8);
            for extra in &self.extras {
                out.push(extra.name().len() as u8);
                out.extend(extra.name().bytes());
                out.extend((extra.value().len() as u16).to_be_bytes());
                out.extend(extra.value().bytes());
            }
        }
    }

    /// Takes an id off the front of bytes; `Ok(None)` when they are none.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, Cut> {
        let present = reader.u16()?;
        let is = |bit: u16| present & bit != 0;
        let of_a_pair = has::SRC | has::DST | has::SRC_PORT | has::DST_PORT;
        let pair_only = !is(has::PAIR) && is(of_a_pair);
        if is(!has::ALL) || (is(has::HOST) && is(has::PAIR)) || pair_only {
            return Ok(None);
        }
        let mut prefixes = [None; 3];
        for (place, bit) in prefixes.iter_mut().zip([has::HOST, has::SRC, has::DST]) {
            if is(bit) {
                let Some(prefix) = take_prefix(reader)? else { return Ok(None) };
                *place = Some(prefix);
            }
        }
        let [host, src, dst] = prefixes;
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
        let count = if is(has::EXTRAS) { reader.u8()? } else { 0 };
        if usize::from(count) > EXTRAS_MAX || (is(has::EXTRAS) && count == 0) {
            return Ok(None);
        }
        let mut id = Self::new(ends, protocol, service);
        for _ in 0..count {
            let Some(extra) = take_extra(reader)? else { return Ok(None) };
            // In order, so that there is one form only.
            let in_order = id.extras.last().is_none_or(|last| last.name() < extra.name());
            if !in_order {
                return Ok(None);
            }
            id.extras.push(extra);
        }
        Ok(Some(id))
    }
}

fn put_prefix(prefix: &Prefix, out: &mut Vec<u8>) {
    out.push(if prefix.is_v4() { 4 } else { 6 });
    out.push(prefix.length());
    match prefix.address() {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

fn take_prefix(reader: &mut Reader<'_>) -> Result<Option<Prefix>, Cut> {
    let (family, length) = (reader.u8()?, reader.u8()?);
    let address = match family {
        4 => IpAddr::V4(Ipv4Addr::from(reader.array::<4>()?)),
        6 => IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?)),
        _ => return Ok(None),
    };
    Ok(Prefix::new(address, length).ok())
}

fn take_extra(reader: &mut Reader<'_>) -> Result<Option<Extra>, Cut> {
    let length = usize::from(reader.u8()?);
    let name = reader.bytes(length)?;
    let length = usize::from(reader.u16()?);
    let value = reader.bytes(length)?;
    let texts = std::str::from_utf8(name).ok().zip(std::str::from_utf8(value).ok());
    Ok(texts.and_then(|(name, value)| Extra::new(name, value).ok()))
}
