//! A cached response, and its form in a chunk.
//!
//! ```text
//! url | status 2 | selecting headers | headers: number, for each name, value | body
//! ```

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{AGE, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use weir_state_transfer::chunk::BODY_MAX;
use weir_state_transfer::flow_id::VALUE_MAX;
use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::freshness::{Freshness, age_at_arrival, date};
use super::selecting::Selecting;
use super::url::Url;

/// Header lines of an object at most; a response with more is not kept.
const LINES_MAX: usize = 256;
/// What is kept of an object besides what it consists of, in bytes, about.
const OVERHEAD: usize = 512;

/// A response that may be used again.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) url: Url,
    pub(crate) selecting: Selecting,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) freshness: Freshness,
    rank: Rank,
}

/// Which of two responses to the same request stays: the one that its origin made later, and of
/// those of the same second the one with the greater digest. So it does not matter in which order
/// copies come.
pub(crate) type Rank = (u64, [u8; 32]);

/// The head of a response that may become an object when its body is there.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    url: Url,
    selecting: Selecting,
    status: StatusCode,
    headers: HeaderMap,
    freshness: Freshness,
}

impl Head {
    /// The head of a response, without what concerns one connection only, if it may be kept.
    pub(crate) fn of(
        url: &Url,
        request: &HeaderMap,
        (status, headers): (StatusCode, &HeaderMap),
        now: SystemTime,
    ) -> Option<Self> {
        date(headers)?;
        let selecting = Selecting::of(headers, request)?;
        let age = age_at_arrival(headers, now);
        let freshness = Freshness::new(url, request, &selecting, (status, headers), (age, now));
        if headers.len() > LINES_MAX || !freshness.is_storable(headers, now) {
            return None;
        }
        let mut headers = headers.clone();
        headers.remove(AGE);
        // It is that of the body, whatever anybody says.
        headers.remove(CONTENT_LENGTH);
        Some(Self { url: url.clone(), selecting, status, headers, freshness })
    }

    /// The object that it is with its body, if it fits in a chunk.
    pub(crate) fn with_body(self, body: Bytes) -> Option<Object> {
        let Self { url, selecting, status, headers, freshness } = self;
        let mut object =
            Object { url, selecting, status, headers, body, freshness, rank: (0, [0; 32]) };
        let encoded = object.encode();
        object.rank = rank(&object.headers, &encoded);
        (encoded.len() <= BODY_MAX).then_some(object)
    }
}

impl Object {
    /// It with what a 304 says of it (RFC 9111, section 3.2), if it may still be kept.
    pub(crate) fn refreshed(
        &self,
        request: &HeaderMap,
        by: &HeaderMap,
        now: SystemTime,
    ) -> Option<Self> {
        let mut headers = self.headers.clone();
        let of_the_body = ["content-length", "content-encoding", "content-type", "content-range"];
        for name in by.keys().filter(|name| !of_the_body.contains(&name.as_str())) {
            headers.remove(name);
            by.get_all(name).iter().for_each(|value| {
                headers.append(name.clone(), value.clone());
            });
        }
        let head = Head::of(&self.url, request, (self.status, &headers), now)?;
        // What has chosen it has not changed.
        let head = Head { selecting: self.selecting.clone(), ..head };
        head.with_body(self.body.clone())
    }

    /// Which of two responses to the same request stays.
    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn size(&self) -> usize {
        let lines = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        // The headers are in its policy too.
        2 * lines.sum::<usize>()
            + self.url.as_str().len()
            + self.selecting.size()
            + self.body.len()
            + OVERHEAD
    }

    /// It as the body of a chunk. There is one form only.
    pub(crate) fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            out.bytes(self.url.as_str().as_bytes());
            out.u16(self.status.as_u16());
            self.selecting.put(out);
            let mut lines: Vec<_> = self.headers.iter().collect();
            lines.sort_by_key(|(name, _)| name.as_str());
            out.list(lines.into_iter(), |out, (name, value)| {
                out.bytes(name.as_str().as_bytes());
                out.bytes(value.as_bytes());
            });
            out.bytes(&self.body);
        })
    }

    /// The object of a chunk that is so old.
    pub(crate) fn take(
        reader: &mut Reader<'_>,
        encoded: &[u8],
        (age, now): (Duration, SystemTime),
    ) -> Result<Self, WireError> {
        let bad = |what| WireError::BadField { what };
        let url = Url::of_text(reader.text("bytes of a URL", VALUE_MAX)?).ok_or(bad("URL"))?;
        let status = StatusCode::from_u16(reader.u16()?).map_err(|_| bad("status"))?;
        let selecting = Selecting::take(reader)?;
        let lines = reader.list("header lines", LINES_MAX, take_line)?;
        let body = Bytes::copy_from_slice(reader.bytes("bytes of a body", BODY_MAX)?);
        if !lines.is_sorted_by_key(|(name, _)| name.as_str()) {
            return Err(bad("order of header lines"));
        }
        let mut headers = HeaderMap::with_capacity(lines.len());
        lines.into_iter().for_each(|(name, value)| {
            headers.append(name, value);
        });
        date(&headers).ok_or(bad("date"))?;
        // As its requests have chosen it, it is chosen by what is named.
        let same = Selecting::of(&headers, &HeaderMap::new()).ok_or(bad("vary"))?;
        if same.again(&HeaderMap::new()) != selecting.again(&HeaderMap::new()) {
            return Err(bad("selecting header"));
        }
        let of = (status, &headers);
        let freshness = Freshness::new(&url, &HeaderMap::new(), &selecting, of, (age, now));
        if !freshness.is_storable(&headers, freshness.born()) {
            return Err(bad("response that may be kept"));
        }
        let rank = rank(&headers, encoded);
        Ok(Self { url, selecting, status, headers, body, freshness, rank })
    }
}

