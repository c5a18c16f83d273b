//! The sidecars of other nodes: how they are reached, and which callers are one.

use std::{collections::BTreeMap, error::Error, io, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};
use weir_api::v1::transfer_service_client::TransferServiceClient;

use crate::{
    config::{Control, Peer},
    listen::{ListenError, TlsFiles, node_of},
};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often one that carries a transfer is asked whether it is still there, and how long it may
/// take to answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// How long one that breaks without a word goes unnoticed.
pub(super) const LOST_LIMIT: Duration = KEEP_ALIVE.0.saturating_add(KEEP_ALIVE.1);
/// Bytes of an answer at most: all are small.
const ANSWER_MAX: usize = 64 << 10;

/// The nodes of the configuration.
#[derive(Debug)]
pub(crate) struct Peers(BTreeMap<String, Reached>);

#[derive(Debug)]
struct Reached {
    identity: String,
    brings: bool,
    channel: Channel,
}

/// A client of another sidecar.
pub(super) type PeerClient = TransferServiceClient<Channel>;

/// The sidecar that answers is that of another node.
#[derive(Debug, thiserror::Error)]
#[error("its certificate names {found}, and not node {wanted}")]
pub(super) struct WrongIdentity {
    wanted: String,
    found: String,
}

impl Peers {
    /// To be called within a tokio runtime.
    pub(super) fn new(control: &Control) -> Self {
        // The configuration refuses peers without TLS.
        let Some(tls) = &control.tls else { return Self(BTreeMap::new()) };
        let files = TlsFiles { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() };
        let peers = control.peer.iter().map(|peer| {
            let channel = channel(peer.clone(), files.clone());
            let (identity, brings) = (peer.identity().to_owned(), peer.brings);
            (peer.name.clone(), Reached { identity, brings, channel })
        });
        Self(peers.collect())
    }

    /// A client of a node, which is connected when it is first asked, and again when it was lost.
    pub(super) fn client(&self, name: &str) -> Option<PeerClient> {
        let peer = self.0.get(name)?;
        Some(TransferServiceClient::new(peer.channel.clone()).max_decoding_message_size(ANSWER_MAX))
    }

    /// What the node of an identity is called here, if it may bring state.
    pub(crate) fn name_of(&self, identity: &str) -> Option<&str> {
        let mut peers = self.0.iter();
        peers
            .find(|(_, peer)| peer.identity == identity && peer.brings)
            .map(|(name, _)| name.as_str())
    }
}

fn channel(peer: Peer, files: TlsFiles) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let (peer, files) = (peer.clone(), files.clone());
        async move { connect(&peer, &files).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://sidecar")
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .connect_with_connector_lazy(connect)
}

/// The files are read each time, so that a certificate may be renewed.
async fn connect(
    peer: &Peer,
    files: &TlsFiles,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let connector = files.client().map_err(|error: ListenError| io::Error::other(error))?;
    let host = peer.host().unwrap_or_default().to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let address = &peer.address;
    let said = |why: io::Error, what: String| io::Error::new(why.kind(), what);
    let shaken = async {
        let stream = TcpStream::connect(address).await.map_err(|why| {
            let what =
                format!("{address} is not reached: {why}; see that weir-control listens there");
            said(why, what)
        })?;
        stream.set_nodelay(true)?;
        let shaken = connector.connect(name, stream).await;
        shaken.map_err(|why| {
            let what = format!("{address} is not trusted, or does not trust this node: {why}");
            said(why, what)
        })
    };
    let late = |_| {
        let what = format!("{address} is not reached: no answer within {CONNECT_LIMIT:?}");
        io::Error::new(io::ErrorKind::TimedOut, what)
    };
    let stream = tokio::time::timeout(CONNECT_LIMIT, shaken).await.map_err(late)??;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let found = certificates.first().and_then(node_of);
    let wanted = peer.identity();
    if found.as_deref() != Some(wanted) {
        let found = found.map_or_else(|| "no node".to_owned(), |found| format!("node {found}"));
        return Err(io::Error::other(WrongIdentity { wanted: wanted.to_owned(), found }));
    }
    Ok(stream)
}

/// Whether a call failed as the sidecar that answered is that of another node.
pub(super) fn wrong_identity<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e WrongIdentity> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An error in an I/O error is not among its causes.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(wrong) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(wrong);
        }
        next = error.source();
    }
    None
}
