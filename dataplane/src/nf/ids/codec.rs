//! What the parts of a connection have in common as bytes: counts, and their bound.

use weir_state_transfer::wire::{Reader, WireError};

/// Offsets in a stream, and counts, at most: so large that no connection gets there, and small
/// enough to be added up.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// Takes a count or an offset off the front of bytes.
pub(super) fn take_count(reader: &mut Reader<'_>, what: &'static str) -> Result<u64, WireError> {
    let count = reader.u64()?;
    if count <= COUNT_MAX { Ok(count) } else { Err(WireError::BadField { what }) }
}
