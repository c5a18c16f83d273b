//! Records as lines of Zeek's logs: values with tabs in between, under a header that names them.

use super::digest::Digest;
use super::note::{Note, Notes};
use super::record::{ConnId, ConnRecord, HttpRecord, Record, RequestHead, ScanRecord};
use crate::nf::Timestamp;
use crate::nf::log::{Fields, Line, header, seconds, transport};

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

/// Columns of http.log that stay unset: credentials, and what Zeek's proxy and file analyses find.
const HTTP_UNSET: usize = 9;

// Columns that Zeek does not have stand at the end.
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
    ("username", "string"),
    ("password", "string"),
    ("proxied", "set[string]"),
    ("orig_fuids", "vector[string]"),
    ("orig_filenames", "vector[string]"),
    ("orig_mime_types", "vector[string]"),
    ("resp_fuids", "vector[string]"),
    ("resp_filenames", "vector[string]"),
    ("resp_mime_types", "vector[string]"),
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

    /// The lines that it begins with, opened at that time.
    pub fn header(self, opened: Timestamp) -> String {
        header(self.path(), self.fields(), opened)
    }
}

/// A record as a line, with its line feed.
pub fn line(record: &Record) -> String {
    let mut line = Line::default();
    match record {
        Record::Conn(record) => put_conn(&mut line, record),
        Record::Http(record) => put_http(&mut line, record),
        Record::Scan(ScanRecord { ts, source, distinct, attempts }) => {
            line.time(*ts);
            line.value(source);
            line.value(distinct);
            line.value(attempts);
        }
    }
    line.finish()
}

fn put_conn(line: &mut Line, record: &ConnRecord) {
    line.time(record.ts);
    put_id(line, &record.id);
    line.value(transport(record.protocol));
    line.option(record.service);
    // Of what has no duration Zeek tells no bytes. Packets of one poll round have the same time here.
    let packets = record.packets.orig.saturating_add(record.packets.resp);
    let lasted = !record.duration.is_zero() || packets > 1;
    line.option(lasted.then(|| seconds(record.duration)));
    line.option(lasted.then_some(record.bytes.orig));
    line.option(lasted.then_some(record.bytes.resp));
    line.value(record.state);
    // Which networks are local is not known.
    line.option(None::<&str>);
    line.option(None::<&str>);
    line.value(record.missed_bytes);
    line.text(Some(&record.history).filter(|history| !history.is_empty()).map(Vec::as_slice));
    line.value(record.packets.orig);
    line.value(record.ip_bytes.orig);
    line.value(record.packets.resp);
    line.value(record.ip_bytes.resp);
    line.option(None::<&str>);
    line.value(record.protocol);
    put_notes(line, record.notes);
}

fn put_http(line: &mut Line, record: &HttpRecord) {
    let (request, response) = (record.request.as_ref(), record.response.as_ref());
    // Zeek gives the last response, be it informational.
    let last = response.or(record.info.as_ref());
    let field =
        |field: fn(&RequestHead) -> Option<&Vec<u8>>| request.and_then(field).map(Vec::as_slice);
    line.time(record.ts);
    put_id(line, &record.id);
    line.value(record.trans_depth);
    line.text(field(|request| Some(&request.method)));
    line.text(field(|request| request.host.as_ref()));
    line.text(field(|request| Some(&request.uri)));
    line.text(field(|request| request.referrer.as_ref()));
    line.option(last.map(|last| format!("1.{}", last.minor)));
    line.text(field(|request| request.user_agent.as_ref()));
    line.text(field(|request| request.origin.as_ref()));
    // Zeek tells the length of the content, and of this one only that of its encoding is known.
    let length = |encoded, length| (!record.tags.has(encoded)).then_some(length);
    line.option(length(Note::RequestEncoded, record.body_len.orig));
    line.option(length(Note::ResponseEncoded, record.body_len.resp));
    line.option(last.map(|last| last.code));
    line.text(last.map(|last| last.message.as_slice()));
    line.option(record.info.as_ref().map(|info| info.code));
    line.text(record.info.as_ref().map(|info| info.message.as_slice()));
    put_notes(line, record.tags);
    (0..HTTP_UNSET).for_each(|_| line.option(None::<&str>));
    line.option(record.body_md5.orig.map(hexadecimal));
    line.option(record.body_md5.resp.map(hexadecimal));
}

fn put_id(line: &mut Line, id: &ConnId) {
    line.value(id.uid);
    line.value(id.orig.0);
    line.value(id.orig.1);
    line.value(id.resp.0);
    line.value(id.resp.1);
}

fn put_notes(line: &mut Line, notes: Notes) {
    let names: Vec<_> = notes.iter().map(|note| note.name()).collect();
    if names.is_empty() { line.value("(empty)") } else { line.value(names.join(",")) }
}

fn hexadecimal(digest: Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
