//! Spans of time as text, as in `250ms`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

/// A span of time that is written with its unit: `ns`, `us`, `ms`, `s`, `m` or `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Span {
    /// A span of so many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// Its length in nanoseconds.
    pub fn nanos(self) -> u64 {
        self.0.as_nanos() as u64
    }

    /// A span that is longer than nothing, of a text.
    ///
    /// # Errors
    /// When the text is none.
    pub fn positive(text: &str) -> Result<Self, SpanError> {
        text.parse().ok().filter(|span: &Self| span.nanos() > 0).ok_or(SpanError)
    }

    /// Its length.
    pub fn duration(self) -> Duration {
        self.0
    }
}

/// A text is not a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is a number and a unit (ns, us, ms, s, m, h), as in \"250ms\"")]
pub struct SpanError;

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(SpanError)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| SpanError)?;
        let unit = unit.trim_start();
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(SpanError)?;
        let nanos = number.checked_mul(*nanos).ok_or(SpanError)?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos();
        let whole = UNITS.iter().rev().find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(*unit));
        let (name, unit) = whole.unwrap_or(&("s", 1_000_000_000));
        write!(f, "{}{name}", nanos / unit)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_with_their_unit() {
        for (text, nanos) in
            [("250ms", 250_000_000), ("2s", 2_000_000_000), ("0s", 0), ("1h", 3_600_000_000_000)]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.nanos(), span.to_string().as_str()), (nanos, text));
        }
        for text in ["", "5", "ms", "-1s", "1.5s", "1 day", "99999999999999h"] {
            assert_eq!(text.parse::<Span>(), Err(SpanError), "{text}");
        }
        assert_eq!((Span::positive("1ns").is_ok(), Span::positive("0s")), (true, Err(SpanError)));
    }
}
