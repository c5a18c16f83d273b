//! Where the chunks of a body begin and end (RFC 9112, section 7.1).

use weir_state_transfer::wire::{Reader, WireError, Writer};

/// Bytes of the line before a chunk at most, extensions included.
const LINE_MAX: u16 = 1024;
/// Bytes behind the last chunk at most.
const TRAILER_MAX: u16 = 8192;
/// Bytes of a chunk at most.
const CHUNK_MAX: u64 = 1 << 48;

/// Where in a chunked body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In the size; so many bytes of its line have come, and whether the digits are over.
    Size { size: u64, line: u16, extension: bool },
    /// In a chunk, of which so much is left.
    Data(u64),
    /// Behind a chunk, before its line feed; whether its carriage return has come.
    End { returned: bool },
    /// Behind the last chunk; so many bytes of fields have come, and so many of the last line,
    /// without its carriage return.
    Trailer { all: u16, line: u16 },
}

/// What the next bytes of a chunked body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many of them are framing.
    Framing(usize),
    /// So many of them are of the body.
    Body(usize),
    /// So many of them are framing, and with them the body is complete.
    Complete(usize),
    /// They are not as they should be.
    Bad,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self::Size { size: 0, line: 0, extension: false }
    }

    /// What the bytes, at least one, begin with.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Step {
        if let Self::Data(left) = self {
            let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= length as u64;
            if *left == 0 {
                *self = Self::End { returned: false };
            }
            return Step::Body(length);
        }
        for (index, byte) in bytes.iter().enumerate() {
            match self.framing(*byte) {
                Some(true) => return Step::Complete(index + 1),
                Some(false) if matches!(self, Self::Data(_)) => return Step::Framing(index + 1),
                Some(false) => {}
                None => return Step::Bad,
            }
        }
        Step::Framing(bytes.len())
    }

    /// Passes over bytes that were missed; whether they were of one chunk.
    pub(super) fn gap(&mut self, length: u64) -> bool {
        match self {
            Self::Data(left) if length == *left => *self = Self::End { returned: false },
            Self::Data(left) if length < *left => *left -= length,
            _ => return false,
        }
        true
    }

    /// Takes a byte of framing. Whether the body is complete with it; `None` if it is wrong.
    fn framing(&mut self, byte: u8) -> Option<bool> {
        *self = match *self {
            Self::Size { size, line, extension } => size_line(size, line, extension, byte)?,
            Self::End { returned: false } if byte == b'\r' => Self::End { returned: true },
            Self::End { .. } if byte == b'\n' => Self::new(),
            Self::End { .. } | Self::Data(_) => return None,
            Self::Trailer { line: 0, .. } if byte == b'\n' => return Some(true),
            Self::Trailer { all, .. } if all >= TRAILER_MAX => return None,
            Self::Trailer { all, line } => {
                let line = match byte {
                    b'\n' => 0,
                    b'\r' => line,
                    _ => line + 1,
                };
                Self::Trailer { all: all + 1, line }
            }
        };
        Some(false)
    }

    pub(super) fn put(self, out: &mut Writer) {
        let (kind, one, two, three) = match self {
            Self::Size { size, line, extension } => (0, size, line, extension.into()),
            Self::Data(left) => (1, left, 0, 0),
            Self::End { returned } => (2, 0, 0, returned.into()),
            Self::Trailer { all, line } => (3, 0, all, line),
        };
        out.u8(kind);
        out.u64(one);
        out.u16(two);
        out.u16(three);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match (reader.u8()?, reader.u64()?, reader.u16()?, reader.u16()?) {
            (0, size @ 0..=CHUNK_MAX, line @ 0..=LINE_MAX, extension @ 0..=1) => {
                Ok(Self::Size { size, line, extension: extension == 1 })
            }
            (1, left @ 1..=CHUNK_MAX, 0, 0) => Ok(Self::Data(left)),
            (2, 0, 0, returned @ 0..=1) => Ok(Self::End { returned: returned == 1 }),
            (3, 0, all @ 0..=TRAILER_MAX, line) if line <= all => Ok(Self::Trailer { all, line }),
            _ => Err(WireError::BadField { what: "chunk" }),
        }
    }
}

/// Takes a byte of the line before a chunk.
fn size_line(size: u64, line: u16, extension: bool, byte: u8) -> Option<Chunked> {
    if byte == b'\n' {
        return match (size, line) {
            (_, 0) => None,
            (0, _) => Some(Chunked::Trailer { all: 0, line: 0 }),
            (size, _) => Some(Chunked::Data(size)),
        };
    }
    let digit = char::from(byte).to_digit(16).filter(|_| !extension);
    let size = match digit {
        Some(digit) => size.checked_mul(16)?.checked_add(digit.into())?,
        None if extension || (line > 0 && b" \t\r;".contains(&byte)) => size,
        None => return None,
    };
    let line = line + 1;
    let within = size <= CHUNK_MAX && line <= LINE_MAX;
    within.then_some(Chunked::Size { size, line, extension: digit.is_none() })
}
