//! A Unix socket that an API is served on: one owner, and peers that are checked.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt as _, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::transport::server::Connected;

use crate::preface::{self, Preface};

/// Connections at one time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long to wait when a connection cannot be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Device and inode of a file: no other has them while anybody has it open.
pub type FileId = (u64, u64);

/// Where a path leads: the same for all that lead to one socket. None where there is nothing.
pub fn file_id(path: &Path) -> Option<FileId> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process serves it.
    #[error("{0} is served by another process: stop that one, or set another path")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is not a socket: remove it, or set another path")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot serve {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    preface_limit: Duration,
}

impl Socket {
    /// Takes the path: makes its folder, removes what a dead process left there, and lets only
    /// this user in. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When a live process serves it, when it is no socket, and when the system refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(io)?;
        // Whoever connects before this is checked by `admits` like anybody else.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io)?;
        Ok(Self { listener, path: path.to_owned(), preface_limit: preface::LIMIT })
    }

    /// Accepts the connections of peers that may talk to this process, a bounded number at a time,
    /// until nobody takes them any more.
    pub async fn accept(&self, to: mpsc::Sender<io::Result<Connection>>) {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let own = rustix::process::geteuid().as_raw();
        loop {
            let permit = Arc::clone(&free).acquire_owned().await;
            let permit = permit.expect("nobody closes the semaphore");
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                // No file descriptor is free, say: connections wait until there is one again.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(peer) if admits(peer.uid(), own) => {
                    let preface = Preface::within(self.preface_limit);
                    let connection = Connection { stream, preface, _permit: permit };
                    if to.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Ok(peer) => tracing::warn!(uid = peer.uid(), "refused a peer"),
                Err(error) => tracing::warn!(%error, "refused a peer without credentials"),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing to be done when it is gone already.
        let _removed = fs::remove_file(&self.path);
    }
}

/// A connection of a checked peer; counts as open until it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    preface: Preface,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.preface.check(context, read, buffer.filled().len() - before)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Root, and the user that the process runs as.
fn admits(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match BlockingStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io)
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener as BlockingListener;

    use tokio::time::timeout;
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::transport::{Endpoint, Server};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    /// Generous: the machine may be busy with other things.
    const LONG: Duration = Duration::from_secs(60);

    /// A path in a folder of its own that goes when the test ends.
    struct Place(PathBuf);

    impl Place {
        fn new(test: &str) -> Self {
            let name = format!("weir-{test}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("dataplane.sock")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _removed = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn only_this_user_may_open_it_and_its_file_goes_with_it() {
        let place = Place::new("mode");
        let path = place.0.join("a/b/dataplane.sock");
        let socket = Socket::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_process_is_taken_over() {
        let place = Place::new("stale");
        drop(BlockingListener::bind(place.socket()).unwrap());
        assert!(place.socket().exists());
        Socket::bind(&place.socket()).unwrap();
    }

    #[tokio::test]
    async fn a_live_socket_and_other_files_are_refused_and_left_alone() {
        let place = Place::new("live");
        let live = BlockingListener::bind(place.socket()).unwrap();
        let refused = Socket::bind(&place.socket()).unwrap_err();
        assert!(matches!(refused, SocketError::InUse(_)), "{refused}");
        assert!(place.socket().exists());
        drop(live);
        let file = place.0.join("file");
        fs::write(&file, "precious").unwrap();
        let refused = Socket::bind(&file).unwrap_err();
        assert!(matches!(refused, SocketError::NotASocket(_)), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn peers_are_root_and_the_own_user() {
        assert!(admits(0, 1000) && admits(1000, 1000) && admits(0, 0));
        assert!(!admits(1000, 0) && !admits(1001, 1000));
    }

    #[tokio::test]
    async fn a_peer_of_this_user_is_accepted() {
        let place = Place::new("peer");
        let socket = Socket::bind(&place.socket()).unwrap();
        let (to, mut connections) = mpsc::channel(1);
        let _peer = BlockingStream::connect(place.socket()).unwrap();
        tokio::select! {
            () = socket.accept(to) => panic!("still wanted"),
            connection = connections.recv() => assert!(connection.unwrap().is_ok()),
        }
    }

    #[tokio::test]
    async fn silent_peers_give_their_connections_back() {
        let place = Place::new("silent");
        let mut socket = Socket::bind(&place.socket()).unwrap();
        // Enough for the last one to begin, however busy the machine is.
        socket.preface_limit = Duration::from_secs(3);
        let (to, connections) = mpsc::channel(1);
        let server = Server::builder().add_service(tonic_health::server::health_reporter().1);
        let server = server.serve_with_incoming(ReceiverStream::new(connections));
        let client = async {
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS_MAX {
                silent.push(BlockingStream::connect(place.socket()).unwrap());
            }
            let endpoint = format!("unix://{}", place.socket().display());
            let channel = Endpoint::try_from(endpoint).unwrap().connect().await.unwrap();
            let mut health = HealthClient::new(channel);
            health.check(HealthCheckRequest::default()).await.unwrap();
        };
        tokio::select! {
            () = socket.accept(to) => panic!("still wanted"),
            served = server => panic!("still wanted: {served:?}"),
            answered = timeout(LONG, client) => answered.expect("a silent peer is closed"),
        }
    }
}
