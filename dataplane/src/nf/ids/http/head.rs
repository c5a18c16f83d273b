//! Heads of HTTP/1 messages: what is kept of them, and how long the body is that follows.

use std::borrow::Cow;

use super::super::note::{Note, Notes};
use super::super::record::{RequestHead, ResponseHead};

/// Bytes of a head at most.
pub(super) const HEAD_MAX: usize = 32 << 10;
/// Bytes that are kept of a request target.
pub(super) const URI_MAX: usize = 4096;
/// Bytes that are kept of any other value.
pub(super) const FIELD_MAX: usize = 512;
/// Bytes of a method at most.
pub(super) const METHOD_MAX: usize = 32;
/// Bytes of a body at most.
const BODY_LENGTH_MAX: u64 = 1 << 48;

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// Behind the last chunk.
    Chunked,
    /// With the connection.
    Close,
    /// Not at all: what follows is not known.
    Unknown,
}

/// A request, how its body is framed, and what is remarkable.
///
/// What is wrong with a head is noted, and does not keep it from being read: others read it too.
pub(super) fn request(bytes: &[u8]) -> Option<(RequestHead, Framing, Notes)> {
    let (line, fields, mut notes) = split(bytes);
    let (method, rest) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
    let end = rest.windows(VERSION.len()).rposition(|word| word == VERSION)?;
    minor(&rest[end + VERSION.len()..], &mut notes)?;
    if !(1..=METHOD_MAX).contains(&method.len()) || !method.iter().all(|byte| is_token(*byte)) {
        return None;
    }
    let uri = rest[..end].trim_ascii();
    let mut head = RequestHead {
        method: method.to_vec(),
        uri: keep(uri, URI_MAX, &mut notes),
        ..RequestHead::default()
    };
    let mut length = Length::default();
    for (name, value) in &fields {
        let place = match name {
            name if name.eq_ignore_ascii_case(b"host") => &mut head.host,
            name if name.eq_ignore_ascii_case(b"referer") => &mut head.referrer,
            name if name.eq_ignore_ascii_case(b"user-agent") => &mut head.user_agent,
            name if name.eq_ignore_ascii_case(b"origin") => &mut head.origin,
            name => {
                length.field(name, value);
                if is_encoded(name, value) {
                    notes.add(Note::RequestEncoded);
                }
                continue;
            }
        };
        // Of a field that comes twice the first counts.
        if place.is_none() {
            *place = Some(keep(value, FIELD_MAX, &mut notes));
        }
    }
    let framing = match length.framing(&mut notes) {
        // Nobody knows where such a request ends.
        Framing::Close => {
            notes.add(Note::BadEncoding);
            Framing::Unknown
        }
        framing => framing,
    };
    Some((head, framing, notes))
}

/// A response, how its body is framed unless status or request say that there is none, and what
/// is remarkable.
pub(super) fn response(bytes: &[u8]) -> Option<(ResponseHead, Framing, Notes)> {
    let (line, fields, mut notes) = split(bytes);
    let version = line.split(|byte| *byte == b' ').next()?;
    let minor = minor(version.strip_prefix(&VERSION[1..])?, &mut notes)?;
    let status = line[version.len()..].trim_ascii();
    let digits = status.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (code, message) = status.split_at(digits);
    let code = std::str::from_utf8(code).ok().filter(|code| code.len() <= 3)?.parse().ok()?;
    let message = keep(message.trim_ascii(), FIELD_MAX, &mut notes);
    let mut length = Length::default();
    for (name, value) in &fields {
        length.field(name, value);
        if is_encoded(name, value) {
            notes.add(Note::ResponseEncoded);
        }
    }
    let framing = match length.framing(&mut notes) {
        Framing::None => Framing::Close,
        framing => framing,
    };
    Some((ResponseHead { minor, code, message }, framing, notes))
}

/// Whether a field says that the content is not sent as it is (RFC 9110, section 8.4).
fn is_encoded(name: &[u8], value: &[u8]) -> bool {
    let is_as_it_is = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    name.eq_ignore_ascii_case(b"content-encoding")
        && !value.split(|byte| *byte == b',').all(is_as_it_is)
}

/// What is before the minor version of a request.
const VERSION: &[u8] = b" HTTP/1.";

