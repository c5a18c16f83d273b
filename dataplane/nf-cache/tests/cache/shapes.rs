//! Requests that could be taken for two, for none, or for too much.

use std::net::SocketAddr;

use weir_nf_cache::Figure;

use crate::origin::{Origin, Reply, answer};
use crate::running::Running;

/// An origin of whose requests all that count are seen.
fn origin() -> Origin {
    Origin::start(|asked| {
        Reply::Bytes(answer("Cache-Control: no-store\r\n", asked.path().as_bytes()))
    })
}

/// What comes of bytes: the status and the name of the refusal, of the first answer.
fn sent(proxy: &Running, bytes: &[u8]) -> Option<(u16, String)> {
    let mut client = proxy.client();
    client.write(bytes);
    let answer = client.answer(false)?;
    Some((answer.status, answer.why().to_owned()))
}

fn asks(address: SocketAddr, lines: &str) -> Vec<u8> {
    format!("POST http://{address}/first HTTP/1.1\r\n{lines}").into_bytes()
}

#[test]
fn shapes_that_smuggle_are_refused() {
    let (origin, proxy) = (origin(), Running::plain(1));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let host = "Host: x\r\n";
    for (lines, status) in [
        (format!("{host}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc{smuggled}"), 400),
        (format!("{host}Content-Length: 3, 4\r\n\r\nabc{smuggled}"), 400),
        (format!("{host}Content-Length: +3\r\n\r\nabc{smuggled}"), 400),
        (format!("{host}Content-Length : 3\r\n\r\nabc{smuggled}"), 400),
        (format!("{host}Content-Length: -1\r\n\r\n{smuggled}"), 400),
        (format!("{host}Transfer-Encoding: identity\r\n\r\n{smuggled}"), 400),
        (format!("{host}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"), 400),
        (format!("{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"), 400),
        (format!("{host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"), 400),
        (format!("{host}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{smuggled}"), 400),
        (format!("{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{smuggled}"), 501),
        (
            format!(
                "{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            501,
        ),
        (format!("{host}X: a\r\n b\r\n\r\n{smuggled}"), 400),
        (format!("{host}X\r\n\r\n{smuggled}"), 400),
        (format!("{host}X: a\0b\r\n\r\n{smuggled}"), 400),
        (format!("{host}Host: y\r\n\r\n{smuggled}"), 400),
        (format!("\r\n{smuggled}"), 400),
    ] {
        let mut client = proxy.client();
        client.write(&asks(origin.address, &lines));
        let answer = client.answer(false).unwrap_or_else(|| panic!("no answer to {lines:?}"));
        assert_eq!(answer.status, status, "{lines:?}");
        assert!(client.is_over(), "the connection goes on behind {lines:?}");
    }
    assert_eq!(origin.count(), 0);
    assert_eq!(proxy.peer().figure(Figure::Refused), 17);
}

#[test]
fn an_answer_with_a_length_beside_an_encoding_is_not_passed_on() {
    let origin = Origin::start(|_| Reply::Bytes(split()));
    let proxy = Running::plain(1);
    let ask = format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.address);
    for _ in 0..2 {
        let (status, why) = sent(&proxy, ask.as_bytes()).expect("an answer");
        assert_eq!((status, why.as_str()), (502, "upstream-protocol"));
    }
}

/// An answer that ends in one place by its length, and in another by its encoding.
fn split() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}8\r\nabcdefgh\r\n0\r\n\r\n").into_bytes()
}

#[test]
fn an_origin_that_answers_with_a_length_beside_an_encoding_is_not_asked_again() {
    let origin = Origin::start(|asked| match asked.path().as_str() {
        "/plain" => Reply::Bytes(answer("Cache-Control: no-store\r\n", b"plain")),
        _ => Reply::Bytes(split()),
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    assert_eq!(client.get(&origin.url("/plain")).text(), "plain");
    assert_eq!(client.get(&origin.url("/split")).status, 502);
    assert_eq!(origin.count(), 2);
}

#[test]
fn an_answer_that_no_request_asked_for_is_not_passed_on() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let unchanged = "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n";
    let origin = Origin::start(move |asked| match asked.path().as_str() {
        "/plain" => Reply::Bytes(answer("Cache-Control: no-store\r\n", b"plain")),
        "/switching" => Reply::Bytes(switching.as_bytes().to_vec()),
        _ => Reply::Bytes(unchanged.as_bytes().to_vec()),
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    let upgrade = "Connection: upgrade\r\nUpgrade: x\r\n";
    for (path, lines) in [("/switching", ""), ("/switching", upgrade), ("/unchanged", "")] {
        let refused = client.ask(&origin.url(path), lines);
        assert_eq!((refused.status, refused.why()), (502, "upstream-protocol"), "{path}");
        // Over another connection: that one may go on with anything.
        assert_eq!(client.get(&origin.url("/plain")).text(), "plain");
    }
    for condition in ["If-None-Match: \"1\"", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"] {
        let told = client.ask(&origin.url("/unchanged"), &format!("{condition}\r\n"));
        assert_eq!(told.status, 304, "{condition}");
    }
}

#[test]
fn a_length_beside_an_encoding_makes_no_second_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let (origin, proxy) = (origin(), Running::plain(1));
        let mut client = proxy.client();
        let text = format!("Host: x\r\n{lines}\r\n3\r\nabc\r\n0\r\n\r\n{smuggled}");
        client.write(&asks(origin.address, &text));
        let answer = client.answer(false).expect("an answer");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_over());
        let asked = origin.asked();
        assert_eq!((asked.len(), &asked[0].body[..]), (1, &b"abc"[..]));
        assert_eq!(asked[0].headers.iter().filter(|(name, _)| name == "content-length").count(), 0);
    }
}

