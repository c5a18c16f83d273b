//! The bytes that state of network functions travels as.

use weir_state_transfer::chunk::Schema;

/// Why bytes are not the state that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another kind of state, or a layout that is not known.
    #[error("the state is of schema {found}, and only {known} is known here")]
    UnknownSchema {
        /// The schema.
        found: Schema,
        /// The one that it should be.
        known: Schema,
    },
    /// The bytes end too early.
    #[error("the state is cut off after {length} bytes")]
    Truncated {
        /// How many there are.
        length: usize,
    },
    /// More bytes than the state has.
    #[error("{excess} bytes follow the state")]
    TooLong {
        /// How many.
        excess: usize,
    },
    /// A field has a value that it can not have.
    #[error("the {what} of the state is none that there is")]
    BadField {
        /// The field.
        what: &'static str,
    },
}

/// Reads the whole of some bytes, of a schema that has to be the known one.
pub(crate) fn decode<T>(
    found: Schema,
    known: Schema,
    bytes: &[u8],
    take: impl FnOnce(&mut Reader<'_>) -> Result<T, Fault>,
) -> Result<T, DecodeError> {
    if found != known {
        return Err(DecodeError::UnknownSchema { found, known });
    }
    let mut reader = Reader(bytes);
    let state = take(&mut reader).map_err(|fault| match fault {
        Fault::Cut => DecodeError::Truncated { length: bytes.len() },
        Fault::Bad(what) => DecodeError::BadField { what },
    })?;
    match reader.0.len() {
        0 => Ok(state),
        excess => Err(DecodeError::TooLong { excess }),
    }
}

/// Bytes that are read from their beginning on.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They end too early.
    Cut,
    /// A field has a value that it can not have.
    Bad(&'static str),
}

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Fault::Cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Fault::Cut)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_be_bytes)
    }

    /// The facts that a byte holds, as [`facts`] puts them there.
    pub(crate) fn facts<const N: usize>(&mut self) -> Result<[bool; N], Fault> {
        let byte = self.u8()?;
        if u16::from(byte) >> N != 0 {
            return Err(Fault::Bad("set of facts"));
        }
        Ok(std::array::from_fn(|place| byte >> place & 1 == 1))
    }
}

/// Facts, at most eight, as the bits of a byte: the first is the lowest.
pub(crate) fn facts<const N: usize>(facts: [bool; N]) -> u8 {
    facts.iter().rev().fold(0, |byte, fact| byte << 1 | u8::from(*fact))
}
