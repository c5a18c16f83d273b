//! Records as lines of Zeek's logs: values with tabs in between, under a header that names them.

use std::fmt::Write as _;
use std::time::Duration;

use weir_state_transfer::protocol;

use super::digest::Digest;
use super::note::Notes;
use super::record::{ConnId, ConnRecord, HttpRecord, Record, ScanRecord, Timestamp};

/// A log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// Connections.
    Conn,
    /// HTTP transactions.
    Http,
    /// Scans.
    Scan,
}

/// Names and types of fields, as Zeek has them. Columns that Zeek does not have stand at the end.
type Fields = &'static [(&'static str, &'static str)];

const CONN: Fields = &[
    ("ts", "time"),
    ("uid", "string"),
    ("id.orig_h", "addr"),
    ("id.orig_p", "port"),
    ("id.resp_h", "addr"),
    ("id.resp_p", "port"),
    ("proto", "enum"),
    ("service", "string"),
    ("duration", "interval"),
    ("orig_bytes", "count"),
    ("resp_bytes", "count"),
    ("conn_state", "string"),
    ("local_orig", "bool"),
    ("local_resp", "bool"),
    ("missed_bytes", "count"),
    ("history", "string"),
    ("orig_pkts", "count"),
    ("orig_ip_bytes", "count"),
    ("resp_pkts", "count"),
    ("resp_ip_bytes", "count"),
    ("tunnel_parents", "set[string]"),
    ("ip_proto", "count"),
    ("notes", "set[enum]"),
];

const HTTP: Fields = &[
    ("ts", "time"),
    ("uid", "string"),
    ("id.orig_h", "addr"),
    ("id.orig_p", "port"),
    ("id.resp_h", "addr"),
    ("id.resp_p", "port"),
    ("trans_depth", "count"),
    ("method", "string"),
    ("host", "string"),
    ("uri", "string"),
    ("referrer", "string"),
    ("version", "string"),
    ("user_agent", "string"),
    ("origin", "string"),
    ("request_body_len", "count"),
    ("response_body_len", "count"),
    ("status_code", "count"),
    ("status_msg", "string"),
    ("info_code", "count"),
    ("info_msg", "string"),
    ("tags", "set[enum]"),
    ("request_md5", "string"),
    ("response_md5", "string"),
];

const SCAN: Fields =
    &[("ts", "time"), ("source", "addr"), ("distinct", "count"), ("attempts", "count")];

impl Log {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Conn, Self::Http, Self::Scan];

    /// The log that a record stands in.
    pub fn of(record: &Record) -> Self {
        match record {
            Record::Conn(_) => Self::Conn,
            Record::Http(_) => Self::Http,
            Record::Scan(_) => Self::Scan,
        }
    }

    /// Its name, without `.log`.
    pub fn path(self) -> &'static str {
        match self {
            Self::Conn => "conn",
            Self::Http => "http",
            Self::Scan => "scan",
        }
    }

    fn fields(self) -> Fields {
        match self {
            Self::Conn => CONN,
            Self::Http => HTTP,
            Self::Scan => SCAN,
        }
    }

    /// The lines that it begins with.
    pub fn header(self) -> String {
        let column = |part: fn(&(&'static str, &'static str)) -> &'static str| {
            self.fields().iter().map(part).collect::<Vec<_>>().join("\t")
        };
        format!(
            "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n\
             #path\t{}\n#fields\t{}\n#types\t{}\n",
            self.path(),
            column(|(name, _)| name),
            column(|(_, kind)| kind),
        )
    }
}

/// A record as a line, with its line feed.
pub fn line(record: &Record) -> String {
    let mut line = Line::default();
    match record {
        Record::Conn(record) => line.conn(record),
        Record::Http(record) => line.http(record),
        Record::Scan(ScanRecord { ts, source, distinct, attempts }) => {
            line.time(*ts);
            line.value(source);
            line.value(distinct);
            line.value(attempts);
        }
    }
    line.0.push('\n');
    line.0
}

