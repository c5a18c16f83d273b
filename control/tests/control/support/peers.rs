//! Two nodes that move state to each other over mutual TLS, and a way between them that can be cut.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, Uri},
};
use weir_api::v1::{
    SettleTransferRequest, SettleTransferResponse, TransferCredit, TransferOutcome,
    TransferRequest, TransferResponse,
    transfer_response::Part,
    transfer_service_client::TransferServiceClient,
    transfer_service_server::{TransferService, TransferServiceServer},
};
use weir_control::listen::{Limits, TlsFiles, listen_tcp};

use super::{
    nf::{Monitor, Nf},
    node::{Directory, Node, Running, Thread, run_thread, weir},
};

/// A directory with an authority and the certificates of both nodes, of one that nobody knows, and
/// of an operator.
pub(crate) struct Authority(Directory);

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = Directory::new();
        let path = directory.0.join("pki");
        let path = path.to_str().unwrap();
        let pki = |arguments: &[&str]| {
            let made = weir(&[&["pki"], arguments].concat());
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        };
        pki(&["init", path]);
        for name in ["one", "two", "three"] {
            pki(&["issue", path, "--name", name, "--role", "node", "--san", "127.0.0.1"]);
        }
        pki(&["issue", path, "--name", "alice", "--role", "operator"]);
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join("pki").join(name)
    }

    fn files(&self, name: &str) -> TlsFiles {
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        TlsFiles { ca: self.path("ca.crt"), cert: self.path(&cert), key: self.path(&key) }
    }

    /// What a node is told to listen, with the certificate of that name.
    fn tls(&self, name: &str) -> String {
        let TlsFiles { ca, cert, key } = self.files(name);
        format!(
            "listen = '127.0.0.1:0'\n[control.tls]\nca = '{}'\ncert = '{}'\nkey = '{}'\n",
            ca.display(),
            cert.display(),
            key.display()
        )
    }

    /// A client of a node's transfers, with the certificate of that name.
    pub(crate) async fn client(
        &self,
        name: &str,
        address: SocketAddr,
    ) -> TransferServiceClient<Channel> {
        let connector = self.files(name).client().unwrap();
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let host = address.ip().into();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(host, stream).await?))
            }
        });
        let endpoint = Endpoint::from_static("http://sidecar");
        TransferServiceClient::new(endpoint.connect_with_connector(connect).await.unwrap())
    }
}

/// The nodes `one`, with the network function `a`, and `two`, with `b`.
pub(crate) struct Nodes {
    pub(crate) authority: Authority,
    pub(crate) one: Node,
    pub(crate) two: Node,
    pub(crate) a: Nf,
    pub(crate) b: Nf,
    /// The certificate that node `two` shows.
    pub(crate) shown_by_two: &'static str,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        let (one, two) = (Node::new(1), Node::new(1));
        let (a, b) = (one.directory.0.join("a.sock"), two.directory.0.join("b.sock"));
        Self {
            authority: Authority::new(),
            a: Nf::start(&a, Monitor::new(1)),
            b: Nf::start(&b, Monitor::new(2)),
            one,
            two,
            shown_by_two: "two",
        }
    }

    /// The function of node `two` dies and is started again.
    pub(crate) fn restart_b(&mut self) {
        self.b.die();
        self.b = Nf::start(&self.two.directory.0.join("b.sock"), Monitor::new(3));
    }

    /// Node `two`, which takes state from `one`.
    pub(crate) fn start_two(&self) -> Running {
        self.two.start_with(&self.config_of_two(), None)
    }

    /// What node `two` is told in `[control]`.
    pub(crate) fn config_of_two(&self) -> String {
        let socket = self.two.directory.0.join("b.sock");
        let rest = parts("b", &socket, "one", "127.0.0.1:1");
        self.authority.tls(self.shown_by_two) + &rest
    }

    /// Node `one`, which reaches `two` at this address.
    pub(crate) fn start_one(&self, two: SocketAddr) -> Running {
        let socket = self.one.directory.0.join("a.sock");
        let rest = parts("a", &socket, "two", &two.to_string());
        self.one.start_with(&(self.authority.tls("one") + &rest), None)
    }

    /// Both, which reach each other.
    pub(crate) fn start(&self) -> (Running, Running) {
        let two = self.start_two();
        (self.start_one(two.listening.unwrap()), two)
    }
}

/// A sidecar that says to be node `two`, grants everything and reads nothing; of a transfer whose
/// verdict it is told it says that it is undone.
pub(crate) struct Greedy {
    pub(crate) address: SocketAddr,
    over: watch::Sender<bool>,
    _thread: Thread,
}

impl Nodes {
    pub(crate) fn greedy(&self) -> Greedy {
        let (files, over) = (self.authority.files("two"), watch::Sender::new(false));
        let (tell, told) = std::sync::mpsc::channel();
        let ends = over.clone();
        let thread = run_thread(move |ready| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            ready.send(()).unwrap();
            let (accepted, connections) = mpsc::channel(8);
            let limits = Limits::default();
            tokio::spawn(listen_tcp(listener, &files, limits, accepted).unwrap());
            Server::builder()
                .initial_stream_window_size(1 << 16)
                .add_service(TransferServiceServer::new(Grants(ends)))
                .serve_with_incoming(ReceiverStream::new(connections))
                .await
                .unwrap();
        });
        Greedy { address: told.recv().unwrap(), over, _thread: thread }
    }
}

