//! What is remarkable about a connection or an HTTP message, by name.

use weir_state_transfer::wire::{Reader, WireError, Writer};

/// Declares the notes with their names in the logs.
macro_rules! notes {
    ($($(#[$doc:meta])* $note:ident = $name:literal,)*) => {
        /// Something remarkable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Note {
            $($(#[$doc])* $note,)*
        }

        impl Note {
            /// All of them, in the order of the logs.
            pub const ALL: &[Self] = &[$(Self::$note,)*];

            /// Its name in the logs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$note => $name,)*
                }
            }
        }
    };
}

notes! {
    /// A packet was a fragment: it is counted, and not looked into.
    Fragment = "fragment",
    /// A packet ended inside its transport header.
    Truncated = "truncated",
    /// An ICMP error was about a packet of the connection.
    IcmpError = "icmp_error",
    /// Bytes were sent again, and they were others: the first stay.
    OverlapConflict = "overlap_conflict",
    /// So much was out of order that bytes that are missing were given up.
    ReassemblyLimit = "reassembly_limit",
    /// A sequence number was so far ahead that it was not believed.
    OutOfWindow = "out_of_window",
    /// Bytes of an HTTP message are missing.
    Gap = "gap",
    /// The head of an HTTP message is longer than is looked at.
    HeadTooLong = "head_too_long",
    /// The head of an HTTP message, other than the first, is none.
    BadHead = "bad_head",
    /// The version of a message is more than a figure behind `HTTP/1.`, or less.
    OddVersion = "odd_version",
    /// A field of a head is not as it should be: folded, without a name, or with spaces in it.
    OddField = "odd_field",
    /// Lines of a head end without a carriage return, which others may read otherwise.
    BareLineFeed = "bare_line_feed",
    /// A value was longer than is kept.
    FieldCut = "field_cut",
    /// A message has a content length and is chunked (RFC 9112, section 6.3).
    LengthAndChunked = "length_and_chunked",
    /// A message has several content lengths.
    LengthsDiffer = "lengths_differ",
    /// A content length is no number, or is larger than any body.
    BadLength = "bad_length",
    /// A transfer encoding does not end a request (RFC 9112, section 6.3).
    BadEncoding = "bad_encoding",
    /// Chunks are not as they should be.
    BadChunk = "bad_chunk",
    /// More requests wait for responses than are remembered.
    PipeliningLimit = "pipelining_limit",
    /// A response came for which there is no request.
    NoRequest = "no_request",
    /// The connection ended before the message did.
    Incomplete = "incomplete",
    /// The connection went on with another protocol.
    Upgraded = "upgraded",
    /// There was no memory for what is kept of the streams: what was out of order is given up, and
    /// no more of it is looked into.
    MemoryLimit = "memory_limit",
    /// The content of a request is encoded, such as by `gzip` (RFC 9110, section 8.4).
    RequestEncoded = "request_encoded",
    /// The content of a response is encoded.
    ResponseEncoded = "response_encoded",
}

/// A set of notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(u32);

impl Notes {
    /// Adds one.
    pub fn add(&mut self, note: Note) {
        self.0 |= 1 << note as u32;
    }

    /// Adds those of another set.
    pub fn add_all(&mut self, notes: Self) {
        self.0 |= notes.0;
    }

    /// Takes one out.
    pub fn remove(&mut self, note: Note) {
        self.0 &= !(1 << note as u32);
    }

    /// Whether one is in the set.
    pub fn has(self, note: Note) -> bool {
        self.0 & (1 << note as u32) != 0
    }

    /// Those in the set, in the order of the logs.
    pub fn iter(self) -> impl Iterator<Item = Note> {
        Note::ALL.iter().copied().filter(move |note| self.has(*note))
    }

    pub(super) fn put(self, out: &mut Writer) {
        out.u32(self.0);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bits = reader.u32()?;
        if bits >> Note::ALL.len() == 0 {
            Ok(Self(bits))
        } else {
            Err(WireError::BadField { what: "set of notes" })
        }
    }
}

impl FromIterator<Note> for Notes {
    fn from_iter<I: IntoIterator<Item = Note>>(notes: I) -> Self {
        let mut set = Self::default();
        notes.into_iter().for_each(|note| set.add(note));
        set
    }
}
