//! Lets callers in: the Unix socket, TCP with mutual TLS, and what each caller may do.
//!
//! The accept loops are our own, as those of the gRPC library neither bound handshakes in number
//! and time, nor share them out among the addresses that callers come from, nor wait when the
//! process is out of file descriptors.

mod authorise;
mod connection;
mod slots;
mod tcp;
#[cfg(test)]
mod tests;
mod unix;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use tokio::time::Instant;

pub use self::{
    authorise::{Authorise, Role, node_of, node_uri, role_of, writes},
    connection::{Caller, Connection},
    tcp::{TlsFiles, listen_tcp},
    unix::{listen_unix, prepare_socket},
};

/// Connections accepted and not yet taken by the server.
pub const ACCEPTED_MAX: usize = 16;

/// What one listener lets in. A source is an IPv4 address or an IPv6 /64; processes that come by
/// the Unix socket are not told apart.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once; further callers wait.
    pub connections: usize,
    /// Of these, from one source; further ones are closed at once.
    pub connections_each: usize,
    /// TLS handshakes under way at once; for a further caller the oldest of the source that has most
    /// is broken off.
    pub handshakes: usize,
    /// Of these, with one source; further connections from it are closed at once.
    pub handshakes_each: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a caller that was let in may take to begin to speak HTTP/2. Once it has, it may
    /// idle; whether it is still there is for the server to find out.
    pub preface: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_each: 64,
            handshakes: 64,
            handshakes_each: 16,
            handshake: Duration::from_secs(5),
            preface: weir_api::preface::LIMIT,
        }
    }
}

/// Why a listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket is in use.
    #[error("another process listens on {}", .0.display())]
    InUse(PathBuf),
    /// The operating system refused.
    #[error("cannot listen on {what}: {source}")]
    System {
        /// The socket or address.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Waits longer after each failed accept, so that a process without file descriptors does not
/// spin.
#[derive(Debug)]
struct BackOff(Duration);

impl BackOff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self(Self::FIRST)
    }

    fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

/// Tells of callers that are turned away, however many there are, once in a while.
#[derive(Debug, Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    const PAUSE: Duration = Duration::from_secs(10);

    fn note(&mut self, address: IpAddr) {
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= Self::PAUSE) {
            tracing::warn!(%address, refused = self.untold, "refuses more than a source's share");
            *self = Self { untold: 0, told: Some(Instant::now()) };
        }
    }
}
