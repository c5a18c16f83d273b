//! Attributes: values behind a length and a type, some of which are attributes themselves.

use crate::error::Error;

/// Bytes of a length and a type.
const HEADER: usize = 4;
/// Marks the type of an attribute that holds others.
const NESTED: u16 = 0x8000;
/// What is a type without its marks.
const TYPE: u16 = 0x3fff;
/// Types that are looked at: all of connection tracking are below.
const TYPES: usize = 32;

/// The attributes of one level. Of two of one type the last counts; unknown ones are passed over.
#[derive(Debug)]
pub(crate) struct Attributes<'a>([Option<&'a [u8]>; TYPES]);

impl<'a> Attributes<'a> {
    pub(crate) fn parse(mut bytes: &'a [u8]) -> Result<Self, Error> {
        let mut found = [None; TYPES];
        while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
            let [low, high, kind, marks] = *header;
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let value = bytes.get(HEADER..length).ok_or(Error::Malformed("an attribute is cut"))?;
            let kind = usize::from(u16::from_ne_bytes([kind, marks]) & TYPE);
            if let Some(place) = found.get_mut(kind) {
                *place = Some(value);
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(Self(found))
    }

    pub(crate) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    /// The attributes within one.
    pub(crate) fn nested(&self, kind: u16) -> Result<Option<Self>, Error> {
        self.get(kind).map(Self::parse).transpose()
    }

    /// The attributes within one that has to be there.
    pub(crate) fn within(&self, kind: u16, what: &'static str) -> Result<Self, Error> {
        self.nested(kind)?.ok_or(Error::Malformed(what))
    }

    /// The bytes of an attribute of a known length.
    pub(crate) fn array<const N: usize>(&self, kind: u16) -> Result<Option<[u8; N]>, Error> {
        let exact = |bytes: &[u8]| bytes.try_into().map_err(|_| Error::Malformed("a length"));
        self.get(kind).map(exact).transpose()
    }

    pub(crate) fn u8(&self, kind: u16) -> Result<Option<u8>, Error> {
        Ok(self.array::<1>(kind)?.map(|[byte]| byte))
    }

    pub(crate) fn u16(&self, kind: u16) -> Result<Option<u16>, Error> {
        Ok(self.array(kind)?.map(u16::from_be_bytes))
    }

    pub(crate) fn u32(&self, kind: u16) -> Result<Option<u32>, Error> {
        Ok(self.array(kind)?.map(u32::from_be_bytes))
    }

    pub(crate) fn u64(&self, kind: u16) -> Result<Option<u64>, Error> {
        Ok(self.array(kind)?.map(u64::from_be_bytes))
    }
}

/// Appends attributes to a request. Numbers are in network order, as in all of netfilter.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(super) Vec<u8>);

impl Writer {
    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(HEADER + value.len()).expect("attributes here are small");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute that holds what `put` appends.
    pub(crate) fn nest(&mut self, kind: u16, put: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        put(&mut inner);
        self.bytes(kind | NESTED, &inner.0);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.u8(1, 7);
        writer.nest(2, |inner| {
            inner.u16(3, 0x1234);
            inner.u32(4, 9);
        });
        writer.bytes(5, b"abcde");
        assert_eq!(writer.0.len() % 4, 0);
        let all = Attributes::parse(&writer.0).unwrap();
        let inner = all.within(2, "it").unwrap();
        assert_eq!((all.u8(1), all.get(5)), (Ok(Some(7)), Some(&b"abcde"[..])));
        assert_eq!((inner.u16(3), inner.u32(4)), (Ok(Some(0x1234)), Ok(Some(9))));
        assert_eq!((all.get(6), all.get(60_000)), (None, None));
        assert_eq!(all.u16(1), Err(Error::Malformed("a length")));
    }

    #[test]
    fn lengths_that_can_not_be_are_refused() {
        for length in [0_u16, 3, 9] {
            let bytes = [&length.to_ne_bytes()[..], &[1, 0, 5, 5, 5, 5]].concat();
            assert!(Attributes::parse(&bytes).is_err(), "{length}");
        }
    }

    proptest! {
        #![proptest_config(crate::seeded())]

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(all) = Attributes::parse(&bytes) {
                for kind in 0..40 {
                    let _any = (all.nested(kind).is_ok(), all.u64(kind).is_ok());
                }
            }
        }
    }
}
