//! Listeners that silent callers besiege, with a server that answers to health checks behind them.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    sync::{Barrier, mpsc},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Error, Server, Uri};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::pki::{self, Purpose};

/// How long a test waits for an event before it fails.
const LIMIT: Duration = Duration::from_secs(60);
/// What a test does not wait for.
const NEVER: Duration = Duration::from_secs(3_600);

/// A directory with certificates that goes when the test ends.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-listen-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn files(&self, name: &str) -> TlsFiles {
        let file = |name: &str| self.0.join(name);
        TlsFiles {
            ca: file("ca.crt"),
            cert: file(&format!("{name}.crt")),
            key: file(&format!("{name}.key")),
        }
    }

    /// Serves TCP on the loopback addresses, with certificates for both sides.
    async fn serve_tcp(&self, limits: Limits) -> SocketAddr {
        let now =
            SystemTime::UNIX_EPOCH + Duration::from_nanos(crate::clock::Clock::start().unix_ns());
        pki::init(&self.0, now).unwrap();
        pki::issue(&self.0, "edge", Purpose::Server, &["localhost".to_owned()], now).unwrap();
        pki::issue(&self.0, "alice", Purpose::Caller(Role::Viewer), &[], now).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = serve().await;
        tokio::spawn(listen_tcp(listener, &self.files("edge"), limits, accepted).unwrap());
        address
    }

    /// Connects as a client that comes from a loopback address.
    async fn client(&self, from: &str, to: SocketAddr) -> Result<Channel, Error> {
        let files = self.files("alice");
        let (chain, key) = files.identity().unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(files.roots().unwrap())
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connect(from, to).await.unwrap();
        channel(async move {
            connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that fails for another reason should say that one.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that answers to health checks; what it serves is to be sent to it.
async fn serve() -> mpsc::Sender<io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(ACCEPTED_MAX);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(ReceiverStream::new(connections)));
    accepted
}

async fn connect(from: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
    socket.connect(to).await
}

/// A channel over one connection, which it does not make again.
async fn channel<S, F>(stream: F) -> Result<Channel, Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move {
            let stream = stream.ok_or_else(|| io::Error::other("the connection was lost"))?;
            stream.await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

async fn is_answered(channel: &Channel) -> bool {
    let mut client = HealthClient::new(channel.clone());
    client.check(HealthCheckRequest::default()).await.is_ok()
}

async fn limited<T>(event: impl Future<Output = T>) -> T {
    timeout(LIMIT, event).await.expect("the event comes within the limit")
}

/// Waits until the other side closes.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn an_address_that_opens_silent_connections_without_end_locks_nobody_else_out() {
    let place = Place::new();
    let limits =
        Limits { handshakes: 8, handshakes_each: 2, handshake: NEVER, ..Limits::default() };
    let server = place.serve_tcp(limits).await;
    let connected = Arc::new(Barrier::new(2 * limits.handshakes + 1));
    for _ in 0..2 * limits.handshakes {
        let connected = Arc::clone(&connected);
        tokio::spawn(async move {
            let mut silent = connect("127.0.0.1", server).await.unwrap();
            connected.wait().await;
            loop {
                closed(&mut silent).await;
                // The system may be short of ports for so many.
                if let Ok(again) = connect("127.0.0.1", server).await {
                    silent = again;
                }
            }
        });
    }
    limited(connected.wait()).await;
    let client = limited(place.client("127.0.0.2", server)).await.unwrap();
    assert!(limited(is_answered(&client)).await);
}

#[tokio::test]
async fn a_few_addresses_that_have_all_handshakes_lock_nobody_else_out() {
    let place = Place::new();
    let limits =
        Limits { handshakes: 8, handshakes_each: 2, handshake: NEVER, ..Limits::default() };
    let server = place.serve_tcp(limits).await;
    let mut silent = Vec::new();
    for number in 0..limits.handshakes {
        let from = format!("127.0.0.{}", 1 + number / limits.handshakes_each);
        silent.push(connect(&from, server).await.unwrap());
    }
    let client = limited(place.client("127.0.0.9", server)).await.unwrap();
    assert!(limited(is_answered(&client)).await);
    // The oldest has given way.
    limited(closed(&mut silent[0])).await;
}

#[tokio::test]
async fn an_address_has_its_share_of_the_open_connections() {
    let place = Place::new();
    let limits = Limits { connections: 4, connections_each: 2, ..Limits::default() };
    let server = place.serve_tcp(limits).await;
    let mut share = Vec::new();
    for _ in 0..limits.connections_each {
        let client = limited(place.client("127.0.0.1", server)).await.unwrap();
        assert!(limited(is_answered(&client)).await);
        share.push(client);
    }
    assert!(limited(place.client("127.0.0.1", server)).await.is_err());
    let other = limited(place.client("127.0.0.2", server)).await.unwrap();
    assert!(limited(is_answered(&other)).await);

    share.pop();
    // Its slot is free when the server has noticed.
    let again = limited(async {
        loop {
            if let Ok(client) = place.client("127.0.0.1", server).await {
                return client;
            }
        }
    });
    assert!(limited(is_answered(&again.await)).await);
}

#[tokio::test]
async fn silent_processes_give_the_unix_socket_back_and_an_idle_client_keeps_its_connection() {
    let place = Place::new();
    let path = place.0.join("control.sock");
    // Enough for those to begin that do, however busy the machine is.
    let limits = Limits { connections: 4, preface: Duration::from_secs(3), ..Limits::default() };
    let listener = prepare_socket(&path).await.unwrap();
    tokio::spawn(listen_unix(listener, limits, serve().await));
    let open = || channel(UnixStream::connect(path.clone()));
    let idle = limited(open()).await.unwrap();
    // The first says nothing, each other a little more of what a client begins with.
    let mut silent = Vec::new();
    for said in [&b""[..], b"PRI * HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(said).await.unwrap();
        silent.push(stream);
    }
    let client = limited(open()).await.unwrap();
    assert!(limited(is_answered(&client)).await);
    for mut stream in silent {
        limited(closed(&mut stream)).await;
    }
    assert!(limited(is_answered(&idle)).await, "its time is over too, but it has begun");
}
