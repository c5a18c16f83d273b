//! Which stack has which fingerprint: the table, and how it is looked up.

use super::{Fingerprint, Kind, Layout, Quirks};

/// The table of this crate.
const TABLE: &str = include_str!("signatures.txt");

/// Signatures of stacks, in the order in which they are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures(Vec<Signature>);

/// What the fingerprints of a stack have in common. What is absent may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    kind: Kind,
    version: Option<u8>,
    ttl: u8,
    ip_options: Option<u8>,
    mss: Option<u16>,
    window: Window,
    scale: Option<u8>,
    layout: Layout,
    quirks: Quirks,
    payload: Option<bool>,
    system: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Any,
    Bytes(u16),
    /// Times the MSS.
    Segments(u16),
    /// Times the MSS with its headers.
    Packets(u16),
    /// Any multiple of so many bytes.
    Multiple(u16),
}

/// A line of a table that is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what} is not as it should be")]
pub struct SignatureError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Signatures {
    /// Those of this crate.
    ///
    /// # Panics
    /// Never: a test reads the same table.
    pub fn built_in() -> Self {
        Self::parse(TABLE).expect("the table is part of the program")
    }

    /// The signatures that a text has, one a line. A line is the kind of segment, the signature
    /// and the system, with blanks in between; what follows a `#` at its beginning is a comment.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let lines = text.lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let parse = |(line, number)| {
            Signature::parse(line).map_err(|what| SignatureError { line: number, what })
        };
        lines.map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The system whose signature a fingerprint has: that of the first that it has, and none if
    /// there is no such signature.
    pub fn system(&self, fingerprint: &Fingerprint) -> Option<&str> {
        let found = self.0.iter().find(|signature| signature.matches(fingerprint));
        found.map(|signature| signature.system.as_str())
    }
}

impl Signature {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.splitn(2, char::is_whitespace);
        let kind = match words.next() {
            Some("syn") => Kind::Syn,
            Some("syn+ack") => Kind::SynAck,
            _ => return Err("the kind of segment"),
        };
        let rest = words.next().unwrap_or_default().trim_start();
        let (signature, system) = rest.split_once(char::is_whitespace).ok_or("the system")?;
        let parts: Vec<_> = signature.split(':').collect();
        let [version, ttl, ip_options, mss, window, layout, quirks, payload] = parts[..] else {
            return Err("the number of parts");
        };
        let (window, scale) = window.split_once(',').ok_or("the window and its scale")?;
        Ok(Self {
            kind,
            version: any_or(version).ok_or("the version")?,
            ttl: ttl
                .parse()
                .ok()
                .filter(|ttl| super::initial_ttl(*ttl) == *ttl)
                .ok_or("the TTL")?,
            ip_options: any_or(ip_options).ok_or("the length of IP options")?,
            mss: any_or(mss).ok_or("the MSS")?,
            window: Window::parse(window).ok_or("the window")?,
            scale: any_or(scale).ok_or("the scale")?,
            layout: Layout::parse(layout).ok_or("the layout of options")?,
            quirks: Quirks::parse(quirks).ok_or("the set of quirks")?,
            payload: match payload {
                "*" => None,
                "0" => Some(false),
                "+" => Some(true),
                _ => return Err("the payload"),
            },
            system: system.trim().to_owned(),
        })
    }

    fn matches(&self, found: &Fingerprint) -> bool {
        // Of a signature for both versions, what only one has says nothing.
        let quirks = match self.version {
            Some(_) => self.quirks == found.quirks,
            None if found.version == 4 => self.quirks == found.quirks,
            None => [self.quirks, found.quirks]
                .map(|quirks| quirks.without(&Quirks::OF_ONE_VERSION))
                .windows(2)
                .all(|pair| pair[0] == pair[1]),
        };
        quirks
            && self.kind == found.kind
            && self.ttl == found.ttl
            && self.layout == found.layout
            && self.version.is_none_or(|version| version == found.version)
            && self.ip_options.is_none_or(|length| length == found.ip_options)
            && self.mss.is_none_or(|mss| mss == found.mss)
            && self.scale.is_none_or(|scale| scale == found.scale)
            && self.payload.is_none_or(|payload| payload == found.payload)
            && self.window.is_of(found)
    }
}

impl Window {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        if text == "*" {
            Some(Self::Any)
        } else if let Some(count) = text.strip_prefix("mss*") {
            number(count).map(Self::Segments)
        } else if let Some(count) = text.strip_prefix("mtu*") {
            number(count).map(Self::Packets)
        } else if let Some(bytes) = text.strip_prefix('%') {
            number(bytes).map(Self::Multiple)
        } else {
            text.parse().ok().map(Self::Bytes)
        }
    }

    fn is_of(self, found: &Fingerprint) -> bool {
        let is = |count: u16, size: u16| {
            size > 0 && u32::from(count) * u32::from(size) == u32::from(found.window)
        };
        match self {
            Self::Any => true,
            Self::Bytes(bytes) => bytes == found.window,
            Self::Segments(count) => found.segment_sizes().into_iter().any(|size| is(count, size)),
            Self::Packets(count) => is(count, found.packet_size()),
            Self::Multiple(bytes) => found.window > 0 && found.window.is_multiple_of(bytes),
        }
    }
}

/// A number, or none for anything; nothing when it is neither.
fn any_or<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text == "*" { Some(None) } else { text.parse().ok().map(Some) }
}
