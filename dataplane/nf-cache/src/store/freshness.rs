//! How RFC 9111 is asked about a response: `http-cache-semantics` decides, over headers in the form
//! that it reads.

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, DATE, ETAG, HOST, HeaderMap, HeaderValue, LAST_MODIFIED,
    PRAGMA, VARY,
};
use http::{Request, Response, StatusCode};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};

use super::selecting::Selecting;
use super::url::Url;

/// The greatest age that there is (RFC 9111, section 1.2.2).
const AGE_MAX: Duration = Duration::from_secs(1 << 31);

/// Whether, and until when, a response may be used again.
#[derive(Clone, Debug)]
pub(crate) struct Freshness {
    policy: CachePolicy,
    /// When the origin made the response, by the clock here.
    born: SystemTime,
}

impl Freshness {
    /// Of a response that is so old now.
    pub(crate) fn new(
        url: &Url,
        request: &HeaderMap,
        selecting: &Selecting,
        (status, headers): (StatusCode, &HeaderMap),
        (age, now): (Duration, SystemTime),
    ) -> Self {
        let born = now.checked_sub(age.min(AGE_MAX)).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = normal(headers);
        // Its age is in `born`. The variant is chosen by who looks it up.
        response.headers_mut().remove(AGE);
        let of = asked(url, request, selecting);
        let policy = CachePolicy::new_options(&of, &response, born, CacheOptions::default());
        Self { policy, born }
    }

    /// Whether a shared cache may keep it, and could make use of it later.
    pub(crate) fn is_storable(&self, headers: &HeaderMap, now: SystemTime) -> bool {
        let can_be_asked_about = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
        let all = headers.get_all(VARY).iter().any(|value| value.as_bytes().contains(&b'*'));
        !all && self.policy.is_storable() && (can_be_asked_about || self.left(now) > Duration::ZERO)
    }

    /// Whether it may answer a request without its origin.
    pub(crate) fn satisfies(
        &self,
        url: &Url,
        request: &HeaderMap,
        selecting: &Selecting,
        now: SystemTime,
    ) -> bool {
        let asked = asked(url, request, selecting);
        matches!(self.policy.before_request(&asked, now), BeforeRequest::Fresh(_))
    }

    /// How old it is.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.born).unwrap_or_default()
    }

    /// How long it is fresh yet.
    pub(crate) fn left(&self, now: SystemTime) -> Duration {
        self.policy.time_to_live(now)
    }

    /// When it was made, by the clock here.
    pub(crate) fn born(&self) -> SystemTime {
        self.born
    }
}

/// How old a response is that has just come (RFC 9111, section 4.2.3).
pub(crate) fn age_at_arrival(headers: &HeaderMap, now: SystemTime) -> Duration {
    let value = headers.get(AGE).and_then(|value| value.to_str().ok());
    let told =
        value.and_then(|text| text.trim().parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    let apparent = date(headers).and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    told.max(apparent).min(AGE_MAX)
}

/// When a response says that it was made.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()
}

/// A request as the policy reads it.
fn asked(url: &Url, headers: &HeaderMap, selecting: &Selecting) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = url.uri();
    let own = request.headers_mut();
    for (name, value) in normal(headers) {
        if let Some(name) =
            name.filter(|name| [CACHE_CONTROL, PRAGMA, AUTHORIZATION].contains(name))
        {
            own.insert(name, value);
        }
    }
    own.remove(HOST);
    selecting.put_into(own);
    request
}

/// Headers whose directives are in lower case and in one line, as they may be in any
/// (RFC 9111, section 5.2), without `max-stale`, which a cache need not heed.
fn normal(headers: &HeaderMap) -> HeaderMap {
    let mut normal = headers.clone();
    for name in [CACHE_CONTROL, PRAGMA] {
        let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        let text = String::from_utf8_lossy(&lines.join(&b","[..])).to_ascii_lowercase();
        let directives = text.split(',').map(str::trim);
        let kept: Vec<_> = directives.filter(|text| !text.starts_with("max-stale")).collect();
        normal.remove(&name);
        if let Ok(value) = HeaderValue::from_str(&kept.join(", "))
            && !lines.is_empty()
        {
            normal.insert(name, value);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().expect("a value"))
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            map.append(name, value);
        }
        map
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn fresh(request: &[(&'static str, &str)], response: &[(&'static str, &str)]) -> (bool, bool) {
        let url = Url::of_text("http://a/").expect("a URL");
        let (request, response) = (headers(request), headers(response));
        let none = Selecting::default();
        let of = (StatusCode::OK, &response);
        let age = age_at_arrival(&response, now());
        let freshness = Freshness::new(&url, &HeaderMap::new(), &none, of, (age, now()));
        let later = now() + Duration::from_secs(10);
        (freshness.is_storable(&response, now()), freshness.satisfies(&url, &request, &none, later))
    }

    #[test]
    fn responses_are_kept_and_used_as_the_rfc_says() {
        for (request, response, expected) in [
            (vec![], vec![("cache-control", "max-age=60")], (true, true)),
            (vec![], vec![("cache-control", "Max-Age=60")], (true, true)),
            (vec![], vec![("cache-control", "max-age=5")], (true, false)),
            (vec![], vec![("cache-control", "max-age=60"), ("age", "55")], (true, false)),
            (vec![], vec![("cache-control", "s-maxage=60, max-age=0")], (true, true)),
            (vec![], vec![("cache-control", "NO-STORE, max-age=60")], (false, true)),
            (
                vec![],
                vec![("cache-control", "max-age=60"), ("cache-control", "private")],
                (false, false),
            ),
            (vec![], vec![("cache-control", "no-cache"), ("etag", "\"1\"")], (true, false)),
            (vec![], vec![("expires", "0"), ("etag", "\"1\"")], (true, false)),
            (vec![], vec![("expires", "Tue, 14 Nov 2023 22:14:20 GMT")], (true, true)),
            (vec![], vec![("expires", "Tue, 14 Nov 2023 22:13:25 GMT")], (true, false)),
            (vec![], vec![], (false, false)),
            (vec![], vec![("vary", "*"), ("cache-control", "max-age=60")], (false, false)),
            (
                vec![("cache-control", "no-cache")],
                vec![("cache-control", "max-age=60")],
                (true, false),
            ),
            (
                vec![("cache-control", "Max-Age=5")],
                vec![("cache-control", "max-age=60")],
                (true, false),
            ),
            (vec![("pragma", "no-cache")], vec![("cache-control", "max-age=60")], (true, false)),
            (
                vec![("cache-control", "min-fresh=55")],
                vec![("cache-control", "max-age=60")],
                (true, false),
            ),
            (
                vec![("cache-control", "max-stale")],
                vec![("cache-control", "max-age=5")],
                (true, false),
            ),
        ] {
            let (storable, used) = fresh(&request, &response);
            // What is not kept is not used.
            let used = used && storable;
            let expected = (expected.0, expected.0 && expected.1);
            assert_eq!((storable, used), expected, "{request:?} {response:?}");
        }
    }

    #[test]
    fn ages_that_can_not_be_are_bounded() {
        let most = u64::MAX.to_string();
        for age in [&most[..], "99999999999999999999999", "-1", "x", ""] {
            assert!(age_at_arrival(&headers(&[("age", age)]), now()) <= AGE_MAX, "{age}");
            let response = [("age", age), ("cache-control", "max-age=18446744073709551615")];
            let (storable, _) = fresh(&[], &response);
            assert!(storable, "{age}");
        }
    }
}
