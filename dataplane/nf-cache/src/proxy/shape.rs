//! Requests that could be taken for something else than they are, and what the others ask for.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{Method, Uri, request};

use super::refusal::Refusal;

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A URL of an origin: host and port, and both as `Host` has them.
    Origin {
        /// Where to connect to.
        address: (String, u16),
        /// The authority of the URL.
        authority: String,
    },
    /// A tunnel to a host and port.
    Tunnel(String, u16),
}

/// What a request is for, if it has a shape that nobody takes for another.
///
/// hyper has refused before what is no HTTP: lengths that differ, encodings that do not end with
/// `chunked`, names with spaces, lines that go on in the next one. Where both a length and an
/// encoding are there it goes by the encoding, takes the length away and ends the connection, as
/// RFC 9112 has it in section 6.1.
pub(crate) fn target(parts: &request::Parts) -> Result<Target, Refusal> {
    let headers = &parts.headers;
    let encodings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    if !encodings.is_empty() && headers.contains_key(http::header::CONTENT_LENGTH) {
        return Err(Refusal::LengthAndEncoding);
    }
    let is_plain =
        |value: &&http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if encodings.len() > 1 || !encodings.iter().all(is_plain) {
        return Err(Refusal::Encoding);
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version == http::Version::HTTP_11) {
        return Err(Refusal::Host);
    }
    if parts.method == Method::CONNECT { tunnel(&parts.uri) } else { origin(&parts.uri) }
}

fn tunnel(uri: &Uri) -> Result<Target, Refusal> {
    let authority = uri.authority().filter(|_| uri.scheme().is_none());
    let authority = authority.filter(|authority| !authority.as_str().contains('@'));
    let port = authority.and_then(Authority::port_u16).filter(|port| *port != 0);
    let (authority, port) = authority.zip(port).ok_or(Refusal::ConnectTarget)?;
    Ok(Target::Tunnel(plain(authority.host()), port))
}

fn origin(uri: &Uri) -> Result<Target, Refusal> {
    let scheme = uri.scheme().ok_or(Refusal::NotAbsolute)?;
    if *scheme != Scheme::HTTP {
        return Err(Refusal::Scheme);
    }
    let authority = uri.authority().ok_or(Refusal::NotAbsolute)?;
    if authority.as_str().contains('@') {
        return Err(Refusal::UserInformation);
    }
    let port = match authority.port() {
        None => 80,
        Some(port) => Some(port.as_u16()).filter(|port| *port != 0).ok_or(Refusal::NotAbsolute)?,
    };
    if authority.host().is_empty() {
        return Err(Refusal::NotAbsolute);
    }
    let address = (plain(authority.host()), port);
    Ok(Target::Origin { address, authority: authority.as_str().to_ascii_lowercase() })
}

/// A host without the brackets of an IPv6 address.
fn plain(host: &str) -> String {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: &str, uri: &str, lines: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn targets_are_told_apart() {
        let host = [("host", "x")];
        let origin = |address: &str, port, authority: &str| Target::Origin {
            address: (address.into(), port),
            authority: authority.into(),
        };
        assert_eq!(target(&parts("GET", "http://A.b/c", &host)), Ok(origin("a.b", 80, "a.b")));
        assert_eq!(
            target(&parts("GET", "http://[::1]:81/", &host)),
            Ok(origin("::1", 81, "[::1]:81"))
        );
        assert_eq!(
            target(&parts("CONNECT", "a.b:443", &host)),
            Ok(Target::Tunnel("a.b".into(), 443))
        );
    }

    #[test]
    fn shapes_that_may_mean_two_things_are_refused_by_name() {
        let host = ("host", "x");
        let chunked = ("transfer-encoding", "chunked");
        for (method, uri, lines, refusal) in [
            ("GET", "/c", vec![host], Refusal::NotAbsolute),
            ("GET", "https://a/", vec![host], Refusal::Scheme),
            ("GET", "ftp://a/", vec![host], Refusal::Scheme),
            ("GET", "http://u:p@a/", vec![host], Refusal::UserInformation),
            ("GET", "http://a:0/", vec![host], Refusal::NotAbsolute),
            ("GET", "http://a/", vec![], Refusal::Host),
            ("GET", "http://a/", vec![host, host], Refusal::Host),
            (
                "POST",
                "http://a/",
                vec![host, chunked, ("content-length", "3")],
                Refusal::LengthAndEncoding,
            ),
            (
                "POST",
                "http://a/",
                vec![host, ("transfer-encoding", "gzip, chunked")],
                Refusal::Encoding,
            ),
            ("POST", "http://a/", vec![host, chunked, chunked], Refusal::Encoding),
            ("CONNECT", "a.b", vec![host], Refusal::ConnectTarget),
            ("CONNECT", "u@a.b:443", vec![host], Refusal::ConnectTarget),
            ("CONNECT", "a.b:0", vec![host], Refusal::ConnectTarget),
            ("CONNECT", "http://a.b:443/", vec![host], Refusal::ConnectTarget),
        ] {
            assert_eq!(
                target(&parts(method, uri, &lines)),
                Err(refusal),
                "{method} {uri} {lines:?}"
            );
        }
    }
}
