//! The request headers that choose among the representations of a URL (RFC 9111, section 4.1).

use http::header::{HeaderMap, HeaderName, HeaderValue, VARY};
use sha2::{Digest as _, Sha256};
use weir_state_transfer::wire::{Reader, WireError, Writer};

/// Names of one response at most; one with more is not kept.
const NAMES_MAX: usize = 16;
/// Bytes of a name, and of a value, at most.
const NAME_MAX: usize = 64;
const VALUE_MAX: usize = 8 << 10;

/// What a response says that it was chosen by, and what the request had of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selecting(Vec<(String, Option<Vec<u8>>)>);

impl Selecting {
    /// What `Vary` of a response names, of a request. None when it names more than is kept.
    pub(crate) fn of(response: &HeaderMap, request: &HeaderMap) -> Option<Self> {
        let lines = response.get_all(VARY).iter().map(|value| value.to_str().ok());
        let lines: Vec<&str> = lines.collect::<Option<_>>()?;
        let names = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(str::to_ascii_lowercase);
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let selecting =
            Self(names.into_iter().map(|name| (name.clone(), value(&name, request))).collect());
        selecting.fits().then_some(selecting)
    }

    /// What a request has of the same names.
    pub(crate) fn again(&self, request: &HeaderMap) -> Self {
        Self(self.0.iter().map(|(name, _)| (name.clone(), value(name, request))).collect())
    }

    /// A short name of it, of 32 digits; none of what has no names.
    pub(crate) fn variant(&self) -> Option<String> {
        let digest = Sha256::digest(Writer::bytes_of(|out| self.put(out)));
        let digits = digest[..16].iter().map(|byte| format!("{byte:02x}"));
        (!self.0.is_empty()).then(|| digits.collect())
    }

    /// Puts them into the headers of a request.
    pub(super) fn put_into(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            let name = HeaderName::try_from(name.as_str());
            let value = value.as_ref().map(|value| HeaderValue::from_bytes(value));
            if let (Ok(name), Some(Ok(value))) = (name, value) {
                headers.insert(name, value);
            }
        }
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        let sizes =
            self.0.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
        sizes.sum()
    }

    /// Appends it.
    pub(crate) fn put(&self, out: &mut Writer) {
        out.list(self.0.iter(), |out, (name, value)| {
            out.bytes(name.as_bytes());
            out.option(value.as_deref(), Writer::bytes);
        });
    }

    /// Takes it off the front of bytes.
    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let names = reader.list("selecting headers", NAMES_MAX, |reader| {
            let name = reader.text("name of a header", NAME_MAX)?.to_owned();
            let value =
                reader.option("value", |reader| reader.bytes("bytes of a value", VALUE_MAX))?;
            Ok((name, value.map(<[u8]>::to_vec)))
        })?;
        let selecting = Self(names);
        let in_order = selecting.0.is_sorted_by(|one, other| one.0 < other.0);
        let bad = WireError::BadField { what: "selecting header" };
        if in_order && selecting.fits() { Ok(selecting) } else { Err(bad) }
    }

    fn fits(&self) -> bool {
        let fits = |(name, value): &(String, Option<Vec<u8>>)| {
            let value = value.as_ref().is_none_or(|value| {
                value.len() <= VALUE_MAX && HeaderValue::from_bytes(value).is_ok()
            });
            let is_name =
                HeaderName::try_from(name.as_str()).is_ok_and(|parsed| parsed.as_str() == name);
            name.len() <= NAME_MAX && is_name && value
        };
        self.0.len() <= NAMES_MAX && self.0.iter().all(fits)
    }
}

/// All lines of a header as one.
fn value(name: &str, headers: &HeaderMap) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
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
    fn requests_that_agree_in_what_is_named_choose_the_same() {
        let response = headers(&[("vary", "Accept, accept-language"), ("vary", "accept")]);
        let request = headers(&[("accept", "a"), ("accept", "b"), ("cookie", "1")]);
        let chosen = Selecting::of(&response, &request).expect("few names");
        assert_eq!(chosen.again(&headers(&[("accept", "a, b"), ("cookie", "2")])), chosen);
        assert_ne!(chosen.again(&headers(&[("accept", "a")])), chosen);
        assert_ne!(chosen.again(&headers(&[("accept", "a, b"), ("accept-language", "")])), chosen);
        assert_eq!(chosen.variant().map(|name| name.len()), Some(32));
        let bytes = Writer::bytes_of(|out| chosen.put(out));
        assert_eq!(Reader::whole(&bytes, Selecting::take), Ok(chosen));
        assert_eq!(Selecting::default().variant(), None);
    }

    #[test]
    fn what_names_too_much_is_none() {
        let many: Vec<String> = (0..=NAMES_MAX).map(|number| format!("x-{number}")).collect();
        let mut response = HeaderMap::new();
        response.insert("vary", many.join(",").parse().expect("a value"));
        assert_eq!(Selecting::of(&response, &HeaderMap::new()), None);
        assert_eq!(Selecting::of(&headers(&[("vary", "a b")]), &HeaderMap::new()), None);
    }
}
