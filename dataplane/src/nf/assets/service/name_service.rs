//! Protocols that give hosts names and addresses: DNS and DHCP.

use super::{Found, Payload, Role, u16_at, u32_at};

const DNS_HEADER: usize = 12;
const LABEL_MAX: u8 = 63;
/// Bytes of a DNS name at most (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 255;
/// Where the options of DHCP begin, behind the number that marks them (RFC 2131, section 3).
const DHCP_MAGIC: usize = 236;
const DHCP_OPTIONS: usize = 240;
const VENDOR_CLASS: u8 = 60;

/// DNS with one question (RFC 1035, section 4.1).
pub(super) fn dns(payload: &Payload<'_>) -> Option<Found> {
    message(payload.bytes).map(|role| Found::of(Some(role), "dns", b""))
}

/// DNS behind its length, in one segment (RFC 7766, section 8).
pub(super) fn over_tcp(payload: &Payload<'_>) -> Option<Found> {
    let message = payload.bytes.get(2..)?;
    let length = usize::from(u16_at(payload.bytes, 0)?);
    if length != message.len() {
        return None;
    }
    self::message(message).map(|role| Found::of(Some(role), "dns", b""))
}

/// DHCP, with what the client says it is (RFC 2132, section 9.13).
pub(super) fn dhcp(payload: &Payload<'_>) -> Option<Found> {
    let bytes = payload.bytes;
    let marked = u32_at(bytes, DHCP_MAGIC)? == 0x6382_5363;
    if !marked || !(payload.has_port(67) || payload.has_port(68)) {
        return None;
    }
    match bytes[0] {
        1 => Some(Found::client("dhcp", option(bytes, VENDOR_CLASS).unwrap_or_default())),
        2 => Some(Found::server("dhcp", b"")),
        _ => None,
    }
}

/// Who has sent a message of DNS, if it is one.
fn message(bytes: &[u8]) -> Option<Role> {
    let (flags, questions) = (u16_at(bytes, 2)?, u16_at(bytes, 4)?);
    let (answers, authorities) = (u16_at(bytes, 6)?, u16_at(bytes, 8)?);
    let is_response = flags & 0x8000 != 0;
    // A standard query without the reserved flag, and codes that there are.
    if flags & 0x7840 != 0 || flags & 0xf > 11 || questions != 1 {
        return None;
    }
    if !is_response && (answers, authorities, flags & 0xf) != (0, 0, 0) {
        return None;
    }
    let end = name_end(bytes)?;
    let (kind, class) = (u16_at(bytes, end)?, u16_at(bytes, end + 2)?);
    // Internet, Chaos, Hesiod, any.
    let is_question = kind != 0 && matches!(class & 0x7fff, 1 | 3 | 4 | 255);
    is_question.then_some(if is_response { Role::Server } else { Role::Client })
}

/// Where the name of the question ends.
fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut at = DNS_HEADER;
    while at - DNS_HEADER <= NAME_MAX {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=LABEL_MAX => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    None
}

/// The value of an option of DHCP.
fn option(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = bytes.get(DHCP_OPTIONS..)?;
    loop {
        match rest {
            [0, behind @ ..] => rest = behind,
            [255, ..] | [] | [_] => return None,
            [kind, length, behind @ ..] => {
                let (value, behind) = behind.split_at_checked(usize::from(*length))?;
                if *kind == wanted {
                    return Some(value);
                }
                rest = behind;
            }
        }
    }
}
