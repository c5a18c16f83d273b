//! Logs in Zeek's format: values with tabs in between, under a header that names them.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use time::OffsetDateTime;
use weir_state_transfer::protocol;

use super::Timestamp;

/// Names and types of fields, as Zeek has them.
pub(super) type Fields = &'static [(&'static str, &'static str)];

/// The lines that a log, or what is appended to one, begins with.
pub(super) fn header(path: &str, fields: Fields, opened: Timestamp) -> String {
    let column = |part: fn(&(&'static str, &'static str)) -> &'static str| {
        fields.iter().map(part).collect::<Vec<_>>().join("\t")
    };
    format!(
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n\
         #path\t{path}\n#open\t{}\n#fields\t{}\n#types\t{}\n",
        date(opened),
        column(|(name, _)| name),
        column(|(_, kind)| kind),
    )
}

/// The line that a log ends with that was closed in order.
pub(super) fn footer(closed: Timestamp) -> String {
    format!("#close\t{}\n", date(closed))
}

/// A date and a time of day as `#open` and `#close` have them, of UTC.
fn date(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1_000_000_000).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}-{hour:02}-{minute:02}-{second:02}")
}

/// Values of a line, in the order of the fields.
#[derive(Debug, Default)]
pub(super) struct Line(String);

impl Line {
    /// The line, with its line feed.
    pub(super) fn finish(mut self) -> String {
        self.0.push('\n');
        self.0
    }

    /// A value that has no characters that mean something.
    pub(super) fn value(&mut self, value: impl Display) {
        if !self.0.is_empty() {
            self.0.push('\t');
        }
        // Writing to a string does not fail.
        let _ = write!(self.0, "{value}");
    }

    pub(super) fn option(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(value),
            None => self.value("-"),
        }
    }

    pub(super) fn time(&mut self, ts: Timestamp) {
        self.value(seconds(Duration::from_nanos(ts.0)));
    }

    /// Bytes of a stranger.
    pub(super) fn text(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.value("-"),
            Some(b"") => self.value("(empty)"),
            // What would read as no value.
            Some(b"-") => self.value("\\x2d"),
            Some(b"(empty)") => self.value("\\x28empty)"),
            Some(bytes) => self.value(escaped(bytes)),
        }
    }
}

/// A length of time, as logs have it.
pub(super) fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}

/// What logs call an IP protocol.
pub(super) fn transport(number: u8) -> &'static str {
    match number {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMP | protocol::ICMPV6 => "icmp",
        _ => "unknown_transport",
    }
}

/// Printable characters as they are, all else as `\x09`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // As `date -u -d @SECONDS` has them.
        for (seconds, expected) in [
            (0, "1970-01-01-00-00-00"),
            (951_782_399, "2000-02-28-23-59-59"),
            (951_782_400, "2000-02-29-00-00-00"),
            (951_868_800, "2000-03-01-00-00-00"),
            (1_700_000_000, "2023-11-14-22-13-20"),
            (1_735_689_599, "2024-12-31-23-59-59"),
            (4_107_542_400, "2100-03-01-00-00-00"),
            (13_574_563_199, "2400-02-28-23-59-59"),
        ] {
            assert_eq!(date(Timestamp(seconds * 1_000_000_000)), expected);
        }
    }
}
