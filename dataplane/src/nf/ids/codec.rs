//! State as bytes, in network order, and how bytes that are no state are refused.

use std::time::Duration;

use weir_state_transfer::chunk::Schema;

/// Why bytes are not the state that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The layout is one that is not known here.
    #[error("the state is of schema {found}, and only {known} is known")]
    UnknownSchema {
        /// What the bytes say they are.
        found: Schema,
        /// What they should be.
        known: Schema,
    },
    /// The bytes end too early.
    #[error("the state is cut off")]
    Truncated,
    /// There are more bytes than there is state.
    #[error("{excess} bytes follow the state")]
    TooLong {
        /// How many.
        excess: usize,
    },
    /// A part is larger than it may be.
    #[error("the state has {length} {what}, and {most} are the most")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// How much of it there is.
        length: usize,
        /// How much there may be.
        most: usize,
    },
    /// A field has a value that it can not have.
    #[error("the {what} is none that there is")]
    BadField {
        /// The field.
        what: &'static str,
    },
}

/// Offsets in a stream, and counts, at most: so large that no connection gets there, and small
/// enough to be added up.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// Appends values to bytes.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(schema: Schema) -> Self {
        let mut writer = Self::default();
        writer.u16(schema.kind);
        writer.u16(schema.revision);
        writer
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    /// Bytes behind their number. Every part of the state is bounded by far less than 32 bits.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.raw(bytes);
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes values off the front of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of what follows the schema.
    pub(super) fn new(bytes: &'a [u8], known: Schema) -> Result<Self, BodyError> {
        let mut reader = Self(bytes);
        let found = Schema { kind: reader.u16()?, revision: reader.u16()? };
        if found == known { Ok(reader) } else { Err(BodyError::UnknownSchema { found, known }) }
    }

    pub(super) fn finish(self) -> Result<(), BodyError> {
        match self.0.len() {
            0 => Ok(()),
            excess => Err(BodyError::TooLong { excess }),
        }
    }

    pub(super) fn raw(&mut self, count: usize) -> Result<&'a [u8], BodyError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(BodyError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(BodyError::Truncated)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BodyError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, BodyError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BodyError::BadField { what }),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, BodyError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BodyError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BodyError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A count or an offset.
    pub(super) fn count(&mut self, what: &'static str) -> Result<u64, BodyError> {
        let count = self.u64()?;
        if count <= COUNT_MAX { Ok(count) } else { Err(BodyError::BadField { what }) }
    }

    /// The number of things that follow, so many at most.
    pub(super) fn number(&mut self, what: &'static str, most: usize) -> Result<usize, BodyError> {
        let length = self.u32()? as usize;
        if length <= most { Ok(length) } else { Err(BodyError::TooLarge { what, length, most }) }
    }

    /// Bytes behind their number.
    pub(super) fn bytes(&mut self, what: &'static str, most: usize) -> Result<&'a [u8], BodyError> {
        let length = self.number(what, most)?;
        self.raw(length)
    }

    pub(super) fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, BodyError>,
    ) -> Result<Option<T>, BodyError> {
        if self.bool(what)? { read(self).map(Some) } else { Ok(None) }
    }
}

/// Nanoseconds of a time that is not for ever.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
