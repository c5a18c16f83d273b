//! TCP: only with certificates on both sides.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    BackOff, Caller, Connection, Limits, ListenError, Refusals,
    authorise::{caller_of, node_of},
    connection::Stream,
    slots::{Handshakes, Slots},
};

/// The PEM files of one side.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority that the other side's certificate must come from.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The authority as a set of roots.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn roots(&self) -> Result<RootCertStore, ListenError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|error| wrong(&self.ca, &error))?;
        }
        Ok(roots)
    }

    /// Our certificate chain and its key.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn identity(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ListenError> {
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong(&self.key, &error))?;
        Ok((certificates(&self.cert)?, key))
    }

    /// The node that our certificate names, if it names one.
    ///
    /// # Errors
    /// As those of [`Self::identity`].
    pub fn node(&self) -> Result<Option<String>, ListenError> {
        Ok(certificates(&self.cert)?.first().and_then(node_of))
    }

    /// The client's side, towards whoever shows a certificate of the authority.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn client(&self) -> Result<TlsConnector, ListenError> {
        let (chain, key) = self.identity()?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.cert, &error))?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(|error| wrong(&self.cert, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// The server's side: callers without a certificate of the authority are refused.
    fn server(&self) -> Result<TlsAcceptor, ListenError> {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider.clone())
                .build()
                .map_err(|error| wrong(&self.ca, &error))?;
        let (chain, key) = self.identity()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.cert, &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| wrong(&self.cert, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(path, &error));
    match found?.as_slice() {
        [] => Err(wrong(path, &"it holds no certificate")),
        some => Ok(some.to_vec()),
    }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> ListenError {
    ListenError::Certificate { path: path.to_owned(), why: why.to_string() }
}

/// Checks the certificates and lets in callers that show one of our authority, until the
/// receiver goes away.
///
/// # Errors
/// When a certificate or key cannot be used.
pub fn listen_tcp(
    listener: TcpListener,
    files: &TlsFiles,
    limits: Limits,
    accepted: mpsc::Sender<io::Result<Connection>>,
) -> Result<impl Future<Output = ()> + use<>, ListenError> {
    let acceptor = files.server()?;
    Ok(accept(listener, acceptor, limits, accepted))
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: Limits,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let mut connections = Slots::new(limits.connections, limits.connections_each);
    let handshakes = Handshakes::new(limits.handshakes, limits.handshakes_each);
    let mut back_off = BackOff::new();
    let mut refusals = Refusals::default();
    loop {
        let connection = connections.free().await;
        let (stream, caller) = tokio::select! {
            accept = listener.accept() => match accept {
                Ok((stream, caller)) => (stream, caller.ip()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    back_off.wait().await;
                    continue;
                }
            },
            () = accepted.closed() => return,
        };
        back_off.reset();
        let connection = connections.take(connection, caller);
        let slots = connection.and_then(|slot| Some((slot, handshakes.begin(caller)?)));
        let Some((connection, mut handshake)) = slots else {
            refusals.note(caller);
            continue;
        };
        let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
        tokio::spawn(async move {
            let shaken = tokio::select! {
                shaken = timeout(limits.handshake, shake(stream, acceptor)) => shaken,
                () = handshake.gives_way() => {
                    return tracing::debug!("a caller gives way in its handshake");
                }
            };
            drop(handshake);
            match shaken {
                Ok(Ok((stream, caller))) => {
                    let connection = Connection::new(stream, caller, connection, limits.preface);
                    // A server that has ended takes nobody in.
                    let _ = accepted.send(Ok(connection)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "refuses a caller"),
                Err(_) => tracing::debug!("a caller did not finish its handshake"),
            }
        });
    }
}

async fn shake(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<(Stream, Caller)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let caller = certificates.first().and_then(caller_of);
    let caller = caller.ok_or_else(|| io::Error::other("the certificate names no role"))?;
    Ok((Stream::Tls(Box::new(stream)), caller))
}
