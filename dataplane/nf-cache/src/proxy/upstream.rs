//! Connections to origins: each client connection has one at most, that of the last origin.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use http::header::{
    CONTENT_LENGTH, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::body::Asking;
use super::destination::connect_to;
use super::refusal::Refusal;
use crate::clock;
use crate::settings::Settings;

/// The connection to the origin that was asked last, while it may be asked again.
#[derive(Debug, Default)]
pub(crate) struct Upstream(RefCell<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    address: (String, u16),
    sender: SendRequest<Asking>,
}

impl Upstream {
    /// What an origin answers.
    ///
    /// A request without a body may go over a connection that is there. The origin may just have
    /// ended it: then it is asked again over a new one.
    pub(crate) async fn ask(
        &self,
        address: &(String, u16),
        parts: Parts,
        body: Asking,
        settings: &Settings,
    ) -> Result<Response<Incoming>, Refusal> {
        let limit = settings.limits.upstream;
        let conditional = is_conditional(&parts.headers);
        let kept = self.0.take().filter(|kept| kept.address == *address && kept.sender.is_ready());
        if let (Some(mut kept), Asking::Empty) = (kept, &body) {
            let request = Request::from_parts(parts.clone(), Asking::Empty);
            match send(&mut kept.sender, request, limit).await {
                Err(Refusal::UpstreamProtocol) if parts.method.is_idempotent() => {}
                Err(refusal) => return Err(refusal),
                Ok(response) => {
                    let response = plain(response, conditional)?;
                    *self.0.borrow_mut() = Some(kept);
                    return Ok(response);
                }
            }
        }
        let mut sender = connect(address, settings).await?;
        let response = send(&mut sender, Request::from_parts(parts, body), limit).await?;
        let response = plain(response, conditional)?;
        *self.0.borrow_mut() = Some(Kept { address: address.clone(), sender });
        Ok(response)
    }
}

async fn connect(
    address: &(String, u16),
    settings: &Settings,
) -> Result<SendRequest<Asking>, Refusal> {
    let (stream, limits) = (connect_to(address, settings).await?, &settings.limits);
    let handshake = http1::Builder::new()
        .max_buf_size(limits.head)
        .max_header_size(limits.head)
        .max_headers(256)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|_| Refusal::UpstreamProtocol)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            debug!("an origin: {error}");
        }
    });
    Ok(sender)
}

/// Sends a request, and waits for so long for the head of the answer, from the last part of its
/// body on.
async fn send(
    sender: &mut SendRequest<Asking>,
    request: Request<Asking>,
    limit: Duration,
) -> Result<Response<Incoming>, Refusal> {
    let progress = match request.body() {
        Asking::Empty => None,
        Asking::Client(timed) => Some(timed.progress()),
    };
    let begun = clock::now();
    let mut answer = std::pin::pin!(sender.send_request(request));
    loop {
        let last = progress.as_ref().map_or(begun, |progress| progress.last.get());
        match tokio::time::timeout_at((last + limit).into(), &mut answer).await {
            Ok(Err(_)) if progress.as_ref().is_some_and(|progress| progress.is_broken.get()) => {
                return Err(Refusal::Body);
            }
            Ok(answer) => return answer.map_err(|error| refusal(&error)),
            Err(_) if progress.as_ref().is_some_and(|progress| progress.last.get() > last) => {}
            Err(_) => return Err(Refusal::UpstreamTimeout),
        }
    }
}

/// An answer that nobody takes for another: with a length and an encoding, which hyper goes by, it
/// may be one that is split, and is an error (RFC 9112, section 6.3).
///
/// Nor is it one that nobody asked for: no request asks for another protocol (RFC 9110, section 15.2.2),
/// and only one with a condition can be told that nothing has changed (section 15.4.5).
fn plain(answer: Response<Incoming>, conditional: bool) -> Result<Response<Incoming>, Refusal> {
    let (status, headers) = (answer.status(), answer.headers());
    if status.is_informational() || (status == StatusCode::NOT_MODIFIED && !conditional) {
        debug!("an origin: {status}, which it was not asked for");
        return Err(Refusal::UpstreamProtocol);
    }
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        debug!("an origin: a length beside an encoding");
        return Err(Refusal::UpstreamProtocol);
    }
    Ok(answer)
}

fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

fn refusal(error: &hyper::Error) -> Refusal {
    debug!("an origin: {error}");
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    match source.map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => Refusal::UpstreamTimeout,
        _ => Refusal::UpstreamProtocol,
    }
}
