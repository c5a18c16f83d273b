//! The MD5 digest of a body that comes piece by piece (RFC 1321).

use md5::digest::common::hazmat::SerializableState;
use md5::{Digest as _, Md5};
use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::codec::{COUNT_MAX, take_count};

/// A digest.
pub type Digest = [u8; 16];

/// A body as far as it has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    length: u64,
    state: State,
}

#[derive(Clone, Debug, Default)]
enum State {
    /// Nothing has come yet.
    #[default]
    Empty,
    Running(Box<Md5>),
    Done(Digest),
    /// A part was missed.
    Broken,
}

impl Body {
    /// Bytes that the digest takes while the body comes.
    pub(super) const RUNNING: usize = size_of::<Md5>();

    /// The bytes that the body has, those that were missed included.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The digest of a body that is complete and not empty.
    pub(super) fn digest(&self) -> Option<Digest> {
        if let State::Done(digest) = self.state { Some(digest) } else { None }
    }

    pub(super) fn data(&mut self, bytes: &[u8]) {
        self.grow(bytes.len() as u64);
        if matches!(self.state, State::Empty) && !bytes.is_empty() {
            self.state = State::Running(Box::new(Md5::new()));
        }
        if let State::Running(md5) = &mut self.state {
            md5.update(bytes);
        }
    }

    pub(super) fn gap(&mut self, length: u64) {
        self.grow(length);
        self.state = State::Broken;
    }

    /// The body is complete.
    pub(super) fn end(&mut self) {
        if let State::Running(md5) = &self.state {
            self.state = State::Done(md5.as_ref().clone().finalize().into());
        }
    }

    fn grow(&mut self, length: u64) {
        self.length = self.length.saturating_add(length).min(COUNT_MAX);
    }

    pub(super) fn put(&self, out: &mut Writer) {
        out.u64(self.length);
        match &self.state {
            State::Empty => out.u8(0),
            State::Running(md5) => {
                out.u8(1);
                out.bytes(&md5.serialize());
            }
            State::Done(digest) => {
                out.u8(2);
                out.raw(digest);
            }
            State::Broken => out.u8(3),
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bad = WireError::BadField { what: "digest of a body" };
        let length = take_count(reader, "length of a body")?;
        let state = match reader.u8()? {
            0 => State::Empty,
            1 => {
                let bytes = reader.bytes("bytes of digest", 256)?;
                let bytes = bytes.try_into().map_err(|_| bad)?;
                State::Running(Box::new(Md5::deserialize(bytes).map_err(|_| bad)?))
            }
            2 => State::Done(reader.array()?),
            3 => State::Broken,
            _ => return Err(bad),
        };
        Ok(Self { length, state })
    }
}