/// The minor version; 0 where it was left out.
fn minor(bytes: &[u8], notes: &mut Notes) -> Option<u8> {
    let bytes = bytes.trim_ascii_end();
    if bytes.len() != 1 {
        notes.add(Note::OddVersion);
    }
    match bytes {
        [] => Some(0),
        [digit @ b'0'..=b'9', ..] => Some(digit - b'0'),
        _ => None,
    }
}

/// Names and values.
type Fields<'a> = Vec<(&'a [u8], Cow<'a, [u8]>)>;

/// The first line of a head and its fields, names with their values, and what is odd about them.
/// The length of a head bounds how many there are.
fn split(bytes: &[u8]) -> (&[u8], Fields<'_>, Notes) {
    let mut notes = Notes::default();
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| {
        line.strip_suffix(b"\r").unwrap_or_else(|| {
            // Behind the last line feed there is nothing.
            if !line.is_empty() || bytes.ends_with(b"\n\n") {
                notes.add(Note::BareLineFeed);
            }
            line
        })
    });
    let first = lines.next().unwrap_or_default();
    let mut fields = Fields::new();
    let mut odd = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        let colon = line.iter().position(|byte| *byte == b':');
        match (colon, fields.last_mut()) {
            (_, Some((_, value))) if folded => {
                odd = true;
                value.to_mut().extend([b" ", line.trim_ascii()].concat());
            }
            (Some(colon), _) => {
                let (name, value) = (&line[..colon], &line[colon + 1..]);
                odd |= name.is_empty() || !name.iter().all(|byte| is_token(*byte));
                fields.push((name.trim_ascii(), Cow::Borrowed(value.trim_ascii())));
            }
            (None, _) => odd = true,
        }
    }
    if odd {
        notes.add(Note::OddField);
    }
    (first, fields, notes)
}

/// What the fields say about the length of the body.
#[derive(Clone, Copy, Debug, Default)]
struct Length {
    lengths: Option<Result<u64, Note>>,
    /// Whether the last transfer encoding is `chunked`.
    encoded: Option<bool>,
}

impl Length {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-length") {
            for length in value.split(|byte| *byte == b',').map(number) {
                self.lengths = match (self.lengths, length) {
                    (None, length) => Some(length),
                    (Some(Ok(one)), Ok(two)) if one == two => Some(Ok(one)),
                    (Some(Ok(_)), Ok(_)) => Some(Err(Note::LengthsDiffer)),
                    (Some(Err(note)), _) | (Some(Ok(_)), Err(note)) => Some(Err(note)),
                };
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            self.encoded = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        }
    }

    /// How the body is framed; [`Framing::None`] if no field says it.
    fn framing(self, notes: &mut Notes) -> Framing {
        if self.encoded.is_some() && self.lengths.is_some() {
            notes.add(Note::LengthAndChunked);
        }
        match (self.encoded, self.lengths) {
            (Some(true), _) => Framing::Chunked,
            (Some(false), _) => Framing::Close,
            (None, None) => Framing::None,
            (None, Some(Ok(length))) => Framing::Length(length),
            (None, Some(Err(note))) => {
                notes.add(note);
                Framing::Unknown
            }
        }
    }
}

/// Digits and nothing else: others may read a sign, or nothing, in other ways.
fn number(value: &[u8]) -> Result<u64, Note> {
    let value = value.trim_ascii();
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.filter(|number| digits && *number <= BODY_LENGTH_MAX).ok_or(Note::BadLength)
}

fn keep(value: &[u8], most: usize, notes: &mut Notes) -> Vec<u8> {
    if value.len() > most {
        notes.add(Note::FieldCut);
    }
    value[..value.len().min(most)].to_vec()
}

/// Whether bytes may be the beginning of a request, the first of a connection.
pub(super) fn may_be_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take(METHOD_MAX + 1).take_while(|byte| is_token(**byte)).count();
    let begins = match bytes.get(method) {
        None => method <= METHOD_MAX,
        Some(behind) => (1..=METHOD_MAX).contains(&method) && *behind == b' ',
    };
    let line = bytes.iter().position(|byte| *byte == b'\n').map(|end| &bytes[..end]);
    begins && line.is_none_or(|line| line.windows(VERSION.len()).any(|word| word == VERSION))
}

/// Whether bytes may be the beginning of a response.
pub(super) fn may_be_response(bytes: &[u8]) -> bool {
    VERSION[1..].iter().zip(bytes).all(|(expected, byte)| expected == byte)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
