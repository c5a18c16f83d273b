//! Values as bytes, in network order: what every chunk and every body in one is made of.
//!
//! A [`Reader`] takes values off the front of bytes that somebody else has made, and refuses what
//! is cut off, too large or none of the values that there are. A [`Writer`] makes such bytes.

use std::net::IpAddr;
use std::time::Duration;

use crate::flow_key::FlowKey;
use crate::id::ServiceId;
use crate::protocol;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They end too early.
    #[error("cut off")]
    Cut,
    /// There are more of them than there should be.
    #[error("followed by {excess} bytes more")]
    TooLong {
        /// How many more.
        excess: usize,
    },
    /// There is more of something than there may be.
    #[error("with {length} {what}, where {most} are the most")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much of it there is.
        length: usize,
        /// How much there may be.
        most: usize,
    },
    /// A field has a value that it can not have.
    #[error("with a {what} that there is none of")]
    BadField {
        /// The field.
        what: &'static str,
    },
}

/// Takes values off the front of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads all of some bytes.
    ///
    /// # Errors
    /// What is wrong with them: that there are more than `take` takes, or what `take` says.
    pub fn whole<T>(
        bytes: &'a [u8],
        take: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        let mut reader = Self(bytes);
        let value = take(&mut reader)?;
        match reader.0.len() {
            0 => Ok(value),
            excess => Err(WireError::TooLong { excess }),
        }
    }

    /// So many bytes as they are.
    ///
    /// # Errors
    /// When there are fewer; so have all that follow.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(WireError::Cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// So many bytes as they are.
    #[expect(clippy::missing_errors_doc, reason = "as those of `raw`")]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(WireError::Cut)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// A number of one byte.
    #[expect(clippy::missing_errors_doc, reason = "as those of `raw`")]
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// A number of two bytes.
    #[expect(clippy::missing_errors_doc, reason = "as those of `raw`")]
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number of four bytes.
    #[expect(clippy::missing_errors_doc, reason = "as those of `raw`")]
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of eight bytes.
    #[expect(clippy::missing_errors_doc, reason = "as those of `raw`")]
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length of time.
    #[expect(clippy::missing_errors_doc, reason = "as those of `raw`")]
    pub fn duration(&mut self) -> Result<Duration, WireError> {
        self.u64().map(Duration::from_nanos)
    }

    /// The facts that a byte holds, as [`Writer::facts`] puts them there.
    ///
    /// # Errors
    /// When the byte holds others too.
    pub fn facts<const N: usize>(&mut self, what: &'static str) -> Result<[bool; N], WireError> {
        let byte = self.u8()?;
        if u16::from(byte) >> N != 0 {
            return Err(WireError::BadField { what });
        }
        Ok(std::array::from_fn(|place| byte >> place & 1 == 1))
    }

    /// Whether something is so.
    ///
    /// # Errors
    /// When the byte says neither.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, WireError> {
        self.facts(what).map(|[is]| is)
    }

    /// How many of something follow: a number of four bytes.
    ///
    /// # Errors
    /// When there are more than there may be.
    pub fn number(&mut self, what: &'static str, most: usize) -> Result<usize, WireError> {
        let length = self.u32()? as usize;
        if length <= most { Ok(length) } else { Err(WireError::TooLarge { what, length, most }) }
    }

    /// Bytes behind their number.
    ///
    /// # Errors
    /// When there are more than there may be.
    pub fn bytes(&mut self, what: &'static str, most: usize) -> Result<&'a [u8], WireError> {
        let length = self.number(what, most)?;
        self.raw(length)
    }

    /// Text behind the number of its bytes.
    ///
    /// # Errors
    /// When it is longer than it may be, or not UTF-8.
    pub fn text(&mut self, what: &'static str, most: usize) -> Result<&'a str, WireError> {
        let bytes = self.bytes(what, most)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::BadField { what })
    }

    /// Several of something, behind their number.
    ///
    /// # Errors
    /// When there are more than there may be, and what `take` says.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        most: usize,
        mut take: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.number(what, most)?;
        (0..count).map(|_| take(self)).collect()
    }

    /// What may be absent.
    ///
    /// # Errors
    /// When it is neither there nor absent, and what `take` says.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        take: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.bool(what)? { take(self).map(Some) } else { Ok(None) }
    }

    /// An IP address.
    ///
    /// # Errors
    /// When it is of neither family.
    pub fn address(&mut self) -> Result<IpAddr, WireError> {
        match self.u8()? {
            4 => Ok(self.array::<4>()?.into()),
            6 => Ok(self.array::<16>()?.into()),
            _ => Err(WireError::BadField { what: "family" }),
        }
    }

    /// A flow key.
    ///
    /// # Errors
    /// When its addresses are of different families, or its protocol has no ports and it has: but
    /// for echoes, which may have their identifier in the place of both.
    pub fn flow_key(&mut self) -> Result<FlowKey, WireError> {
        let (number, service) = (self.u8()?, ServiceId(self.u16()?));
        let (src, dst) = (self.address()?, self.address()?);
        let ports = (self.u16()?, self.u16()?);
        let is_echo = protocol::is_icmp(number) && ports.0 == ports.1;
        if !protocol::has_ports(number) && !is_echo && ports != (0, 0) {
            return Err(WireError::BadField { what: "pair of ports" });
        }
        let key = FlowKey::new(src, dst, ports, number, service);
        key.ok_or(WireError::BadField { what: "pair of addresses" })
    }
}

