//! The task that serves one client connection.

use std::cell::Cell;
use std::fmt::Display;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tracing::debug;

use super::Activity;
use super::socket::Socket;
use crate::cache::{Cache, Held, Moment, Shared};
use crate::clock;
use crate::proxy::{Proxy, Upstream, handle};
use crate::settings::Limits;
use crate::statistics::Figure;

/// What the requests of one connection have in common.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) proxy: Rc<Proxy>,
    pub(crate) number: u64,
    pub(crate) held: Held,
    /// When its last request was admitted.
    pub(crate) admitted: Cell<Moment>,
    /// The connection to the origin that was asked last.
    pub(crate) upstream: Upstream,
}

impl Connection {
    /// The client.
    pub(crate) fn client(&self) -> IpAddr {
        self.held.key.src()
    }

    /// Whether what is answered changes nothing here any more, as somebody counts on it.
    pub(crate) fn is_frozen(&self, cache: &Cache) -> bool {
        cache.is_frozen(&self.held.key, self.admitted.get())
    }

    /// Something of this connection was refused: see [`Proxy::refuses`].
    pub(crate) fn refuses(&self, reason: &'static str, detail: &dyn Display) {
        self.proxy.refuses(self.client(), reason, detail);
    }

    /// What all know.
    pub(crate) fn shared(&self) -> &Shared {
        &self.proxy.shared
    }
}

/// Serves a connection until it ends, is idle or slow for too long, or has answered what it was
/// asked when all are to stop.
pub(crate) async fn serve(
    proxy: Rc<Proxy>,
    number: u64,
    held: Held,
    mut stop: watch::Receiver<bool>,
) {
    let limits = proxy.settings.limits;
    let socket = Socket::new(held.stream.clone(), held.activity.clone());
    let activity = held.activity.clone();
    let connection = Rc::new(Connection {
        proxy: proxy.clone(),
        number,
        held,
        upstream: Upstream::default(),
        admitted: Cell::default(),
    });
    let service = service_fn(|request| handle(Rc::clone(&connection), request));
    let served = http1::Builder::new()
        .max_buf_size(limits.head)
        .max_header_size(limits.head)
        .max_headers(256)
        // Time-outs are by what the connection does.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut served = pin!(served);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    debug!(client = %connection.client(), "{error}");
                    if let Some(reason) = no_request(&error) {
                        connection.refuses(reason, &error);
                        proxy.shared.with(|cache| cache.count(Figure::Refused, 1));
                    }
                }
                break;
            }
            () = over(&activity, &limits) => {
                proxy.shared.with(|cache| cache.count(Figure::TimedOut, 1));
                break;
            }
            _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
    // A tunnel has the connection now, and goes on.
    if !activity.is_tunnel() {
        proxy.shared.with(|cache| cache.connections.remove(number));
    }
}

/// Why what has come is no request, if that has ended a connection: lengths that differ or are none,
/// encodings that do not end with `chunked`, names with spaces, and whatever else is no HTTP.
fn no_request(error: &hyper::Error) -> Option<&'static str> {
    match error {
        error if error.is_parse_too_large() => Some("head-too-large"),
        error if error.is_parse() => Some("malformed"),
        _ => None,
    }
}

/// Waits until a connection has been at the same for too long.
pub(crate) async fn over(activity: &Activity, limits: &Limits) {
    loop {
        // What it does may change at any time, and have a shorter limit then.
        let shortest = limits.head_time.min(limits.idle);
        let wait = match activity.left(limits, clock::now()) {
            Some(left) if left.is_zero() => return,
            Some(left) => left.min(shortest),
            None => shortest,
        };
        tokio::time::sleep(wait).await;
    }
}
