//! What is found out about hosts: a record for each thing that is learned.

use std::net::IpAddr;

use super::{Fingerprint, Name};
use crate::nf::Timestamp;
use crate::nf::log::{Fields, Line, header, transport};

/// Something was learned of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub ts: Timestamp,
    /// The host.
    pub host: IpAddr,
    /// What was learned.
    pub asset: Asset,
    /// Routers that the packet has probably passed which told it.
    pub distance: u8,
}

/// What was learned of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asset {
    /// That it is there.
    Host,
    /// Which system it probably runs, that it seems to be another now, or that nothing is left that
    /// tells it.
    System {
        /// The system, if it is known.
        name: Option<String>,
        /// The fingerprint that it follows from, unless a service or a client has told it.
        fingerprint: Option<Box<Fingerprint>>,
    },
    /// A service that it offers.
    Service {
        /// TCP or UDP, by the IP protocol number.
        protocol: u8,
        /// The port.
        port: u16,
        /// What it was recognised as, if it was.
        name: Option<Name>,
    },
    /// A client that it runs.
    Client {
        /// TCP or UDP, by the IP protocol number.
        protocol: u8,
        /// The port that it asked.
        port: u16,
        /// What it was recognised as.
        name: Name,
    },
}

/// The name of the log, without `.log`.
pub const PATH: &str = "assets";

const FIELDS: Fields = &[
    ("ts", "time"),
    ("host", "addr"),
    ("asset", "enum"),
    ("port", "port"),
    ("proto", "enum"),
    ("name", "string"),
    ("fingerprint", "string"),
    ("distance", "count"),
];

/// What stands for something that was not recognised.
const UNKNOWN: &str = "unknown";

/// The lines that the log begins with, opened at that time.
pub fn log_header(opened: Timestamp) -> String {
    header(PATH, FIELDS, opened)
}

impl Record {
    /// The record as a line, with its line feed.
    pub fn line(&self) -> String {
        let mut line = Line::default();
        line.time(self.ts);
        line.value(self.host);
        let (asset, at, name, fingerprint) = match &self.asset {
            Asset::Host => ("host", None, None, None),
            Asset::System { name, fingerprint } => {
                let name = name.as_deref().unwrap_or(UNKNOWN);
                ("os", None, Some(name), fingerprint.as_deref())
            }
            Asset::Service { protocol, port, name } => {
                let name = name.as_ref().map_or(UNKNOWN, Name::as_str);
                ("service", Some((*port, *protocol)), Some(name), None)
            }
            Asset::Client { protocol, port, name } => {
                ("client", Some((*port, *protocol)), Some(name.as_str()), None)
            }
        };
        line.value(asset);
        line.option(at.map(|(port, _)| port));
        line.option(at.map(|(_, protocol)| transport(protocol)));
        line.text(name.map(str::as_bytes));
        line.option(fingerprint);
        line.value(self.distance);
        line.finish()
    }
}
