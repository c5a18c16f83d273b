//! What something was recognised as: a short line of text.

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::banner::{self, Word};
use super::lowest::Kept;

/// Bytes of a name at most.
pub const NAME_MAX: usize = 80;

/// What something was recognised as, such as `ssh OpenSSH_9.2p1`: printable ASCII, of
/// [`NAME_MAX`] bytes at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    text: Box<str>,
    /// The word of the text that tells the system, found once: it follows from the text.
    word: Option<Word>,
}

impl Name {
    /// The name of a protocol and what is known beyond it. What strangers have sent is cut to the
    /// bound, and bytes that can not be printed are question marks.
    pub fn new(protocol: &str, more: &[u8]) -> Self {
        let more = more.trim_ascii();
        let space: &[u8] = if more.is_empty() { b"" } else { b" " };
        let bytes = protocol.bytes().chain(space.iter().copied()).chain(more.iter().copied());
        let printed = bytes.map(|byte| if is_printable(byte) { char::from(byte) } else { '?' });
        let text: String = printed.take(NAME_MAX).collect();
        Self::of(text.trim_ascii_end())
    }

    fn of(text: &str) -> Self {
        let word = if is_of_tls(text) { None } else { banner::find(text.as_bytes()) };
        Self { text: text.into(), word }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The system that who has this name has told of by it.
    pub(super) fn system(&self) -> Option<&'static str> {
        self.word.map(Word::system)
    }

    /// Whether it is one of TLS: behind its version stands what the client has asked for, which
    /// tells nothing of the server.
    pub(super) fn is_of_tls(&self) -> bool {
        is_of_tls(&self.text)
    }
}

impl Kept for Name {
    fn put(&self, out: &mut Writer) {
        out.bytes(self.text.as_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let text = reader.text("name", NAME_MAX)?;
        if text.is_empty() || text.trim_ascii() != text || !text.bytes().all(is_printable) {
            return Err(WireError::BadField { what: "name" });
        }
        Ok(Self::of(text))
    }
}

fn is_of_tls(text: &str) -> bool {
    text.split(' ').next().is_some_and(|protocol| protocol == "tls" || protocol == "ssl")
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
    fn a_name_tells_the_system_unless_it_is_one_of_tls_and_so_where_it_was_carried() {
        for (protocol, more, system) in [
            ("http", "Apache (Debian)", Some("Linux (Debian)")),
            ("http", "nginx", None),
            ("tls", "archive.ubuntu.com", None),
            ("tls 1.3", "archive.ubuntu.com", None),
            ("ssl 3.0", "archive.ubuntu.com", None),
            ("tlsd", "archive.ubuntu.com", Some("Linux (Ubuntu)")),
        ] {
            let name = Name::new(protocol, more.as_bytes());
            assert_eq!(name.system(), system, "{name:?}");
            let bytes = Writer::bytes_of(|out| name.put(out));
            assert_eq!(Reader::whole(&bytes, Name::take).unwrap().system(), system);
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
