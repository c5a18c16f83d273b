//! The options of a TCP header: which there are, in their order, and what they say.

use std::fmt;

use arrayvec::ArrayVec;
use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::quirk::{Quirk, Quirks};

/// Bytes that a TCP header has for options.
const OPTIONS_MAX: usize = 40;

const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIME: u8 = 8;
/// The largest shift that a window scale may be (RFC 7323, section 2.3).
const SCALE_MAX: u8 = 14;

const NAMES: [(u8, &str); 6] = [
    (NOTHING, "nop"),
    (MSS, "mss"),
    (SCALE, "ws"),
    (SACK_PERMITTED, "sok"),
    (SACK, "sack"),
    (TIME, "ts"),
];

/// The kinds of options in their order, and how many bytes follow the end of options, if it is
/// marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layout {
    kinds: ArrayVec<u8, OPTIONS_MAX>,
    padding: Option<u8>,
}

/// What options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) layout: Layout,
    /// 0 when there is none.
    pub(super) mss: u16,
    /// 0 when there is none.
    pub(super) scale: u8,
    /// The time stamps of the sender and of the other end.
    pub(super) times: Option<(u32, u32)>,
    pub(super) quirks: Quirks,
}

impl Options {
    /// Reads options up to their end, or to the first that is malformed.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        let mut rest = bytes;
        while let [kind, behind @ ..] = rest {
            match *kind {
                END => {
                    options.layout.padding = u8::try_from(behind.len()).ok();
                    let not_zero = behind.iter().any(|byte| *byte != 0);
                    options.quirks.add_if(not_zero, Quirk::Padding);
                    break;
                }
                NOTHING => {
                    options.layout.push(NOTHING);
                    rest = behind;
                }
                kind => {
                    options.layout.push(kind);
                    // The length counts the two bytes before the value.
                    let length = behind.first().map_or(0, |length| usize::from(*length));
                    let value = rest.get(2..length).filter(|value| options.say(kind, value));
                    if value.is_none() {
                        options.quirks.add_if(true, Quirk::BadOptions);
                        break;
                    }
                    rest = &rest[length..];
                }
            }
        }
        options
    }

    /// Takes in the value of an option; whether it is as long as it should be.
    fn say(&mut self, kind: u8, value: &[u8]) -> bool {
        match (kind, value) {
            (MSS, [high, low]) => self.mss = u16::from_be_bytes([*high, *low]),
            (SCALE, [scale]) => {
                self.scale = *scale;
                self.quirks.add_if(*scale > SCALE_MAX, Quirk::LargeScale);
            }
            (TIME, value) => {
                let Some((own, other)) = value.split_first_chunk() else { return false };
                let Ok(other) = <[u8; 4]>::try_from(other) else { return false };
                self.times = Some((u32::from_be_bytes(*own), u32::from_be_bytes(other)));
            }
            (SACK_PERMITTED, []) => {}
            (SACK, blocks) => return (8..=32).contains(&blocks.len()) && blocks.len() % 8 == 0,
            (MSS | SCALE | SACK_PERMITTED, _) => return false,
            _ => {}
        }
        true
    }
}

impl Layout {
    /// Adds a kind. More options than a header has room for are not there.
    fn push(&mut self, kind: u8) {
        let _ = self.kinds.try_push(kind);
    }

    /// Whether there is a time stamp.
    pub(super) fn has_times(&self) -> bool {
        self.kinds.contains(&TIME)
    }

    /// The layout that a text names, with commas in between.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut layout = Self::default();
        for name in text.split(',').filter(|name| !name.is_empty()) {
            if layout.padding.is_some() {
                return None;
            }
            if let Some(bytes) = name.strip_prefix("eol+") {
                layout.padding = Some(bytes.parse().ok()?);
            } else if let Some(number) = name.strip_prefix('?') {
                layout.kinds.try_push(number.parse().ok()?).ok()?;
            } else {
                let (kind, _) = NAMES.iter().find(|(_, known)| *known == name)?;
                layout.kinds.try_push(*kind).ok()?;
            }
        }
        Some(layout)
    }

    pub(super) fn put(&self, out: &mut Writer) {
        out.bytes(&self.kinds);
        out.option(self.padding, Writer::u8);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let kinds = reader.bytes("options", OPTIONS_MAX)?;
        let padding = reader.option("padding", Reader::u8)?;
        if kinds.contains(&END) || padding.is_some_and(|bytes| usize::from(bytes) >= OPTIONS_MAX) {
            return Err(WireError::BadField { what: "layout of options" });
        }
        Ok(Self { kinds: kinds.iter().copied().collect(), padding })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |kind: &u8| match NAMES.iter().find(|(known, _)| known == kind) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("?{kind}"),
        };
        let end = self.padding.map(|bytes| format!("eol+{bytes}"));
        let names: Vec<_> = self.kinds.iter().map(name).chain(end).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (String, u16, u8, String) {
        let Options { layout, mss, scale, quirks, .. } = Options::read(bytes);
        (layout.to_string(), mss, scale, quirks.to_string())
    }

    fn said(layout: &str, mss: u16, scale: u8, quirks: &str) -> (String, u16, u8, String) {
        (layout.to_owned(), mss, scale, quirks.to_owned())
    }

    #[test]
    fn every_option_is_named_in_its_order_and_what_it_says_is_read() {
        let linux = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(read(&linux), said("mss,sok,ts,nop,ws", 1460, 7, ""));
        assert_eq!(Options::read(&linux).times, Some((9, 0)));
        assert_eq!(read(&[2, 4, 2, 24, 0, 0, 0, 0]), said("mss,eol+3", 536, 0, ""));
        assert_eq!(read(&[1, 0, 1]), said("nop,eol+1", 0, 0, "opt+"));
        assert_eq!(read(&[3, 3, 15, 30, 4, 0, 0]), said("ws,?30", 0, 15, "exws"));
        assert_eq!(read(&[5, 10, 0, 0, 0, 0, 0, 0, 0, 0]), said("sack", 0, 0, ""));
        assert_eq!(read(&[]), said("", 0, 0, ""));
    }

    #[test]
    fn options_that_lie_about_their_length_end_there_and_are_told() {
        for bytes in [
            &[2][..],
            &[2, 0],
            &[2, 1, 1, 1],
            &[2, 4, 5],
            &[2, 3, 5],
            &[2, 255, 5, 5],
            &[3, 4, 1, 1],
            &[4, 3, 1],
            &[8, 9, 0, 0, 0, 0, 0, 0, 0],
            &[5, 9, 0, 0, 0, 0, 0, 0, 0],
            &[99, 0, 0, 0],
        ] {
            let Options { layout, quirks, .. } = Options::read(bytes);
            assert!(quirks.has(Quirk::BadOptions), "{bytes:?}");
            assert_eq!(layout.kinds.len(), 1, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_shown_of_a_layout_parses_back_and_what_is_none_does_not() {
        for text in ["", "nop", "mss,nop,ws,sok,ts,sack,?254,eol+12"] {
            assert_eq!(Layout::parse(text).unwrap().to_string(), text);
        }
        let long = ["nop"; 41].join(",");
        for text in ["mss,foo", "eol+1,nop", "eol+x", "?256", "mss ws", &long] {
            assert_eq!(Layout::parse(text), None, "{text}");
        }
    }
}
