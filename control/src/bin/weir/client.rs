//! The connection to the sidecar, with a deadline on everything.

use std::{error::Error, path::PathBuf, time::Duration};

use clap::Args;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Response, Status, TimeoutExpired,
    transport::{Channel, Endpoint, Uri},
};
use weir_api::{causes::root_cause, dataplane::v1::Change};
use weir_control::{
    config::Span,
    fault::Fault,
    listen::{ListenError, TlsFiles},
};

use super::{failure::Failure, output::Format, reach};

/// The largest message accepted, in bytes.
pub(crate) const MESSAGE_MAX: usize = 16 << 20;

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The sidecar: unix:///PATH or https://HOST:PORT
    #[arg(
        short,
        long,
        global = true,
        env = "WEIR_SERVER",
        default_value = "unix:///run/weir/control.sock"
    )]
    pub(crate) server: String,
    /// How answers are shown
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Deadline of a request; of streams, for each message
    #[arg(long, global = true, default_value = "10s")]
    pub(crate) timeout: Span,
    /// Identifies a change, so that repeating it is harmless; random when absent
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// Refuse a change when the node is at another generation
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub(crate) generation: u64,
    /// The authority of the server's certificate
    #[arg(long, global = true, env = "WEIR_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Our certificate
    #[arg(long, global = true, env = "WEIR_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of our certificate
    #[arg(long, global = true, env = "WEIR_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
    pub(crate) format: Format,
    server: String,
    timeout: Duration,
    request_id: Option<String>,
    generation: u64,
}

/// A client of one service of the API.
macro_rules! service {
    ($client:ident, $connection:expr) => {
        $client::new($connection.channel.clone())
            .max_decoding_message_size($crate::client::MESSAGE_MAX)
    };
}
pub(crate) use service;

impl Client {
    /// Connects within the deadline.
    pub(crate) async fn connect(options: &Options) -> Result<Self, Failure> {
        let limit = options.timeout.duration();
        let connected = timeout(limit, open(options)).await;
        let channel = connected.map_err(|_| late(limit))??;
        Ok(Self {
            channel,
            format: options.output,
            server: options.server.clone(),
            timeout: limit,
            request_id: options.request_id.clone(),
            generation: options.generation,
        })
    }

    /// Waits for an answer within the deadline.
    pub(crate) async fn call<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let answer = timeout(self.timeout, answer).await.map_err(|_| late(self.timeout))?;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    /// Waits for the next message of a stream within the deadline.
    pub(crate) async fn next<T>(
        &self,
        stream: &mut tonic::Streaming<T>,
    ) -> Result<Option<T>, Failure> {
        let message = timeout(self.timeout, stream.message()).await;
        let message = message.map_err(|_| late(self.timeout))?;
        message.map_err(|status| self.failure(&status))
    }

    /// Waits for the next message of an operation, which has a time limit of its own.
    pub(crate) async fn follow<T>(
        &self,
        stream: &mut tonic::Streaming<T>,
    ) -> Result<Option<T>, Failure> {
        stream.message().await.map_err(|status| self.failure(&status))
    }

    /// What the server said, or that the connection broke: only that has a cause on our side.
    fn failure(&self, status: &Status) -> Failure {
        match Error::source(status) {
            Some(error) if root_cause(error).is::<TimeoutExpired>() => late(self.timeout),
            Some(error) => reach::fault(&self.server, error).into(),
            // The server cancels requests only for their deadline.
            None if status.code() == Code::Cancelled => late(self.timeout),
            None => Failure::from(status.clone()),
        }
    }

    /// A request that tells the server the deadline.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Identifies a change.
    pub(crate) fn change(&self) -> Result<Option<Change>, Failure> {
        let request_id = match &self.request_id {
            Some(id) => id.clone(),
            None => {
                let random = getrandom::u64().map_err(|error| {
                    Fault::new(Code::Internal, "NO_RANDOMNESS", error.to_string())
                })?;
                format!("w-{random:016x}")
            }
        };
        Ok(Some(Change { request_id, generation: self.generation }))
    }
}

fn late(limit: Duration) -> Failure {
    let message = format!("no answer within {limit:?}");
    let fault = Fault::new(Code::DeadlineExceeded, "DEADLINE", message);
    fault.fix("try again, or allow more time with --timeout").into()
}

async fn open(options: &Options) -> Result<Channel, Failure> {
    let server = options.server.as_str();
    if let Some(path) = server.strip_prefix("unix://").or(server.strip_prefix("unix:")) {
        return open_unix(server, path).await;
    }
    if server.starts_with('/') {
        return open_unix(server, server).await;
    }
    if let Some(authority) = server.strip_prefix("https://") {
        return open_tls(options, authority.trim_end_matches('/')).await;
    }
    let message = format!("{server:?} is not an address of a sidecar");
    let fault = Fault::invalid("SERVER", message).object("--server");
    Err(fault.fix("write unix:///run/weir/control.sock or https://HOST:PORT").into())
}

async fn open_unix(server: &str, path: &str) -> Result<Channel, Failure> {
    let path = PathBuf::from(path);
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::from_static("http://sidecar");
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| reach::fault(server, &error).into())
}

async fn open_tls(options: &Options, authority: &str) -> Result<Channel, Failure> {
    let server = options.server.as_str();
    let (Some(ca), Some(cert), Some(key)) =
        (options.tls_ca.clone(), options.tls_cert.clone(), options.tls_key.clone())
    else {
        let fault = Fault::invalid("CERTIFICATES_MISSING", "TCP needs certificates on both sides");
        return Err(fault
            .object("--server")
            .fix("give --tls-ca, --tls-cert and --tls-key; weir pki issue makes them")
            .into());
    };
    let connector = tls_connector(&TlsFiles { ca, cert, key })?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host)
        .map_err(|error| Fault::invalid("SERVER", format!("{server:?}: {error}")))
        .map_err(|fault| fault.object("--server").fix("write --server https://HOST:PORT"))?;
    let address = authority.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, address, name) = (connector.clone(), address.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    let channel = Endpoint::from_static("http://sidecar").connect_with_connector(connect).await;
    channel.map_err(|error| reach::fault(server, &error).into())
}

fn tls_connector(files: &TlsFiles) -> Result<TlsConnector, Failure> {
    files.client().map_err(|error| {
        let of_ca = matches!(&error, ListenError::Certificate { path, .. } if *path == files.ca);
        let option = if of_ca { "--tls-ca" } else { "--tls-cert and --tls-key" };
        let fault = Fault::invalid("BAD_FILE", error.to_string()).object(option);
        fault.fix("give the files that weir pki made: ca.crt, NAME.crt, NAME.key").into()
    })
}
