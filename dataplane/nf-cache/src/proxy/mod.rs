//! Requests: what each is for, and the answer, by the store or by its origin.

mod answer;
mod body;
mod collect;
mod destination;
mod headers;
mod refusal;
mod shape;
mod tunnel;
mod upstream;

use std::fmt::{Display, Write as _};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use tracing::warn;
use weir_state_transfer::FlowKey;

use crate::cache::{Admission, Lookup, Shared};
use crate::clock;
use crate::connection::Connection;
use crate::settings::Settings;
use crate::statistics::Figure;
use crate::store::Url;
use answer::{from_origin, from_store, refused};
use body::{Answer, Asking};
use headers::{ask_about, changed_too, has_via, host_of, is_for_here, is_for_origin, to_origin};
use refusal::Refusal;
use shape::{Target, target};
pub(crate) use upstream::Upstream;

/// What all connections have in common.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) shared: Shared,
    pub(crate) settings: Settings,
    /// What it calls itself in `Via`.
    pub(crate) name: String,
}

impl Proxy {
    /// Counts something that was refused by its reason, and logs it, once a second for each reason.
    /// `detail` is for people, and has nothing that the other end has written.
    pub(crate) fn refuses(&self, client: IpAddr, reason: &'static str, detail: &dyn Display) {
        if let Some(untold) = self.shared.with(|cache| cache.refused(reason)) {
            warn!(%client, reason, untold, "refused: {detail}");
        }
    }
}

/// A request is not answered: somebody has subscribed to it, and drops it.
#[derive(Debug, thiserror::Error)]
#[error("the request is dropped")]
pub(crate) struct Dropped;

/// A request that is being answered. It is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Exchange {
    connection: Rc<Connection>,
    head: Option<Vec<u8>>,
    is_answered: bool,
}

/// A request for an origin, on its way.
struct Ask<'a> {
    connection: &'a Rc<Connection>,
    parts: Parts,
    address: (String, u16),
    host: HeaderValue,
}

impl Exchange {
    /// Counts, unless somebody has frozen what requests of this connection change.
    pub(crate) fn count(&self, figure: Figure, count: u64) {
        count_late(&self.connection, figure, count);
    }

    /// What an origin gives is not what it says, and so is not passed on to its end.
    fn breaks_off(&self, error: &io::Error) {
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => "answer-timeout",
            _ => "answer-body",
        };
        self.connection.refuses(reason, &"the body of an answer");
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.is_answered {
            let (number, admitted) = (self.connection.number, self.connection.admitted.get());
            self.connection
                .shared()
                .with(|cache| cache.answered(number, self.head.as_deref(), admitted));
        }
    }
}

