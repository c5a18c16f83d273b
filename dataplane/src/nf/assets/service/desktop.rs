//! Protocols of screens and of shared files: VNC, RDP, SMB.

use super::{Found, Payload, u16_at};

/// VNC, whose ends greet alike (RFC 6143, section 7.1.1).
pub(super) fn screen(payload: &Payload<'_>) -> Option<Found> {
    let [b'R', b'F', b'B', b' ', version @ .., b'\n'] = payload.bytes else { return None };
    let (major, minor) = (version.get(..3)?, version.get(4..)?);
    let number = |digits: &[u8]| str::from_utf8(digits).ok()?.parse::<u16>().ok();
    if version[3] != b'.' || minor.len() != 3 {
        return None;
    }
    let version = format!("{}.{}", number(major)?, number(minor)?);
    Some(Found::either("vnc", version.as_bytes()))
}

/// RDP: what a connection begins with, with the marks of its negotiation (MS-RDPBCGR, section
/// 2.2.1). Others begin alike without them.
pub(super) fn rdp(payload: &Payload<'_>) -> Option<Found> {
    const REQUEST: u8 = 0xe0;
    const CONFIRM: u8 = 0xd0;
    let bytes = payload.bytes;
    let [3, 0, _, _, _, kind, _, _, _, _, _, rest @ ..] = bytes else { return None };
    if usize::from(u16_at(bytes, 2)?) != bytes.len() {
        return None;
    }
    let negotiates = |kinds: &[u8]| {
        rest.len() >= 8
            && kinds.contains(&rest[rest.len() - 8])
            && rest[rest.len() - 6..][..2] == [8, 0]
    };
    match *kind & 0xf0 {
        REQUEST if rest.starts_with(b"Cookie: mstshash=") || negotiates(&[1]) => {
            Some(Found::client("rdp", b""))
        }
        CONFIRM if negotiates(&[2, 3]) => Some(Found::server("rdp", b"")),
        _ => None,
    }
}

/// SMB over TCP (MS-SMB, section 2.2.3.1; MS-SMB2, sections 2.2.1 and 2.2.4).
pub(super) fn smb(payload: &Payload<'_>) -> Option<Found> {
    let [0, _, _, _, version @ (0xff | 0xfe), b'S', b'M', b'B', header @ ..] = payload.bytes else {
        return None;
    };
    if *version == 0xff {
        let answers = header.get(5)? & 0x80 != 0;
        return Some(if answers {
            Found::server("smb 1", b"")
        } else {
            Found::client("smb 1", b"")
        });
    }
    let answers = header.get(12)? & 1 != 0;
    if !answers {
        return Some(Found::client("smb 2", b""));
    }
    let is_negotiation = header.get(8..10)? == [0, 0];
    let dialect = header.get(64..66).filter(|_| is_negotiation);
    let dialect: &[u8] = match dialect {
        Some([0x02, 0x02]) => b"2.0.2",
        Some([0x10, 0x02]) => b"2.1",
        Some([0x00, 0x03]) => b"3.0",
        Some([0x02, 0x03]) => b"3.0.2",
        Some([0x11, 0x03]) => b"3.1.1",
        _ => b"2",
    };
    Some(Found::server("smb", dialect))
}