/// Appends values to bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// The bytes that somebody puts there.
    pub fn bytes_of(put: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self::default();
        put(&mut writer);
        writer.0
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends a number of one byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends a number of two bytes.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    /// Appends a number of four bytes.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// Appends a number of eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    /// Appends a length of time, in nanoseconds; one of more than 584 years as so many.
    pub fn duration(&mut self, value: Duration) {
        self.u64(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Appends facts, at most eight, as the bits of a byte: the first is the lowest.
    pub fn facts<const N: usize>(&mut self, facts: [bool; N]) {
        const { assert!(N <= 8) };
        self.u8(facts.iter().rev().fold(0, |byte, fact| byte << 1 | u8::from(*fact)));
    }

    /// Appends whether something is so.
    pub fn bool(&mut self, value: bool) {
        self.facts([value]);
    }

    /// Appends how many of something follow.
    ///
    /// # Panics
    /// When there are 2^32 or more: whatever has a number is bounded by far less.
    pub fn number(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("what is counted is bounded"));
    }

    /// Appends bytes behind their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.raw(bytes);
    }

    /// Appends several of something, behind their number.
    pub fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut put: impl FnMut(&mut Self, T),
    ) {
        self.number(items.len());
        items.for_each(|item| put(self, item));
    }

    /// Appends what may be absent.
    pub fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    /// Appends an IP address.
    pub fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.u8(4);
                self.raw(&address.octets());
            }
            IpAddr::V6(address) => {
                self.u8(6);
                self.raw(&address.octets());
            }
        }
    }

    /// Appends a flow key.
    pub fn flow_key(&mut self, key: &FlowKey) {
        self.u8(key.protocol());
        self.u16(key.service().0);
        self.address(key.src());
        self.address(key.dst());
        self.u16(key.src_port());
        self.u16(key.dst_port());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fourth: u8) -> FlowKey {
        FlowKey::v4([10, 0, 0, fourth].into(), [10, 0, 0, 2].into(), (4_000, 80), 6, ServiceId(7))
    }

    fn sample() -> Vec<u8> {
        Writer::bytes_of(|out| {
            out.flow_key(&key(1));
            out.address(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]));
            out.facts([true, false, true]);
            out.option(Some(9), Writer::u16);
            out.option(None, Writer::u16);
            out.list(["a", "bc"].iter(), |out, text| out.bytes(text.as_bytes()));
            out.duration(Duration::from_millis(3));
        })
    }

    fn read(bytes: &[u8]) -> Result<(), WireError> {
        Reader::whole(bytes, |reader| {
            assert_eq!(reader.flow_key()?, key(1));
            assert_eq!(reader.address()?, IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]));
            assert_eq!(reader.facts("facts")?, [true, false, true]);
            assert_eq!(reader.option("port", Reader::u16)?, Some(9));
            assert_eq!(reader.option("port", Reader::u16)?, None);
            assert_eq!(reader.list("texts", 2, |reader| reader.text("text", 2))?, ["a", "bc"]);
            assert_eq!(reader.duration()?, Duration::from_millis(3));
            Ok(())
        })
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let bytes = sample();
        assert_eq!(read(&bytes), Ok(()));
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Err(WireError::Cut));
        }
        let longer = [&bytes[..], &[0, 0]].concat();
        assert_eq!(read(&longer), Err(WireError::TooLong { excess: 2 }));
    }

    #[test]
    fn values_that_can_not_be_are_refused() {
        let mut facts = Reader::new(&[0b1000]);
        let bad = |what| WireError::BadField { what };
        assert_eq!(facts.facts::<3>("facts"), Err(bad("facts")));
        assert_eq!(Reader::new(&[2]).bool("mark"), Err(bad("mark")));
        assert_eq!(Reader::new(&[5, 0, 0, 0, 0]).address(), Err(bad("family")));
        assert_eq!(Reader::new(&[0, 0, 0, 1, 0xff]).text("name", 9), Err(bad("name")));
        let many = Reader::new(&[0, 1, 0, 0]).list("things", 9, Reader::u8);
        assert_eq!(many, Err(WireError::TooLarge { what: "things", length: 65_536, most: 9 }));
        let without_ports = Writer::bytes_of(|out| {
            out.flow_key(&key(1));
        });
        let mut icmp = without_ports;
        icmp[0] = protocol::ICMP;
        assert_eq!(Reader::new(&icmp).flow_key(), Err(bad("pair of ports")));
        let mut echo = icmp.clone();
        echo.copy_within(13..15, 15);
        let key = Reader::new(&echo).flow_key().map(|key| (key.src_port(), key.dst_port()));
        assert_eq!(key, Ok((4_000, 4_000)), "an identifier");
        icmp[0] = protocol::TCP;
        icmp[3] = 6;
        assert!(Reader::new(&icmp).flow_key().is_err());
    }
}
