//! Answers to clients: from the store, from an origin, and refusals.

use std::rc::Rc;
use std::time::SystemTime;

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue,
    TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::body::{Answer, Timed};
use super::collect::Collect;
use super::headers::{PROXY_STATUS, X_CACHE, add_via, has_it, remove_hop_by_hop};
use super::refusal::Refusal;
use crate::cache::Moment;
use crate::clock;
use crate::connection::Connection;
use crate::statistics::Figure;
use crate::store::{Head, Object, Url, date};

/// The answer that is a refusal.
pub(super) fn refused(refusal: Refusal, name: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(format!("{}\n", refusal.name()).into()));
    *response.status_mut() = refusal.status();
    let status = format!("{name}; error={}; details=\"{}\"", refusal.error(), refusal.name());
    let headers = response.headers_mut();
    if let Ok(status) = HeaderValue::from_str(&status) {
        headers.insert(PROXY_STATUS, status);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer that an object is.
pub(super) fn from_store(
    connection: &Connection,
    object: &Object,
    request: &Parts,
    how: &'static str,
) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    let headers = response.headers_mut();
    headers.clone_from(&object.headers);
    let age = object.freshness.age(clock::wall()).as_secs();
    headers.insert(AGE, age.into());
    headers.insert(X_CACHE, HeaderValue::from_static(how));
    add_via(headers, &connection.proxy.name);
    if object.status == StatusCode::OK && has_it(&request.headers, &object.headers) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    if object.status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, object.body.len().into());
    }
    *response.status_mut() = object.status;
    if request.method != Method::HEAD {
        *response.body_mut() = Answer::whole(object.body.clone());
    }
    response
}

/// The answer that an object is of which its origin says that it is still good.
pub(super) fn revalidated(
    connection: &Rc<Connection>,
    (object, asked): (&Rc<Object>, Moment),
    request: &Parts,
    by: &HeaderMap,
) -> Result<Response<Answer>, Refusal> {
    let tag = |headers: &HeaderMap| {
        headers.get("etag").map(|tag| {
            let tag = tag.as_bytes();
            tag.strip_prefix(b"W/").unwrap_or(tag).to_vec()
        })
    };
    // It is about what it was asked about, and nothing else.
    if tag(by).is_some_and(|other| Some(other) != tag(&object.headers)) {
        return Err(Refusal::UpstreamProtocol);
    }
    let mut by = by.clone();
    by.remove(AGE);
    arrived(&mut by, clock::wall());
    let client = connection.client();
    let fresh = connection.shared().with(|cache| {
        let now = cache.wall();
        let fresh = object.refreshed(&request.headers, &by, now);
        if !connection.is_frozen(cache) {
            cache.count(Figure::Revalidated, 1);
            cache.count(Figure::HitBytes, object.body.len() as u64);
            match &fresh {
                Some(fresh) => cache.insert(fresh.clone(), client, asked),
                None => cache.invalidate(&object.url),
            }
        }
        fresh
    });
    let answer = fresh.as_ref().unwrap_or(object);
    Ok(from_store(connection, answer, request, "revalidated"))
}

/// The answer that an origin gives, to be kept where that is asked for and may be.
pub(super) fn from_origin(
    connection: &Rc<Connection>,
    request: &HeaderMap,
    response: Response<Incoming>,
    keep: Option<(&Url, Moment)>,
    how: &'static str,
) -> Response<Answer> {
    let (mut parts, body) = response.into_parts();
    let now = clock::wall();
    // What ends with its connection may have been cut off.
    let length = body.size_hint().exact();
    let has_end = length.is_some() || parts.headers.contains_key(TRANSFER_ENCODING);
    let limits = &connection.proxy.settings.limits;
    let fits = length.is_none_or(|length| length <= limits.object as u64);
    arrived(&mut parts.headers, now);
    let collect = keep.filter(|_| has_end && fits).and_then(|(url, asked)| {
        let head = Head::of(url, request, (parts.status, &parts.headers), now)?;
        Some(Collect::new(connection, head, asked))
    });
    parts.headers.insert(X_CACHE, HeaderValue::from_static(how));
    add_via(&mut parts.headers, &connection.proxy.name);
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    Response::from_parts(parts, Answer::origin(Timed::new(body, limits.upstream), collect))
}

/// Whether a client wants an answer from the store or none (RFC 9111, section 5.2.1.7).
pub(super) fn only_if_cached(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(','));
    directives.any(|directive| directive.trim().eq_ignore_ascii_case("only-if-cached"))
}

/// The headers of a message as they are behind its connection, with a date (RFC 9110, section
/// 6.6.1).
fn arrived(headers: &mut HeaderMap, now: SystemTime) {
    remove_hop_by_hop(headers);
    if date(headers).is_none()
        && let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
    {
        headers.insert(DATE, now);
    }
}