impl Greedy {
    /// Breaks its transfers off.
    pub(crate) fn break_off(&self) {
        self.over.send_replace(true);
    }
}

/// Says when transfers are over.
struct Grants(watch::Sender<bool>);

#[tonic::async_trait]
impl TransferService for Grants {
    type TransferStream = ReceiverStream<Result<TransferResponse, Status>>;

    async fn transfer(
        &self,
        request: Request<Streaming<TransferRequest>>,
    ) -> Result<Response<Self::TransferStream>, Status> {
        let (replies, answers) = mpsc::channel(1);
        let all = TransferCredit { chunks: u64::MAX, bytes: u64::MAX };
        replies.send(Ok(TransferResponse { part: Some(Part::Credit(all)) })).await.unwrap();
        let mut over = self.0.subscribe();
        tokio::spawn(async move {
            // Both ways live until then.
            let _stream = (request, replies);
            let _ended = over.wait_for(|over| *over).await;
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn settle_transfer(
        &self,
        _: Request<SettleTransferRequest>,
    ) -> Result<Response<SettleTransferResponse>, Status> {
        let outcome = TransferOutcome::Undone.into();
        Ok(Response::new(SettleTransferResponse { outcome }))
    }
}

fn parts(nf: &str, socket: &Path, peer: &str, address: &str) -> String {
    let socket = socket.display();
    format!(
        "[[control.nf]]\nname = '{nf}'\nsocket = '{socket}'\n\
         [[control.peer]]\nname = '{peer}'\naddress = '{address}'\n"
    )
}

/// A way to an address that breaks each connection off when it has carried so many bytes.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _thread: Thread,
}

struct State {
    /// Bytes that may yet go there, and come back, before all connections break.
    left: [AtomicU64; 2],
    /// Bytes that went there.
    went: AtomicU64,
    /// Whether nothing comes back.
    held: watch::Sender<bool>,
    /// Grows each time that they break.
    cuts: watch::Sender<u64>,
    to: Mutex<SocketAddr>,
}

impl Cutter {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let state = Arc::new(State {
            left: [u64::MAX; 2].map(AtomicU64::new),
            went: AtomicU64::new(0),
            held: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            to: Mutex::new(to),
        });
        let (tell, told) = std::sync::mpsc::channel();
        let own = Arc::clone(&state);
        let thread = run_thread(move |ready| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            ready.send(()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let to = *own.to.lock().unwrap();
                tokio::spawn(carry(stream, to, Arc::clone(&own)));
            }
        });
        Self { address: told.recv().unwrap(), state, _thread: thread }
    }

    /// Lets so many bytes more go there, or come back, and then breaks all connections off, once.
    pub(crate) fn cut_after(&self, back: bool, bytes: u64) {
        self.state.left[usize::from(back)].store(bytes, Ordering::Relaxed);
    }

    /// Lets nothing come back until it is told otherwise.
    pub(crate) fn hold_back(&self, holds: bool) {
        self.state.held.send_replace(holds);
    }

    /// Bytes that went there.
    pub(crate) fn went(&self) -> u64 {
        self.state.went.load(Ordering::Relaxed)
    }

    /// Breaks all connections off.
    pub(crate) fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Leads new connections to another address.
    pub(crate) fn lead(&self, to: SocketAddr) {
        *self.state.to.lock().unwrap() = to;
    }

    /// How often connections were broken off.
    pub(crate) fn cuts(&self) -> u64 {
        *self.state.cuts.borrow()
    }
}

impl State {
    /// Whether so many bytes more still go; the connections break otherwise.
    fn lets(&self, way: usize, count: usize) -> bool {
        let left = &self.left[way];
        let before = left.load(Ordering::Relaxed);
        if before == u64::MAX {
            return true;
        }
        let rest = before.saturating_sub(count as u64);
        left.store(if rest == 0 { u64::MAX } else { rest }, Ordering::Relaxed);
        if rest == 0 {
            self.cuts.send_modify(|cuts| *cuts += 1);
        }
        rest > 0
    }
}

async fn carry(mut here: TcpStream, to: SocketAddr, state: Arc<State>) {
    let (mut cuts, mut held) = (state.cuts.subscribe(), state.held.subscribe());
    let Ok(mut there) = TcpStream::connect(to).await else { return };
    let (mut one, mut two) = ([0; 1_024], [0; 1_024]);
    loop {
        let holds = *held.borrow_and_update();
        let carried = tokio::select! {
            read = here.read(&mut one) => match read {
                Ok(count @ 1..) if state.lets(0, count) => {
                    state.went.fetch_add(count as u64, Ordering::Relaxed);
                    there.write_all(&one[..count]).await
                }
                _ => return,
            },
            _ = held.changed() => continue,
            read = there.read(&mut two), if !holds => match read {
                Ok(count @ 1..) if state.lets(1, count) => here.write_all(&two[..count]).await,
                _ => return,
            },
            _ = cuts.changed() => return,
        };
        if carried.is_err() {
            return;
        }
    }
}
