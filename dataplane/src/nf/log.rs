//! Logs in Zeek's format: values with tabs in between, under a header that names them.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use weir_state_transfer::protocol;

use super::Timestamp;

/// Names and types of fields, as Zeek has them.
pub(super) type Fields = &'static [(&'static str, &'static str)];

/// The lines that a log begins with.
pub(super) fn header(path: &str, fields: Fields) -> String {
    let column = |part: fn(&(&'static str, &'static str)) -> &'static str| {
        fields.iter().map(part).collect::<Vec<_>>().join("\t")
    };
    format!(
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n\
         #path\t{path}\n#fields\t{}\n#types\t{}\n",
        column(|(name, _)| name),
        column(|(_, kind)| kind),
    )
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
