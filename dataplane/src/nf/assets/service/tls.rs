//! The hellos of TLS (RFC 8446, section 4.1): the version, and which server the client asks for.

use weir_state_transfer::wire::{Reader, WireError};

use super::{Found, Name, Payload};

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;
/// Bytes of a host name at most (RFC 1035, section 2.3.4).
const HOST_MAX: usize = 255;

/// What a hello says, as far as it is in the packet.
#[derive(Debug, Default)]
struct Hello<'a> {
    version: u16,
    host: Option<&'a [u8]>,
    /// Whether its extensions are all there: they may name another version.
    whole: bool,
}

/// A hello of either end.
pub(super) fn hello(payload: &Payload<'_>) -> Option<Found> {
    let [HANDSHAKE, 3, 0..=4, _, _, kind @ (CLIENT_HELLO | SERVER_HELLO), _, _, _, body @ ..] =
        payload.bytes
    else {
        return None;
    };
    let is_client = *kind == CLIENT_HELLO;
    let hello = read(&mut Reader::new(body), is_client)?;
    let version = if hello.whole { name(hello.version)? } else { "tls" };
    if !is_client {
        return Some(Found::server(version, b""));
    }
    let asks = hello.host.map(|host| Name::new(&String::from_utf8_lossy(host), b""));
    Some(Found { asks, ..Found::client(version, b"") })
}

/// Reads a hello; none when what is there is none.
fn read<'a>(reader: &mut Reader<'a>, is_client: bool) -> Option<Hello<'a>> {
    let mut hello = Hello { version: reader.u16().ok()?, ..Hello::default() };
    name(hello.version)?;
    reader.raw(32).ok()?;
    let session = usize::from(reader.u8().ok()?);
    if session > 32 {
        return None;
    }
    let mut rest = || {
        reader.raw(session)?;
        if is_client {
            let suites = usize::from(reader.u16()?);
            reader.raw(suites)?;
            let methods = usize::from(reader.u8()?);
            reader.raw(methods)?;
        } else {
            reader.raw(3)?;
        }
        read_extensions(reader, is_client, &mut hello)
    };
    // What is cut off is not a fault: the packet has no more.
    let read = rest();
    hello.whole = read.is_ok();
    Some(hello)
}

fn read_extensions<'a>(
    reader: &mut Reader<'a>,
    is_client: bool,
    hello: &mut Hello<'a>,
) -> Result<(), WireError> {
    // Before TLS 1.2 there need be none.
    let Ok(length) = reader.u16() else { return Ok(()) };
    let mut left = usize::from(length);
    while left >= 4 {
        let (kind, length) = (reader.u16()?, usize::from(reader.u16()?));
        let value = reader.raw(length)?;
        left = left.saturating_sub(4 + length);
        match kind {
            SERVER_NAME if is_client => hello.host = host(value).or(hello.host),
            SUPPORTED_VERSIONS if is_client => {
                let offered = value.get(1..).unwrap_or_default().chunks_exact(2);
                let offered = offered.map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                let known = offered.filter(|version| name(*version).is_some());
                hello.version = known.max().unwrap_or(hello.version);
            }
            SUPPORTED_VERSIONS => {
                hello.version = super::u16_at(value, 0).unwrap_or(hello.version);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first name of a list of server names (RFC 6066, section 3).
fn host(value: &[u8]) -> Option<&[u8]> {
    let length = usize::from(super::u16_at(value, 3)?);
    let host = value.get(5..)?.get(..length)?;
    let fits = value[2] == 0 && (1..=HOST_MAX).contains(&host.len());
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    (fits && host.iter().all(is_part)).then_some(host)
}

fn name(version: u16) -> Option<&'static str> {
    match version {
        0x0300 => Some("ssl 3.0"),
        0x0301 => Some("tls 1.0"),
        0x0302 => Some("tls 1.1"),
        0x0303 => Some("tls 1.2"),
        0x0304 => Some("tls 1.3"),
        _ => None,
    }
}
