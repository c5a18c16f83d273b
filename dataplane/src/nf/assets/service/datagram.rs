//! Protocols of which each datagram says what it is.

use super::head::field;
use super::{Found, Payload, Role, u16_at, u32_at};

/// NTP (RFC 5905, section 7.3).
pub(super) fn ntp(payload: &Payload<'_>) -> Option<Found> {
    let first = *payload.bytes.first()?;
    let (version, mode) = (first >> 3 & 7, first & 7);
    if !payload.has_port(123) || payload.bytes.len() < 48 || !(1..=4).contains(&version) {
        return None;
    }
    let version = version.to_string();
    match mode {
        3 => Some(Found::client("ntp", version.as_bytes())),
        4 => Some(Found::server("ntp", version.as_bytes())),
        _ => None,
    }
}

/// SNMP (RFC 1157, section 4.1; RFC 3416, section 3): a sequence that begins with the version.
pub(super) fn snmp(payload: &Payload<'_>) -> Option<Found> {
    let (tag, message, _) = element(payload.bytes)?;
    let (kind, version, rest) = element(message)?;
    if (tag, kind) != (0x30, 0x02) {
        return None;
    }
    let version: &[u8] = match version {
        [0] => b"1",
        [1] => b"2c",
        [3] => b"3",
        _ => return None,
    };
    if version == b"3" {
        let by_port = match payload.ports {
            (161, _) => Role::Server,
            (_, 161) => Role::Client,
            _ => return None,
        };
        return Some(Found::of(Some(by_port), "snmp", version));
    }
    let (0x04, _, rest) = element(rest)? else { return None };
    match element(rest)?.0 {
        0xa0 | 0xa1 | 0xa3 | 0xa5 => Some(Found::client("snmp", version)),
        0xa2 => Some(Found::server("snmp", version)),
        _ => None,
    }
}

/// Long headers of QUIC (RFC 9000, section 17.2; RFC 9369).
pub(super) fn quic(payload: &Payload<'_>) -> Option<Found> {
    let bytes = payload.bytes;
    if bytes.first()? & 0xc0 != 0xc0 {
        return None;
    }
    let version: &[u8] = match u32_at(bytes, 1)? {
        1 => b"1",
        0x6b33_43cf => b"2",
        _ => return None,
    };
    let destination = usize::from(*bytes.get(5)?);
    let source = usize::from(*bytes.get(6 + destination)?);
    let fits = destination <= 20 && source <= 20 && bytes.len() > 7 + destination + source;
    fits.then(|| Found::either("quic", version))
}

/// STUN (RFC 8489, section 5).
pub(super) fn stun(payload: &Payload<'_>) -> Option<Found> {
    let (kind, length) = (u16_at(payload.bytes, 0)?, usize::from(u16_at(payload.bytes, 2)?));
    if u32_at(payload.bytes, 4)? != 0x2112_a442 || payload.bytes.len() != 20 + length {
        return None;
    }
    match kind & 0xc110 {
        0x0000 => Some(Found::client("stun", b"")),
        0x0100 | 0x0110 => Some(Found::server("stun", b"")),
        _ => None,
    }
}

/// IKE, which agrees about the keys of IPsec (RFC 7296, section 3.1).
pub(super) fn key_exchange(payload: &Payload<'_>) -> Option<Found> {
    let bytes = payload.bytes;
    // At this port four zeros stand in front (RFC 3948, section 2.2).
    let bytes = if payload.has_port(4500) { bytes.strip_prefix(&[0; 4])? } else { bytes };
    if !(payload.has_port(500) || payload.has_port(4500)) {
        return None;
    }
    let version: &[u8] = match bytes.get(17)? >> 4 {
        1 => b"1",
        2 => b"2",
        _ => return None,
    };
    (u32_at(bytes, 24)? as usize == bytes.len()).then(|| Found::either("ike", version))
}

/// The handshake of WireGuard, whose messages have one length each.
pub(super) fn wireguard(payload: &Payload<'_>) -> Option<Found> {
    match (payload.bytes.get(..4)?, payload.bytes.len()) {
        ([1, 0, 0, 0], 148) => Some(Found::client("wireguard", b"")),
        ([2, 0, 0, 0], 92) => Some(Found::server("wireguard", b"")),
        _ => None,
    }
}

/// SSDP, in which devices ask for each other (UPnP 2.0, section 1).
pub(super) fn discovery(payload: &Payload<'_>) -> Option<Found> {
    if !payload.has_port(1900) {
        return None;
    }
    let fields = |line: &str| payload.bytes.strip_prefix(line.as_bytes());
    let name = |fields, name| field(fields, name).unwrap_or_default();
    if let Some(fields) = fields("M-SEARCH * HTTP/1.1\r\n") {
        return Some(Found::client("ssdp", name(fields, "user-agent")));
    }
    let fields = fields("HTTP/1.1 200 OK\r\n").or_else(|| fields("NOTIFY * HTTP/1.1\r\n"))?;
    Some(Found::server("ssdp", name(fields, "server")))
}

/// The first element of bytes in the basic encoding rules: its tag, its value, what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16_at(rest, 0)?), rest.get(2..)?),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}
