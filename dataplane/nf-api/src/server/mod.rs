//! The server: a network function on a thread of its own, asked over gRPC between two packets.
//!
//! ```text
//! client ── Service (tokio) ── calls, bounded ──► Desk ──► Southbound   the function's thread
//!                            ◄── answers, notes ──
//! ```
//!
//! The thread of the network function calls [`Desk::serve`] as often as it likes to be asked; a
//! turn is bounded. What is slow, such as a reader of a get, is waited for by a task and never by
//! that thread.

mod answers;
mod desk;
mod events;
mod get;
mod put;
mod service;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport;
use weir_api::nf::v1::network_function_service_server::{
    NetworkFunctionService, NetworkFunctionServiceServer,
};
use weir_api::preface::KEEP_ALIVE;
use weir_api::socket::Socket;

pub use desk::{BYTES_A_TURN, CALLS_A_TURN, Desk};
pub use service::Service;

use crate::batch::MESSAGE_MAX;
use crate::description::Description;
use desk::Handle;

/// Requests of one connection at one time.
const STREAMS_MAX: u32 = 64;
/// What a client may send before it is read, in bytes: of a stream, and of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Longest time in which answers are finished in the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the network function may take to serve a call, and a peer keep a stream waiting.
const LIMIT: Duration = Duration::from_secs(10);

/// Both ends of a server: what answers requests, and where the network function takes them.
///
/// `wake` is called when there is something to serve, so that a thread that sleeps can be woken; it
/// must not block.
pub fn pair(description: Description, wake: impl Fn() + Send + Sync + 'static) -> (Service, Desk) {
    let (calls, desk) = desk::pair(wake);
    (Service::new(description, calls), desk)
}

/// A server of anything that answers these requests, with the limits of its messages.
pub fn server<S: NetworkFunctionService>(service: S) -> NetworkFunctionServiceServer<S> {
    NetworkFunctionServiceServer::new(service)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX)
}

/// Serves until `stop` comes, and then finishes what is asked, for 2 s at most. To be called within a
/// tokio runtime, whose end cuts off what is left.
///
/// # Errors
/// When the connections can not be served any more.
pub async fn serve<S: NetworkFunctionService>(
    service: S,
    socket: &Socket,
    stop: impl Future<Output = ()>,
) -> Result<(), transport::Error> {
    let (connections, accepted) = mpsc::channel(1);
    let (leave, left) = oneshot::channel::<()>();
    let service = server(service);
    let server = transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEP_ALIVE.0))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.1))
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(accepted), async {
            // The sender is dropped on every way out: that is the signal too.
            let _left = left.await;
        });
    let mut server = std::pin::pin!(server);
    tokio::select! {
        served = &mut server => return served,
        () = socket.accept(connections) => {}
        () = stop => {}
    }
    drop(leave);
    let finished = tokio::time::timeout(FAREWELL, server).await;
    finished.unwrap_or(Ok(()))
}
