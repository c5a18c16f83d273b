//! What is expected next in one direction of HTTP/1.

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::super::codec::COUNT_MAX;
use super::chunked::Chunked;
use super::head::{self, HEAD_MAX, METHOD_MAX};
use crate::nf::side::Side;

/// One direction of a connection that may be HTTP.
#[derive(Clone, Debug, Default)]
pub(super) struct Parser {
    pub(super) expect: Expect,
    /// The head as far as it has come: at most [`HEAD_MAX`] bytes.
    head: Vec<u8>,
    /// Whether the first line of the head has come.
    has_line: bool,
    /// Whether a head has come, so that it is HTTP.
    pub(super) begun: bool,
}

/// What the next byte is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expect {
    /// A head.
    #[default]
    Head,
    /// A body of which so many bytes are left, at least one.
    Length(u64),
    /// A body in chunks.
    Chunked(Chunked),
    /// A body that ends with the connection.
    Close,
    /// What follows a CONNECT request, which depends on the response.
    Verdict,
    /// Nothing that is looked at.
    Off,
}

/// What has come of a head.
pub(super) enum Head {
    /// So many bytes more of it, or of what is before it.
    More(usize),
    /// All of it, with so many bytes.
    Whole(usize, Vec<u8>),
    /// It is longer than is looked at.
    TooLong,
    /// It is none, and there was none before: this is not HTTP.
    NotHttp,
}

impl Parser {
    /// Takes bytes, at least one, where a head is expected.
    pub(super) fn head(&mut self, side: Side, bytes: &[u8]) -> Head {
        // Empty lines before a head are to be ignored (RFC 9112, section 2.2).
        if self.begun && self.head.is_empty() && matches!(bytes, [b'\r' | b'\n', ..]) {
            return Head::More(1);
        }
        let bytes = &bytes[..bytes.len().min(HEAD_MAX - self.head.len())];
        let end = self.end_in(bytes);
        let used = end.unwrap_or(bytes.len());
        let before = self.head.len();
        self.head.extend_from_slice(&bytes[..used]);
        // What tells is the method, and the first line once it is there: what was looked at is not
        // again, however small the pieces are that a head comes in.
        let line_comes = !self.has_line && bytes[..used].contains(&b'\n');
        self.has_line |= line_comes;
        let may_tell = before <= METHOD_MAX || line_comes;
        let may_be = match side {
            Side::Orig => head::may_be_request,
            Side::Resp => head::may_be_response,
        };
        if !self.begun && may_tell && !may_be(&self.head) {
            return Head::NotHttp;
        }
        match end {
            Some(_) => {
                self.has_line = false;
                Head::Whole(used, std::mem::take(&mut self.head))
            }
            None if self.head.len() >= HEAD_MAX => Head::TooLong,
            None => Head::More(used),
        }
    }

    /// Bytes that are kept of a head.
    pub(super) fn kept(&self) -> usize {
        self.head.len()
    }

    /// Looks at nothing that follows.
    pub(super) fn turn_off(&mut self) {
        self.expect = Expect::Off;
        self.head = Vec::new();
    }

    /// Whether a message has begun that is not complete.
    pub(super) fn is_inside(&self) -> bool {
        match self.expect {
            Expect::Head => self.begun && !self.head.is_empty(),
            Expect::Length(_) | Expect::Chunked(_) | Expect::Close => true,
            Expect::Verdict | Expect::Off => false,
        }
    }

    /// Where in the bytes the head ends: behind an empty line.
    fn end_in(&self, bytes: &[u8]) -> Option<usize> {
        let before = |at: usize, back: usize| match at.checked_sub(back) {
            Some(at) => bytes.get(at).copied(),
            None => {
                self.head.len().checked_sub(back - at).and_then(|at| self.head.get(at)).copied()
            }
        };
        let ends = |at: &usize| match before(*at, 1) {
            Some(b'\r') => before(*at, 2) == Some(b'\n'),
            other => other == Some(b'\n'),
        };
        let feeds = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        feeds.into_iter().find(ends).map(|at| at + 1)
    }

    pub(super) fn put(&self, out: &mut Writer) {
        match self.expect {
            Expect::Head => out.u8(0),
            Expect::Length(left) => {
                out.u8(1);
                out.u64(left);
            }
            Expect::Chunked(chunked) => {
                out.u8(2);
                chunked.put(out);
            }
            Expect::Close => out.u8(3),
            Expect::Verdict => out.u8(4),
            Expect::Off => out.u8(5),
        }
        out.bytes(&self.head);
        out.bool(self.begun);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bad = WireError::BadField { what: "HTTP parser" };
        let expect = match reader.u8()? {
            0 => Expect::Head,
            1 => match reader.u64()? {
                left @ 1..=COUNT_MAX => Expect::Length(left),
                _ => return Err(bad),
            },
            2 => Expect::Chunked(Chunked::take(reader)?),
            3 => Expect::Close,
            4 => Expect::Verdict,
            5 => Expect::Off,
            _ => return Err(bad),
        };
        // A head of that length would have been given up.
        let head = reader.bytes("bytes of a head", HEAD_MAX - 1)?.to_vec();
        let has_line = head.contains(&b'\n');
        Ok(Self { expect, head, has_line, begun: reader.bool("HTTP parser")? })
    }
}
