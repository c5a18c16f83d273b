//! Lets callers in: the Unix socket, TCP with mutual TLS, and what each caller may do.
//!
//! The accept loops are our own, as those of the gRPC library neither bound handshakes in number
//! and time nor wait when the process is out of file descriptors.

mod authorise;
mod connection;
mod tcp;
mod unix;

use std::{path::PathBuf, time::Duration};

pub use self::{
    authorise::{Authorise, Role, role_of, writes},
    connection::{Caller, Connection},
    tcp::{TlsFiles, listen_tcp},
    unix::{listen_unix, prepare_socket},
};

/// Connections open at once, for each listener.
pub const CONNECTIONS_MAX: usize = 256;
/// TLS handshakes under way at once.
pub const HANDSHAKES_MAX: usize = 64;
/// How long a TLS handshake may take.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Connections accepted and not yet taken by the server.
pub const ACCEPTED_MAX: usize = 16;

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
