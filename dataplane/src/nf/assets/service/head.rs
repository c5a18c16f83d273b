//! Heads of HTTP and of what looks like it: RTSP and SIP (RFC 9112, RFC 7826, RFC 3261).

use super::{Found, Payload};

/// Versions as they stand in the first line, and what the protocols are called.
const VERSIONS: [(&[u8], &str); 4] =
    [(b"HTTP/1.", "http"), (b"RTSP/1.", "rtsp"), (b"RTSP/2.", "rtsp"), (b"SIP/2.", "sip")];
/// Bytes of a method at most.
const METHOD_MAX: usize = 20;

/// A request, with what the client calls itself.
pub(super) fn request(payload: &Payload<'_>) -> Option<Found> {
    let (line, fields) = first_line(payload.bytes)?;
    let method = line.iter().position(|byte| *byte == b' ')?;
    let is_method = line[..method].iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    if method == 0 || method > METHOD_MAX || !is_method {
        return None;
    }
    let version = &line[line.iter().rposition(|byte| *byte == b' ')? + 1..];
    let (_, protocol) = VERSIONS.iter().find(|(prefix, _)| version.starts_with(prefix))?;
    Some(Found::client(protocol, field(fields, "user-agent").unwrap_or_default()))
}

/// A response, with what the server calls itself.
pub(super) fn response(payload: &Payload<'_>) -> Option<Found> {
    let (line, fields) = first_line(payload.bytes)?;
    let (_, protocol) = VERSIONS.iter().find(|(prefix, _)| line.starts_with(prefix))?;
    let code = line.split(|byte| *byte == b' ').nth(1)?;
    let is_code = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
    is_code.then(|| Found::server(protocol, field(fields, "server").unwrap_or_default()))
}

/// What a client of HTTP/2 begins with (RFC 9113, section 3.4).
pub(super) fn http2(payload: &Payload<'_>) -> Option<Found> {
    payload.bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n").then(|| Found::client("http 2", b""))
}

/// The first line without its end, and what follows it.
fn first_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].trim_ascii_end(), &bytes[end + 1..]))
}

/// The value of a field, if all of it is in the packet.
pub(super) fn field<'a>(mut fields: &'a [u8], name: &str) -> Option<&'a [u8]> {
    while let Some((line, rest)) = first_line(fields).filter(|(line, _)| !line.is_empty()) {
        fields = rest;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if line[..colon].eq_ignore_ascii_case(name.as_bytes()) {
            return Some(line[colon + 1..].trim_ascii());
        }
    }
    None
}
