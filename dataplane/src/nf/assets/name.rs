//! What something was recognised as: a short line of text.

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::lowest::Kept;

/// Bytes of a name at most.
pub const NAME_MAX: usize = 80;

/// What something was recognised as, such as `ssh OpenSSH_9.2p1`: printable ASCII, of
/// [`NAME_MAX`] bytes at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The name of a protocol and what is known beyond it. What strangers have sent is cut to the
    /// bound, and bytes that can not be printed are question marks.
    pub fn new(protocol: &str, more: &[u8]) -> Self {
        let more = more.trim_ascii();
        let space: &[u8] = if more.is_empty() { b"" } else { b" " };
        let bytes = protocol.bytes().chain(space.iter().copied()).chain(more.iter().copied());
        let printed = bytes.map(|byte| if is_printable(byte) { char::from(byte) } else { '?' });
        let text: String = printed.take(NAME_MAX).collect();
        Self(text.trim_ascii_end().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Kept for Name {
    fn put(&self, out: &mut Writer) {
        out.bytes(self.0.as_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let text = reader.text("name", NAME_MAX)?;
        if text.is_empty() || text.trim_ascii() != text || !text.bytes().all(is_printable) {
            return Err(WireError::BadField { what: "name" });
        }
        Ok(Self(text.into()))
    }
}

fn is_printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_printable_line_however_long_and_odd_it_was_sent() {
        assert_eq!(Name::new("http", b" nginx\t1\xff ").as_str(), "http nginx?1?");
        assert_eq!(Name::new("http", b" \r\n").as_str(), "http");
        let long = Name::new("http", &[b'x'; 4_000]);
        assert_eq!(long.as_str().len(), NAME_MAX);
        let cut_at_a_space = Name::new("http", &[&[b'x'; NAME_MAX - 6][..], b" y"].concat());
        for name in [long, cut_at_a_space, Name::new("a", b"b")] {
            let bytes = Writer::bytes_of(|out| name.put(out));
            assert_eq!(Reader::whole(&bytes, Name::take), Ok(name));
        }
    }

    #[test]
    fn bytes_that_are_no_name_are_refused() {
        for text in ["", " a", "a ", "a\tb", "\u{e9}", &"x".repeat(NAME_MAX + 1)] {
            let bytes = Writer::bytes_of(|out| out.bytes(text.as_bytes()));
            assert!(Reader::whole(&bytes, Name::take).is_err(), "{text:?}");
        }
    }
}