/// Values of a line.
#[derive(Debug, Default)]
struct Line(String);

impl Line {
    fn conn(&mut self, record: &ConnRecord) {
        self.time(record.ts);
        self.id(&record.id);
        self.value(match record.protocol {
            protocol::TCP => "tcp",
            protocol::UDP => "udp",
            protocol::ICMP | protocol::ICMPV6 => "icmp",
            _ => "unknown_transport",
        });
        self.option(record.service);
        // Of what has no duration Zeek tells no bytes.
        let lasted = !record.duration.is_zero();
        self.option(lasted.then(|| seconds(record.duration)));
        self.option(lasted.then_some(record.bytes.orig));
        self.option(lasted.then_some(record.bytes.resp));
        self.value(record.state);
        // Which networks are local is not known.
        self.option(None::<&str>);
        self.option(None::<&str>);
        self.value(record.missed_bytes);
        self.text(Some(&record.history).filter(|history| !history.is_empty()).map(Vec::as_slice));
        self.value(record.packets.orig);
        self.value(record.ip_bytes.orig);
        self.value(record.packets.resp);
        self.value(record.ip_bytes.resp);
        self.option(None::<&str>);
        self.value(record.protocol);
        self.notes(record.notes);
    }

    fn http(&mut self, record: &HttpRecord) {
        let (request, response) = (record.request.as_ref(), record.response.as_ref());
        // Zeek gives the last response, be it informational.
        let last = response.or(record.info.as_ref());
        let field = |field: fn(&super::record::RequestHead) -> Option<&Vec<u8>>| {
            request.and_then(field).map(Vec::as_slice)
        };
        self.time(record.ts);
        self.id(&record.id);
        self.value(record.trans_depth);
        self.text(field(|request| Some(&request.method)));
        self.text(field(|request| request.host.as_ref()));
        self.text(field(|request| Some(&request.uri)));
        self.text(field(|request| request.referrer.as_ref()));
        self.option(last.map(|last| format!("1.{}", last.minor)));
        self.text(field(|request| request.user_agent.as_ref()));
        self.text(field(|request| request.origin.as_ref()));
        self.value(record.body_len.orig);
        self.value(record.body_len.resp);
        self.option(last.map(|last| last.code));
        self.text(last.map(|last| last.message.as_slice()));
        self.option(record.info.as_ref().map(|info| info.code));
        self.text(record.info.as_ref().map(|info| info.message.as_slice()));
        self.notes(record.tags);
        self.option(record.body_md5.orig.map(hexadecimal));
        self.option(record.body_md5.resp.map(hexadecimal));
    }

    fn id(&mut self, id: &ConnId) {
        self.value(id.uid);
        self.value(id.orig.0);
        self.value(id.orig.1);
        self.value(id.resp.0);
        self.value(id.resp.1);
    }

    /// A value that has no characters that mean something.
    fn value(&mut self, value: impl std::fmt::Display) {
        if !self.0.is_empty() {
            self.0.push('\t');
        }
        // Writing to a string does not fail.
        let _ = write!(self.0, "{value}");
    }

    fn option(&mut self, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.value(value),
            None => self.value("-"),
        }
    }

    fn time(&mut self, ts: Timestamp) {
        self.value(seconds(Duration::from_nanos(ts.0)));
    }

    /// Bytes of a stranger.
    fn text(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.value("-"),
            Some(b"") => self.value("(empty)"),
            // What would read as no value.
            Some(b"-") => self.value("\\x2d"),
            Some(b"(empty)") => self.value("\\x28empty)"),
            Some(bytes) => self.value(escaped(bytes)),
        }
    }

    fn notes(&mut self, notes: Notes) {
        let names: Vec<_> = notes.iter().map(|note| note.name()).collect();
        if names.is_empty() { self.value("(empty)") } else { self.value(names.join(",")) }
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

fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}

fn hexadecimal(digest: Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
