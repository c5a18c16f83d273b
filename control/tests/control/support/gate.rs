//! A network function of which calls of one method wait until they are let through.

use std::{
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{codegen::http, transport::Server};
use tower::{Layer, Service};
use weir_api::nf::v1::network_function_service_server::NetworkFunctionServiceServer;

use super::{
    nf::{Monitor, Nf},
    node::{Thread, limited, run_thread},
};

/// Where the calls wait.
#[derive(Clone)]
pub(crate) struct Gate {
    method: &'static str,
    waiting: watch::Sender<u32>,
    open: watch::Sender<bool>,
}

/// A function on a socket, its gate, and what serves it.
pub(crate) fn gated(socket: &Path, monitor: Monitor, method: &'static str) -> (Nf, Gate, Thread) {
    let (service, nf) = Nf::unserved(monitor);
    let (waiting, open) = (watch::Sender::new(0), watch::Sender::new(false));
    let gate = Gate { method, waiting, open };
    let (layer, path) = (gate.clone(), socket.to_owned());
    // Of one that has died.
    let _none = std::fs::remove_file(&path);
    let thread = run_thread(move |ready| async move {
        let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
        ready.send(()).unwrap();
        let service = NetworkFunctionServiceServer::new(service);
        Server::builder()
            .layer(layer)
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    (nf, gate, thread)
}

impl Gate {
    /// Waits until a call waits.
    pub(crate) async fn has_one(&self) {
        let mut waiting = self.waiting.subscribe();
        limited(waiting.wait_for(|waiting| *waiting > 0)).await.unwrap();
    }

    /// Lets all through.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Gated<S>
where
    S: Service<http::Request<B>>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let waits = request.uri().path().ends_with(self.gate.method);
        let (gate, call) = (self.gate.clone(), self.inner.call(request));
        Box::pin(async move {
            if waits {
                gate.waiting.send_modify(|waiting| *waiting += 1);
                gate.open.subscribe().wait_for(|open| *open).await.unwrap();
            }
            call.await
        })
    }
}
