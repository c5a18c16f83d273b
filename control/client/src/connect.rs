//! Connections to a sidecar: a Unix socket, or TCP with certificates on both sides.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use weir_api::causes::root_cause;

/// The PEM files of our side of a connection, as `weir pki` makes them.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority that the certificate of the sidecar must come from.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The sidecar is not reached, or the connection is refused.
    #[error("cannot reach the sidecar at {address}: {}; {}", root_cause(source), advice(address))]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system or TLS says is among the causes.
        source: tonic::transport::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{}: {why}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An address that is none.
    #[error("{address:?} is no HOST:PORT: {why}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A connection to a Unix socket.
///
/// # Errors
/// When nobody serves it, or does not let this process in.
pub async fn unix_channel(socket: &Path) -> Result<Channel, ConnectError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let channel = Endpoint::from_static("http://sidecar").connect_with_connector(connector).await;
    let address = || format!("unix://{}", socket.display());
    channel.map_err(|source| ConnectError::Unreachable { address: address(), source })
}

/// A connection over TCP to `HOST:PORT`, with certificates on both sides.
///
/// # Errors
/// When a file is not as it must be, the address is none, or it is not reached.
pub async fn tls_channel(address: &str, files: &TlsFiles) -> Result<Channel, ConnectError> {
    let connector = files.connector()?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| ConnectError::Address {
        address: address.to_owned(),
        why: error.to_string(),
    })?;
    let to = address.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, to, name) = (connector.clone(), to.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(&to).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    let channel = Endpoint::from_static("http://sidecar").connect_with_connector(connect).await;
    let address = || format!("https://{address}");
    channel.map_err(|source| ConnectError::Unreachable { address: address(), source })
}

impl TlsFiles {
    fn connector(&self) -> Result<TlsConnector, ConnectError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|error| wrong(&self.ca, &error))?;
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong(&self.key, &error))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.cert, &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&self.cert)?, key)
            .map_err(|error| wrong(&self.cert, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(path, &error));
    match found?.as_slice() {
        [] => Err(wrong(path, &"it holds no certificate")),
        some => Ok(some.to_vec()),
    }
}

/// What may mend that a sidecar is not reached.
fn advice(address: &str) -> &'static str {
    if address.starts_with("unix:") {
        "see that weir-control --config FILE runs with this socket in its [control], as the same user \
         or as root"
    } else {
        "see that weir-control runs with this address as listen in its [control], and that the \
         certificates are of one authority"
    }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::Certificate { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_not_reached_is_named_with_what_the_system_says_and_what_to_do() {
        let absent = std::env::temp_dir().join("weir-client-test-absent/control.sock");
        let error = unix_channel(&absent).await.expect_err("nobody listens there").to_string();
        for part in ["unix://", "absent/control.sock: No such file", "; see that weir-control"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
