//! What is found out: a record for each connection, HTTP transaction and scan.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use md5::{Digest as _, Md5};
use weir_state_transfer::FlowKey;
use zerocopy::IntoBytes;

use super::digest::Digest;
use super::note::Notes;
use crate::nf::Timestamp;
use crate::nf::side::Both;

/// The name of a connection: the same whoever makes it, as it follows from the flow and its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u128);

impl Uid {
    /// The name of the connection that began at `start`; the key is that of its originator.
    pub fn of(key: &FlowKey, start: Timestamp) -> Self {
        let md5 = Md5::new().chain_update(key.as_bytes()).chain_update(start.0.to_be_bytes());
        Self(u128::from_be_bytes(md5.finalize().into()))
    }
}

/// Letters and figures of a name behind the `C`, as Zeek's names have them: 95 bits.
const UID_LETTERS: usize = 16;

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BASE: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        f.write_str("C")?;
        let mut rest = self.0;
        for _ in 0..UID_LETTERS {
            let letter = BASE[(rest % BASE.len() as u128) as usize];
            write!(f, "{}", char::from(letter))?;
            rest /= BASE.len() as u128;
        }
        Ok(())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A connection has ended.
    Conn(Box<ConnRecord>),
    /// A request was answered, or will not be any more.
    Http(Box<HttpRecord>),
    /// Somebody tries out addresses or ports.
    Scan(ScanRecord),
}

/// Which connection a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId {
    /// Its name.
    pub uid: Uid,
    /// Address and port of who began it; the type of the first message, for ICMP.
    pub orig: (IpAddr, u16),
    /// Address and port of who answers; the code of the first message, for ICMP.
    pub resp: (IpAddr, u16),
}

/// A line of conn.log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnRecord {
    /// When its first packet came.
    pub ts: Timestamp,
    /// Which connection it is.
    pub id: ConnId,
    /// Its IP protocol number; that of fragments too.
    pub protocol: u8,
    /// The application protocol, if it is one that is known.
    pub service: Option<&'static str>,
    /// From the first packet to the last that was part of it.
    pub duration: Duration,
    /// Bytes of payload, by the sequence numbers for TCP.
    pub bytes: Both<u64>,
    /// How it went, in Zeek's names.
    pub state: &'static str,
    /// Bytes of payload that were missed.
    pub missed_bytes: u64,
    /// What has happened, in letters.
    pub history: Vec<u8>,
    /// Packets.
    pub packets: Both<u64>,
    /// Bytes from the IP header on.
    pub ip_bytes: Both<u64>,
    /// What is remarkable about it.
    pub notes: Notes,
}

/// A line of http.log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRecord {
    /// When the head of the request was complete, or of the response if there is no request.
    pub ts: Timestamp,
    /// Over which connection it went.
    pub id: ConnId,
    /// Which of the transactions of the connection it is, from 1.
    pub trans_depth: u64,
    /// The request.
    pub request: Option<RequestHead>,
    /// The final response.
    pub response: Option<ResponseHead>,
    /// The last informational response.
    pub info: Option<ResponseHead>,
    /// Bytes of the bodies of request and response, without the framing of chunks, and encoded if
    /// the tags say so.
    pub body_len: Both<u64>,
    /// MD5 of the bodies, as they were sent, that came whole and are not empty.
    pub body_md5: Both<Option<Digest>>,
    /// What is remarkable about it.
    pub tags: Notes,
}

/// What is kept of the head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Vec<u8>,
    /// The request target, as it was sent.
    pub uri: Vec<u8>,
    /// The Host field.
    pub host: Option<Vec<u8>>,
    /// The Referer field.
    pub referrer: Option<Vec<u8>>,
    /// The User-Agent field.
    pub user_agent: Option<Vec<u8>>,
    /// The Origin field.
    pub origin: Option<Vec<u8>>,
}

/// What is kept of the head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The minor version of HTTP/1.
    pub minor: u8,
    /// The status code.
    pub code: u16,
    /// The reason phrase.
    pub message: Vec<u8>,
}

/// Somebody has tried out many addresses or ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanRecord {
    /// When the attempt began that was one too many.
    pub ts: Timestamp,
    /// Who it is.
    pub source: IpAddr,
    /// Different destinations and ports, about.
    pub distinct: u64,
    /// Attempts that failed.
    pub attempts: u64,
}
