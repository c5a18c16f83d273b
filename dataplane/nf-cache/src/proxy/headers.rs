//! Headers on their way through: what concerns one connection stays, `Via` and others are added.

use http::header::{
    CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, MAX_FORWARDS, RANGE, VIA,
};

use crate::store::{HOP_BY_HOP, Url};

/// How an answer came about.
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
/// Why there is none (RFC 9209).
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Removes what concerns one connection only, what `Connection` names too (RFC 9110, section 7.6.1).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    let named = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    for name in named.map(|name| name.trim().to_ascii_lowercase()) {
        headers.remove(name.as_str());
    }
    HOP_BY_HOP.iter().for_each(|name| {
        headers.remove(*name);
    });
}

/// Says that a message has come by here (RFC 9110, section 7.6.3).
pub(crate) fn add_via(headers: &mut HeaderMap, name: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("1.1 {name}")) {
        headers.append(VIA, value);
    }
}

/// Whether a message has come by here.
pub(crate) fn has_via(headers: &HeaderMap, name: &str) -> bool {
    let lines = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    let mut hops = lines.flat_map(|line| line.split(','));
    hops.any(|hop| hop.split_whitespace().nth(1) == Some(name))
}

/// The headers of a request as its origin gets them.
pub(crate) fn to_origin(headers: &HeaderMap, url_host: &HeaderValue, via: &str) -> HeaderMap {
    let mut headers = headers.clone();
    remove_hop_by_hop(&mut headers);
    // The proxy has said already that the body may come.
    headers.remove(EXPECT);
    headers.insert(HOST, url_host.clone());
    add_via(&mut headers, via);
    headers
}

/// Whether a request asks for something else than a whole representation, or only under a
/// condition that is not for caches: it is for the origin.
pub(crate) fn is_for_origin(headers: &HeaderMap) -> bool {
    [RANGE, IF_RANGE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| headers.contains_key(name))
}

/// Asks whether an object is still what its origin has (RFC 9111, section 4.3.1).
pub(crate) fn ask_about(headers: &mut HeaderMap, object: &HeaderMap) {
    for (condition, validator) in [(IF_NONE_MATCH, "etag"), (IF_MODIFIED_SINCE, "last-modified")] {
        headers.remove(&condition);
        if let Some(value) = object.get(validator) {
            headers.insert(condition, value.clone());
        }
    }
}

/// Whether a client has an object already, as it says (RFC 9111, section 4.3.2).
pub(crate) fn has_it(request: &HeaderMap, object: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let tag = object.get("etag").and_then(|value| value.to_str().ok()).map(weak);
        let lines = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut tags = lines.flat_map(|line| line.split(',')).map(|tag| weak(tag.trim()));
        return tags.any(|other| other == "*" || Some(other) == tag);
    }
    let time = |headers: &HeaderMap, name: HeaderName| {
        let text = headers.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(text).ok()
    };
    let since = time(request, IF_MODIFIED_SINCE);
    let modified = time(object, http::header::LAST_MODIFIED);
    since.zip(modified).is_some_and(|(since, modified)| modified <= since)
}

/// Counts the hops down that a request may go yet; whether it may go none (RFC 9110, section 7.6.2).
pub(crate) fn is_for_here(headers: &mut HeaderMap) -> bool {
    let value = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok());
    let Some(left) = value.and_then(|text| text.trim().parse::<u32>().ok()) else { return false };
    if left > 0 {
        headers.insert(MAX_FORWARDS, (left - 1).into());
    }
    left == 0
}

/// The origin of a URL as `Host` has it.
pub(crate) fn host_of(authority: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(authority).ok()
}

/// URLs that an answer says to have changed too, of the same host (RFC 9111, section 4.4).
pub(crate) fn changed_too(url: &Url, answer: &HeaderMap) -> Vec<Url> {
    let values = ["location", "content-location"].into_iter().filter_map(|name| answer.get(name));
    values.filter_map(|value| url.same_host(value.to_str().ok()?)).collect()
}

/// A tag without the mark that it is weak.
fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn what_concerns_one_connection_stays_on_it() {
        let mut map = headers(&[
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("keep-alive", "9"),
            ("te", "trailers"),
            ("proxy-authorization", "secret"),
            ("upgrade", "h2c"),
            ("accept", "a"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("accept", "a")]));
        assert!(has_via(&headers(&[("via", "1.0 a, 1.1 me (x)")]), "me"));
        assert!(!has_via(&headers(&[("via", "1.1 me-too")]), "me"));
    }

    #[test]
    fn a_client_has_an_object_when_its_condition_says_so() {
        let object =
            headers(&[("etag", "W/\"1\""), ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT")]);
        for (request, expected) in [
            (("if-none-match", "\"0\", \"1\""), true),
            (("if-none-match", "*"), true),
            (("if-none-match", "\"2\""), false),
            (("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT"), true),
            (("if-modified-since", "Tue, 14 Nov 2023 22:13:19 GMT"), false),
            (("if-modified-since", "soon"), false),
        ] {
            assert_eq!(has_it(&headers(&[request]), &object), expected, "{request:?}");
        }
        // A tag decides where there is one.
        let both =
            [("if-none-match", "\"2\""), ("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT")];
        assert!(!has_it(&headers(&both), &object));
    }
}
