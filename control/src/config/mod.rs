//! The sidecar's part of the configuration file: the tables `[control]` and `[scaling]`.
//!
//! The file is shared with the data plane, which reads the other tables. It holds boot facts
//! only; what is told at run time lives in the store.

mod check;
mod legs;
mod nfs;
mod report;
mod span;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub(crate) use self::check::is_word;
pub use self::{
    legs::{LEGS_MAX, Leg, Translates},
    report::{ConfigError, Fault as ConfigFault},
    span::{Span, SpanError},
};
use crate::scaling::policy::Policy;

/// What the sidecar is told at start.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Sockets, store and TLS.
    pub control: Control,
    /// The policy of scaling.
    pub scaling: Policy,
}

/// The `[control]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Control {
    /// Unix socket on which the API is served.
    pub socket: PathBuf,
    /// Unix socket of the data plane.
    pub dataplane_socket: PathBuf,
    /// The SQLite file.
    pub store: PathBuf,
    /// TCP address on which the API is served too; needs [`Control::tls`].
    pub listen: Option<SocketAddr>,
    /// Certificates for the TCP address.
    pub tls: Option<Tls>,
    /// Network functions in processes of their own, [`NFS_MAX`] at most.
    pub nf: Vec<NfProcess>,
    /// Nodes that state is moved to and taken from, [`PEERS_MAX`] at most; needs [`Control::tls`].
    pub peer: Vec<Peer>,
}

/// Network functions in processes of their own at most.
pub const NFS_MAX: usize = 16;
/// Other nodes at most.
pub const PEERS_MAX: usize = 16;

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: "/run/weir/control.sock".into(),
            dataplane_socket: "/run/weir/dataplane.sock".into(),
            store: "/var/lib/weir/control.db".into(),
            listen: None,
            tls: None,
            nf: Vec::new(),
            peer: Vec::new(),
        }
    }
}

/// A `[[control.nf]]` table: a network function in a process of its own, which serves `weir.nf.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NfProcess {
    /// What requests call it, 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`; no other has that name.
    pub name: String,
    /// Its Unix socket, which no other has.
    pub socket: PathBuf,
    /// By which next hops its packets come to it; without, the data plane can not lead them.
    #[serde(default)]
    pub leg: Vec<Leg>,
    /// What of them it may change.
    #[serde(default)]
    pub translates: Translates,
}

/// A `[[control.peer]]` table: the sidecar of another node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// What requests call it: a word as that of [`NfProcess::name`], and neither `nf` nor
    /// `instance`.
    pub name: String,
    /// Where it listens, as `HOST:PORT`; its certificate has to be for that host.
    pub address: String,
    /// The node that its certificate has to name; [`Peer::name`] when it is left out.
    pub identity: Option<String>,
    /// Whether it may bring state; true when it is left out.
    #[serde(default = "yes")]
    pub brings: bool,
}

fn yes() -> bool {
    true
}

impl Peer {
    /// The node that its certificate has to name.
    pub fn identity(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.name)
    }

    /// The host of its address; none when the address is none.
    pub fn host(&self) -> Option<&str> {
        let (host, port) = self.address.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then_some(host)
    }
}

/// The `[control.tls]` table: PEM files as `weir pki` writes them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Tls {
    /// The authority that callers' certificates must come from.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, or with everything that is wrong with the sidecar's tables.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        check::read(path)
    }

    /// Checks the text of a file; `name` is what the errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with the sidecar's tables, each with its place.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        check::parse(text, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example has every key with its default.
    const EXAMPLE: &str = include_str!("../../../dataplane/example.toml");

    #[test]
    fn the_example_is_the_default() {
        assert_eq!(Config::parse(EXAMPLE, "example.toml").unwrap(), Config::default());
        let own = EXAMPLE.split("\n[scaling]").nth(1).unwrap().lines();
        let keys: Vec<_> =
            own.filter_map(|line| line.split_once(" = ")).map(|pair| pair.0).collect();
        assert_eq!(keys, check::SCALING_KEYS);
    }
}
