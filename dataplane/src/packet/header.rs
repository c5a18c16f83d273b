//! Typed views of headers in the bytes of a packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The header that begins at `offset`, or `None` when the packet ends before its end.
#[inline]
pub fn header_at<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    bytes: &[u8],
    offset: usize,
) -> Option<&T> {
    T::ref_from_prefix(bytes.get(offset..)?).ok().map(|(header, _)| header)
}

/// The header that begins at `offset`, to be changed.
#[inline]
pub fn header_at_mut<T: FromBytes + IntoBytes + KnownLayout + Unaligned>(
    bytes: &mut [u8],
    offset: usize,
) -> Option<&mut T> {
    T::mut_from_prefix(bytes.get_mut(offset..)?).ok().map(|(header, _)| header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_seen_only_when_all_of_it_is_there() {
        let bytes = [0u8; 20];
        assert!(header_at::<[u8; 14]>(&bytes, 6).is_some());
        assert!(header_at::<[u8; 14]>(&bytes, 7).is_none());
        assert!(header_at::<[u8; 14]>(&bytes, 21).is_none());
    }
}