/// Answers one request of a connection.
pub(crate) async fn handle(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Dropped> {
    connection.held.activity.begin(clock::now());
    let (parts, body) = request.into_parts();
    let mut exchange = admit(&connection, &parts).await?;
    connection.shared().with(|cache| cache.count(Figure::Requests, 1));
    let answer = match target(&parts) {
        Ok(Target::Tunnel(host, port)) => tunnel::tunnel(&connection, parts, (host, port)).await,
        Ok(Target::Origin { address, authority }) => match host_of(&authority) {
            Some(host) => {
                let body = Asking::of(body, connection.proxy.settings.limits.upstream);
                origin(Ask { connection: &connection, parts, address, host }, body).await
            }
            None => Err(Refusal::NotAbsolute),
        },
        Err(refusal) => Err(refusal),
    };
    let ends = answer.as_ref().is_err_and(|refusal| refusal.ends_connection());
    let mut response = answer.unwrap_or_else(|refusal| {
        exchange.count(Figure::Refused, 1);
        connection.refuses(refusal.name(), &refusal.error());
        refused(refusal, &connection.proxy.name)
    });
    if ends {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.is_answered = true;
    response.body_mut().ends(exchange);
    Ok(response)
}

/// Shows a request to who has subscribed, and waits where it is kept.
async fn admit(connection: &Rc<Connection>, parts: &Parts) -> Result<Exchange, Dropped> {
    let key: FlowKey = connection.held.key;
    let admission = connection.shared().with(|cache| cache.admit(&key, || head(parts)));
    let head = match admission {
        Admission::Go(head) => head,
        Admission::Wait(released) => Some(released.await.map_err(|_| Dropped)?),
        Admission::Drop => return Err(Dropped),
    };
    connection.admitted.set(connection.shared().with(|cache| cache.moment()));
    Ok(Exchange { connection: Rc::clone(connection), head, is_answered: false })
}

/// Answers a request for a URL.
async fn origin(mut ask: Ask<'_>, body: Asking) -> Result<Response<Answer>, Refusal> {
    if has_via(&ask.parts.headers, &ask.connection.proxy.name) {
        return Err(Refusal::Loop);
    }
    match ask.parts.method {
        Method::TRACE => return Err(Refusal::Method),
        Method::OPTIONS if is_for_here(&mut ask.parts.headers) => {
            return Ok(Response::new(Answer::empty()));
        }
        _ => {}
    }
    let is_read = matches!(ask.parts.method, Method::GET | Method::HEAD);
    let is_plain = is_read && body.is_end_stream() && !is_for_origin(&ask.parts.headers);
    match Url::of(&ask.parts.uri) {
        Some(url) if is_plain => read(ask, &url).await,
        url => pass(ask, body, url).await,
    }
}

/// Answers a request that the store may have the answer to.
async fn read(ask: Ask<'_>, url: &Url) -> Result<Response<Answer>, Refusal> {
    let Ask { connection, parts, .. } = &ask;
    let client = connection.client();
    let (lookup, asked) = connection.shared().with(|cache| {
        let lookup = cache.look_up(url, &parts.headers, client);
        match &lookup {
            Lookup::Fresh(object) => {
                cache.count(Figure::Hits, 1);
                cache.count(Figure::HitBytes, object.body.len() as u64);
            }
            Lookup::Nothing => cache.count(Figure::Misses, 1),
            Lookup::Stale(_) => {}
        }
        (lookup, cache.moment())
    });
    let stale = match lookup {
        Lookup::Fresh(object) => return Ok(from_store(connection, &object, parts, "hit")),
        Lookup::Stale(object) => Some(object),
        Lookup::Nothing => None,
    };
    if answer::only_if_cached(&parts.headers) {
        return Err(Refusal::OnlyIfCached);
    }
    let mut headers = to_origin(&parts.headers, &ask.host, &connection.proxy.name);
    let old = stale.as_ref().filter(|_| parts.method == Method::GET);
    if let Some(object) = old {
        ask_about(&mut headers, &object.headers);
    }
    let response = ask.send(headers, Asking::Empty).await?;
    if let Some(object) = old.filter(|_| response.status() == http::StatusCode::NOT_MODIFIED) {
        return answer::revalidated(connection, (object, asked), parts, response.headers());
    }
    if stale.is_some() {
        count_late(connection, Figure::Misses, 1);
    }
    let keep = (parts.method == Method::GET).then_some((url, asked));
    Ok(from_origin(connection, &parts.headers, response, keep, "miss"))
}

/// Passes a request on that is none of the store's business, and forgets what it changes.
async fn pass(ask: Ask<'_>, body: Asking, url: Option<Url>) -> Result<Response<Answer>, Refusal> {
    let connection = Rc::clone(ask.connection);
    connection.shared().with(|cache| cache.count(Figure::Passed, 1));
    let headers = to_origin(&ask.parts.headers, &ask.host, &connection.proxy.name);
    let response = ask.send(headers, body).await?;
    let is_ok = response.status().is_success() || response.status().is_redirection();
    if let Some(url) = url.filter(|_| is_ok && !ask.parts.method.is_safe()) {
        let too = changed_too(&url, response.headers());
        connection
            .shared()
            .with(|cache| too.iter().chain([&url]).for_each(|url| cache.invalidate(url)));
    }
    Ok(from_origin(&connection, &ask.parts.headers, response, None, "pass"))
}

impl Ask<'_> {
    /// Asks the origin, with these headers.
    async fn send(
        &self,
        headers: http::HeaderMap,
        body: Asking,
    ) -> Result<Response<Incoming>, Refusal> {
        let path = self.parts.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        let mut request = Request::new(());
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = path.into();
        *request.headers_mut() = headers;
        let settings = &self.connection.proxy.settings;
        let (parts, ()) = request.into_parts();
        self.connection.upstream.ask(&self.address, parts, body, settings).await
    }
}

/// Counts what an answer that is under way has come to, unless somebody has frozen what requests of
/// its connection change.
fn count_late(connection: &Connection, figure: Figure, count: u64) {
    connection.shared().with(|cache| {
        if !connection.is_frozen(cache) {
            cache.count(figure, count);
        }
    });
}

/// The head of a request as text.
fn head(parts: &Parts) -> Vec<u8> {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _written = write!(text, "{} {} {:?}\r\n", parts.method, parts.uri, parts.version);
    let mut head = text.into_bytes();
    for (name, value) in &parts.headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}
