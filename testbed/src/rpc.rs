//! Calls to a gRPC server on a Unix socket, from code that is not asynchronous.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status, Streaming};
use weir_api::dataplane::v1::Change;

/// Longest wait for an answer or the next message of a stream.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection to a server. A thread of its own keeps it alive between calls.
#[derive(Debug)]
pub struct Rpc {
    runtime: Handle,
    channel: Channel,
    /// Dropping it ends the thread.
    _alive: oneshot::Sender<()>,
}

impl Rpc {
    /// Connects to the server behind a socket.
    ///
    /// # Errors
    /// When nothing answers there.
    pub fn connect(socket: &Path) -> Result<Self> {
        let driver = Builder::new_current_thread().enable_all().build()?;
        let runtime = driver.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("rpc".into()).spawn(move || driver.block_on(ended))?;
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| open(path.clone()));
        // The address is a formality: the connector knows where to go.
        let endpoint = Endpoint::from_static("http://weir.invalid");
        let channel = runtime
            .block_on(endpoint.connect_with_connector(connector))
            .with_context(|| format!("connecting to {}", socket.display()))?;
        Ok(Self { runtime, channel, _alive: alive })
    }

    /// Makes one call: `ask` gets the connection and returns the answer.
    ///
    /// # Errors
    /// What the server answered, or that it did not in time.
    pub fn call<T>(
        &self,
        ask: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        self.runtime.block_on(async {
            let answer = timeout(LIMIT, ask(self.channel.clone())).await;
            Ok(answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
        })
    }

    /// Gives the messages of a stream to `take` until it returns false or the stream ends.
    ///
    /// # Errors
    /// What the server answered, or that it did not in time.
    pub fn follow<T>(
        &self,
        ask: impl AsyncFnOnce(Channel) -> Result<Response<Streaming<T>>, Status>,
        mut take: impl FnMut(T) -> bool,
    ) -> Result<(), Status> {
        let mut stream = self.call(ask)?;
        self.runtime.block_on(async {
            loop {
                let next = timeout(LIMIT, stream.message()).await;
                let next =
                    next.map_err(|_| Status::deadline_exceeded("the stream is silent"))??;
                if !next.is_some_and(&mut take) {
                    return Ok(());
                }
            }
        })
    }
}

/// Identifies a change by a random number, in the form that requests take it.
pub fn change() -> Option<Change> {
    Some(Change { request_id: format!("testbed-{:016x}", weir_seed::any()), generation: 0 })
}

/// An answer that must have been refused: the status, or an error that says that it was not.
///
/// # Errors
/// When the request was accepted.
pub fn refusal<T>(answer: Result<T, Status>, what: &str) -> Result<Status> {
    match answer {
        Err(status) => Ok(status),
        Ok(_) => Err(anyhow!("{what} was accepted")),
    }
}

async fn open(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(path).await?))
}
