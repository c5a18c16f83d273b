//! The URLs of objects, in one form each.

use std::fmt;
use std::rc::Rc;

use http::Uri;
use weir_state_transfer::flow_id::{Extra, VALUE_MAX};

/// The URL of an object, in the one form that it is looked up by: the host in lower case, without
/// the port that it has by default (RFC 9110, section 4.2.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Url {
    text: Rc<str>,
    /// Where the host ends, behind `http://`.
    host_end: usize,
}

const SCHEME: &str = "http://";

impl Url {
    /// The URL of a request in absolute form. None when it can not be in a flow id, as it has more
    /// than 1,024 bytes or a double quote: no such object is kept.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let host = uri.host()?.to_ascii_lowercase();
        let port = uri.port_u16().filter(|port| *port != 80);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let slash = if path.starts_with('/') { "" } else { "/" };
        let text = format!("{SCHEME}{host}{port}{slash}{path}");
        let fits = text.len() <= VALUE_MAX && Extra::new("http.url", &text).is_ok();
        (fits && !host.is_empty() && text.parse::<Uri>().is_ok())
            .then(|| Self { host_end: SCHEME.len() + host.len(), text: text.into() })
    }

    /// The URL that a text is, if it is in that form.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_http = uri.scheme_str() == Some("http");
        Self::of(&uri).filter(|url| is_http && &*url.text == text)
    }

    /// It as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host.
    pub(crate) fn host(&self) -> &str {
        &self.text[SCHEME.len()..self.host_end]
    }

    /// It as the target of a request.
    pub(crate) fn uri(&self) -> Uri {
        self.text.parse().expect("it was parsed when it was made")
    }

    /// The URL that a reference is to, seen from this one, if it is of the same host
    /// (RFC 9111, section 4.4).
    pub(crate) fn same_host(&self, reference: &str) -> Option<Self> {
        let text = match reference.strip_prefix('/') {
            Some(rest) if !rest.starts_with('/') => {
                let origin_end = self.text[self.host_end..].find('/')? + self.host_end;
                format!("{}{reference}", &self.text[..origin_end])
            }
            _ => reference.to_owned(),
        };
        let uri: Uri = text.parse().ok()?;
        Self::of(&uri).filter(|url| uri.scheme_str() == Some("http") && url.host() == self.host())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::of(&text.parse().expect("a URI")).expect("a URL")
    }

    #[test]
    fn what_is_the_same_has_one_form() {
        for text in ["http://Example.ORG", "http://example.org:80/", "http://example.org/"] {
            assert_eq!(url(text).as_str(), "http://example.org/");
        }
        assert_eq!(url("http://a:8080/B?c=/D").as_str(), "http://a:8080/B?c=/D");
        assert_eq!(url("http://a:8080/B").host(), "a");
        assert_eq!(url("http://[::1]:81/x").host(), "[::1]");
        assert_eq!(url("http://a?q").as_str(), "http://a/?q");
        assert_eq!(Url::of_text("http://a/b"), Some(url("http://a/b")));
        assert_eq!(Url::of_text("http://A/b"), None);
        assert_eq!(Url::of_text("https://a/b"), None);
    }

    #[test]
    fn what_can_not_be_in_a_flow_id_is_none() {
        let long = format!("http://a/{}", "x".repeat(VALUE_MAX));
        assert_eq!(Url::of(&long.parse().expect("a URI")), None);
        assert_eq!(Url::of(&"/a".parse().expect("a URI")), None);
    }

    #[test]
    fn a_reference_is_followed_to_the_same_host_only() {
        let from = url("http://a:81/b/c");
        assert_eq!(from.same_host("/d").map(|u| u.to_string()), Some("http://a:81/d".into()));
        assert_eq!(
            from.same_host("http://a:81/e").map(|u| u.to_string()),
            Some("http://a:81/e".into())
        );
        assert_eq!(from.same_host("http://b/e"), None);
        assert_eq!(from.same_host("//b/e"), None);
        assert_eq!(from.same_host("\u{7f}"), None);
    }
}
