//! Databases and message brokers.

use super::{Found, Payload, u16_at, u32_at};

/// The greeting of MySQL and MariaDB, with the version (MySQL protocol, HandshakeV10).
pub(super) fn mysql(payload: &Payload<'_>) -> Option<Found> {
    let [low, middle, high, 0, 10, rest @ ..] = payload.bytes else { return None };
    let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
    if length != rest.len() + 1 {
        return None;
    }
    let version = rest.split(|byte| *byte == 0).next()?;
    // MariaDB puts a version in front that old replicas understand.
    let version = version.strip_prefix(b"5.5.5-").unwrap_or(version);
    let is_version = version.first()?.is_ascii_digit() && version.contains(&b'.');
    is_version.then(|| Found::server("mysql", version))
}

/// The first messages of PostgreSQL (PostgreSQL protocol 3.0, message formats).
pub(super) fn postgresql(payload: &Payload<'_>) -> Option<Found> {
    const VERSION_3: u32 = 0x0003_0000;
    const ENCRYPT: u32 = 80_877_103;
    let bytes = payload.bytes;
    if bytes.first() == Some(&b'R') {
        let (length, method) = (u32_at(bytes, 1)?, u32_at(bytes, 5)?);
        let asks = (8..1024).contains(&length) && method <= 12;
        return asks.then(|| Found::server("postgresql", b""));
    }
    if u32_at(bytes, 0)? as usize != bytes.len() {
        return None;
    }
    match u32_at(bytes, 4)? {
        ENCRYPT if bytes.len() == 8 => Some(Found::client("postgresql", b"")),
        VERSION_3 if bytes[8..].starts_with(b"user\0") => Some(Found::client("postgresql", b"")),
        _ => None,
    }
}

/// The first messages of SQL Server, with its version (MS-TDS, section 2.2.6.5).
pub(super) fn sql_server(payload: &Payload<'_>) -> Option<Found> {
    let bytes = payload.bytes;
    let [kind, 1, _, _, _, _, _, _, 0, options @ ..] = bytes else { return None };
    if usize::from(u16_at(bytes, 2)?) != bytes.len() {
        return None;
    }
    match *kind {
        0x12 => Some(Found::client("sqlserver", b"")),
        0x04 => {
            let at = 8 + usize::from(u16_at(options, 0)?);
            let [major, minor] = *bytes.get(at..)?.first_chunk()?;
            Some(Found::server("sqlserver", format!("{major}.{minor}").as_bytes()))
        }
        _ => None,
    }
}

/// The greeting of MQTT (MQTT 5.0, section 3.1).
pub(super) fn mqtt(payload: &Payload<'_>) -> Option<Found> {
    let [0x10, rest @ ..] = payload.bytes else { return None };
    // The length has up to four bytes, all but the last with the highest bit.
    let length = rest.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let rest = &rest[length..];
    let level = *rest.strip_prefix(b"\x00\x04MQTT")?.first()?;
    let version: &[u8] = match level {
        4 => b"3.1.1",
        5 => b"5.0",
        _ => return None,
    };
    Some(Found::client("mqtt", version))
}