fn take_line(reader: &mut Reader<'_>) -> Result<(HeaderName, HeaderValue), WireError> {
    let bad = WireError::BadField { what: "header line" };
    let name = reader.text("bytes of a name", 1 << 10)?;
    let value = reader.bytes("bytes of a value", BODY_MAX)?;
    let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::from_bytes(value).ok());
    // What concerns one connection would make others of it.
    let parsed = parsed.filter(|(parsed, _)| {
        let of_the_message = [AGE, CONTENT_LENGTH].contains(parsed);
        parsed.as_str() == name && !super::HOP_BY_HOP.contains(&name) && !of_the_message
    });
    parsed.ok_or(bad)
}

fn rank(headers: &HeaderMap, encoded: &[u8]) -> Rank {
    let made = date(headers).and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    (made.map_or(0, |time| time.as_secs()), Sha256::digest(encoded).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    /// An object of a URL, made so many seconds ago.
    pub(crate) fn object(url: &str, ago: u64, body: &[u8]) -> Object {
        let mut headers = HeaderMap::new();
        let made = httpdate::fmt_http_date(now() - Duration::from_secs(ago));
        headers.insert("date", made.parse().expect("a value"));
        headers.insert("etag", HeaderValue::from_static("\"1\""));
        headers.append("link", HeaderValue::from_static("<a>"));
        headers.append("link", HeaderValue::from_static("<b>"));
        headers.insert("cache-control", HeaderValue::from_static("max-age=600"));
        let url = Url::of_text(url).expect("a URL");
        let head = Head::of(&url, &HeaderMap::new(), (StatusCode::OK, &headers), now());
        head.expect("it may be kept").with_body(Bytes::copy_from_slice(body)).expect("it is small")
    }

    fn decoded(bytes: &[u8], age: Duration) -> Result<Object, WireError> {
        Reader::whole(bytes, |reader| Object::take(reader, bytes, (age, now())))
    }

    #[test]
    fn an_object_comes_back_as_it_was_with_its_age() {
        let object = object("http://a/b", 100, b"body");
        let age = object.freshness.age(now());
        assert_eq!(age, Duration::from_secs(100));
        let again = decoded(&object.encode(), age).expect("an object");
        assert_eq!((again.encode(), again.rank()), (object.encode(), object.rank()));
        assert_eq!(again.freshness.left(now()), Duration::from_secs(500));
        assert_eq!(again.headers.get_all("link").iter().count(), 2);
    }

    #[test]
    fn what_is_cut_off_or_can_not_be_is_refused() {
        let bytes = object("http://a/b", 0, b"body").encode();
        for length in 0..bytes.len() {
            assert!(decoded(&bytes[..length], Duration::ZERO).is_err(), "{length}");
        }
        let spoilt = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let place = bytes.windows(from.len()).position(|window| window == from.as_bytes());
            let mut spoilt = bytes.clone();
            let place = place.expect("it is there");
            spoilt[place..place + to.len()].copy_from_slice(to.as_bytes());
            decoded(&spoilt, Duration::ZERO).expect_err(to).to_string()
        };
        assert_eq!(spoilt("http://a/b", "HTTP://a/b"), "with a URL that there is none of");
        assert_eq!(
            spoilt("max-age=600", "no-store=1!"),
            "with a response that may be kept that there is none of"
        );
        assert_eq!(spoilt("link", "vary"), "with a order of header lines that there is none of");
        assert_eq!(spoilt("etag", "eTag"), "with a header line that there is none of");
    }

    #[test]
    fn random_bytes_are_never_a_panic() {
        let mut rng = weir_seed::rng();
        let bytes = object("http://a/b", 0, b"body").encode();
        for _ in 0..20_000 {
            let mut spoilt = bytes.clone();
            for _ in 0..rng.usize(1..4) {
                let place = rng.usize(..spoilt.len());
                spoilt[place] = rng.u8(..);
            }
            if let Ok(object) = decoded(&spoilt, Duration::from_nanos(rng.u64(..))) {
                assert_eq!(object.encode(), spoilt, "one form only");
            }
        }
    }

    #[test]
    fn a_304_replaces_what_it_says_and_no_property_of_the_body() {
        let object = object("http://a/b", 100, b"body");
        let mut by = HeaderMap::new();
        by.insert("date", httpdate::fmt_http_date(now()).parse().expect("a value"));
        by.insert("cache-control", HeaderValue::from_static("max-age=7"));
        by.insert("content-length", HeaderValue::from_static("999"));
        let fresh = object.refreshed(&HeaderMap::new(), &by, now()).expect("it may be kept");
        assert_eq!(fresh.freshness.left(now()), Duration::from_secs(7));
        assert_eq!(fresh.headers.get("content-length"), None);
        assert_eq!(fresh.headers.get("etag"), object.headers.get("etag"));
        assert!(fresh.rank() > object.rank());
    }
}