#[test]
fn targets_that_are_for_nobody_here_are_refused_by_name() {
    let (origin, proxy) = (origin(), Running::plain(1));
    let to = origin.address;
    for (line, status, why) in [
        ("GET /x HTTP/1.1\r\nHost: a\r\n".to_owned(), 400, "not-absolute"),
        (format!("GET https://{to}/ HTTP/1.1\r\nHost: a\r\n"), 400, "scheme"),
        (format!("GET http://u:p@{to}/ HTTP/1.1\r\nHost: a\r\n"), 400, "user-information"),
        (format!("GET http://{to}/ HTTP/1.1\r\n"), 400, "host"),
        (format!("TRACE http://{to}/ HTTP/1.1\r\nHost: a\r\n"), 501, "method"),
        (format!("GET http://{to}/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 weir-cache-1\r\n"), 508, "loop"),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n".to_owned(), 400, "connect-target"),
    ] {
        let got = sent(&proxy, format!("{line}\r\n").as_bytes());
        let (found, name) = got.unwrap_or_else(|| panic!("no answer to {line:?}"));
        assert_eq!((found, &*name), (status, why), "{line:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_request_may_count_the_hops_down_to_the_proxy() {
    let (origin, proxy) = (origin(), Running::plain(1));
    let mut client = proxy.client();
    let ask = |hops: u32| {
        let url = origin.url("/o");
        format!("OPTIONS {url} HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\n\r\n").into_bytes()
    };
    client.write(&ask(0));
    assert_eq!((client.answer(false).expect("an answer").status, origin.count()), (200, 0));
    client.write(&ask(3));
    client.answer(false).expect("an answer");
    assert_eq!(origin.asked()[0].header("max-forwards"), Some("2"));
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let (origin, proxy) = (origin(), Running::plain(1));
    let long =
        format!("GET {} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", origin.url("/"), "x".repeat(40_000));
    assert_eq!(sent(&proxy, long.as_bytes()).map(|(status, _)| status), Some(431));
    let many =
        format!("GET {} HTTP/1.1\r\nHost: a\r\n{}\r\n", origin.url("/"), "X: y\r\n".repeat(300));
    assert_eq!(sent(&proxy, many.as_bytes()).map(|(status, _)| status), Some(431));
    let lies = Origin::start(|_| {
        Reply::Last(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000)).into_bytes())
    });
    let answer = proxy.client().get(&lies.url("/"));
    assert_eq!((answer.status, answer.why()), (502, "upstream-protocol"));
    assert_eq!(origin.count(), 0);
}

/// Bytes with which no address or name of a host goes on (RFC 3986 §3.2.2), and that end none.
const NOT_IN_ADDRESSES: &[u8] = b"\0\x01\t\n\r \"<>\\^`{|}\x7f\x80\xc3\xff";

#[test]
fn random_bytes_end_their_connection_and_nothing_else() {
    let mut rng = weir_seed::rng();
    let (origin, proxy) = (origin(), Running::plain(1));
    let (before, to) = ("POST http://", format!("{}/", origin.address));
    let good = format!(
        "{before}{to}r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    );
    let to = before.len()..before.len() + to.len();
    for _ in 0..300 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..rng.usize(1..5) {
            let place = rng.usize(..bytes.len());
            // Where it says whom to ask, bytes that are in no address: others may be there.
            bytes[place] = if to.contains(&place) {
                *rng.choice(NOT_IN_ADDRESSES).expect("some")
            } else {
                rng.u8(..)
            };
        }
        let mut client = proxy.client();
        // It may have ended already.
        let _written = std::io::Write::write_all(client.0.get_mut(), &bytes);
        let _ended = client.0.get_mut().shutdown(std::net::Shutdown::Write);
        while client.answer(false).is_some() {}
    }
    assert_eq!(proxy.client().get(&origin.url("/after")).text(), "/after");
}
