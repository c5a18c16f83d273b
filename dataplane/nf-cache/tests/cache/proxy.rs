//! What the proxy answers, and what it asks origins.

use std::sync::atomic::{AtomicU32, Ordering};

use weir_nf_cache::Figure;
use weir_state_transfer::chunk::Scope;

use crate::origin::{Asked, Origin, Reply, answer};
use crate::running::Running;

#[test]
fn a_second_request_is_answered_from_the_store() {
    let (origin, proxy) = (Origin::plain(), Running::plain(1));
    let mut client = proxy.client();
    let first = client.get(&origin.url("/a/1000"));
    assert_eq!((first.status, first.how(), first.body.len()), (200, "miss", 1_000));
    // Another connection, and another spelling of the same.
    let second = proxy.client().get(&format!("http://127.0.0.1:{}/a/1000", origin.address.port()));
    assert_eq!((second.status, second.how(), &second.body), (200, "hit", &first.body));
    assert!(second.header("age").is_some() && first.header("age").is_none());
    assert_eq!(second.header("via"), Some("1.1 weir-cache-1"));
    assert_eq!(origin.count(), 1);
    let asked = &origin.asked()[0];
    assert_eq!(asked.header("via"), Some("1.1 weir-cache-1"));
    assert_eq!(asked.header("host"), Some(&*origin.address.to_string()));
    let statistics = proxy.peer().statistics();
    let figures =
        [Figure::Requests, Figure::Hits, Figure::Misses, Figure::Stored, Figure::HitBytes];
    assert_eq!(figures.map(|figure| statistics.value(figure)), [2, 1, 1, 1, 1_000]);
}

#[test]
fn head_is_answered_from_what_get_has_stored() {
    let (origin, proxy) = (Origin::plain(), Running::plain(1));
    let mut client = proxy.client();
    client.get(&origin.url("/a/1000"));
    client.write(format!("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/a/1000")).as_bytes());
    let head = client.answer(true).expect("an answer");
    assert_eq!((head.how(), head.header("content-length")), ("hit", Some("1000")));
    // The connection goes on behind it.
    assert_eq!(client.get(&origin.url("/a/1000")).how(), "hit");
}

#[test]
fn head_of_what_is_not_stored_is_passed_on_with_its_length() {
    let origin = Origin::start(|asked| {
        let whole = answer("Cache-Control: max-age=600\r\n", &[b'x'; 1_000]);
        let head = if asked.line.starts_with("HEAD") { whole.len() - 1_000 } else { whole.len() };
        Reply::Bytes(whole[..head].to_vec())
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    for _ in 0..2 {
        let line = format!("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/"));
        client.write(line.as_bytes());
        let head = client.answer(true).expect("an answer");
        assert_eq!((head.how(), head.header("content-length")), ("miss", Some("1000")));
    }
    assert_eq!(client.get(&origin.url("/")).body.len(), 1_000);
}

#[test]
fn a_stale_object_is_asked_about_and_served_again() {
    let origin = Origin::start(|asked| match asked.header("if-none-match") {
        Some("\"v1\"") => {
            Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nX-New: 1\r\n\r\n".to_vec())
        }
        _ => Reply::Bytes(answer("Cache-Control: max-age=0\r\nETag: \"v1\"\r\n", b"body")),
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    assert_eq!(client.get(&origin.url("/")).how(), "miss");
    let again = client.get(&origin.url("/"));
    assert_eq!((again.status, again.how(), again.text()), (200, "revalidated", "body".into()));
    assert_eq!(again.header("x-new"), Some("1"));
    // A client that has it gets no body.
    let same = client.ask(&origin.url("/"), "If-None-Match: \"v1\"\r\n");
    assert_eq!((same.status, same.how()), (304, "revalidated"));
    assert_eq!(proxy.peer().figure(Figure::Revalidated), 2);
}

#[test]
fn a_stale_object_makes_way_for_what_the_origin_has_now() {
    let version = AtomicU32::new(0);
    let origin = Origin::start(move |_| {
        let version = version.fetch_add(1, Ordering::Relaxed);
        let age = if version == 0 { 0 } else { 600 };
        let lines = format!("Cache-Control: max-age={age}\r\nETag: \"{version}\"\r\n");
        Reply::Bytes(answer(&lines, format!("v{version}").as_bytes()))
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    let answers = [0; 3].map(|_| client.get(&origin.url("/")));
    let seen: Vec<_> = answers.iter().map(|answer| (answer.how(), answer.text())).collect();
    assert_eq!(seen, [("miss", "v0".into()), ("miss", "v1".into()), ("hit", "v1".into())]);
    assert_eq!(origin.asked()[1].header("if-none-match"), Some("\"0\""));
}

#[test]
fn a_client_that_has_an_object_gets_no_body() {
    let (origin, proxy) = (Origin::plain(), Running::plain(1));
    let mut client = proxy.client();
    client.get(&origin.url("/a/100"));
    let answer = client.ask(&origin.url("/a/100"), "If-None-Match: W/\"1\"\r\n");
    assert_eq!((answer.status, answer.how(), answer.body.len()), (304, "hit", 0));
    let answer = client.ask(&origin.url("/a/100"), "If-None-Match: \"2\"\r\n");
    assert_eq!((answer.status, answer.body.len()), (200, 100));
}

#[test]
fn variants_are_kept_apart_by_what_vary_names() {
    let origin = Origin::start(|asked| {
        let language = asked.header("accept-language").unwrap_or("none").to_owned();
        Reply::Bytes(answer(
            "Cache-Control: max-age=600\r\nVary: Accept-Language\r\n",
            language.as_bytes(),
        ))
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    let mut get = |language: &str| {
        let answer = client.ask(&origin.url("/"), &format!("Accept-Language: {language}\r\n"));
        (answer.how().to_owned(), answer.text())
    };
    for (language, how) in [("en", "miss"), ("de", "miss"), ("en", "hit"), ("de", "hit")] {
        assert_eq!(get(language), (how.to_owned(), language.to_owned()));
    }
    let chunks = proxy.peer().get(Scope::MultiFlow, "any");
    assert_eq!(chunks.len(), 2);
    assert!(chunks.iter().all(|chunk| chunk.id.to_string().contains("cache.variant=")));
}

#[test]
fn chunked_answers_are_streamed_and_kept() {
    let origin = Origin::start(|_| {
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::Bytes(
            format!("{head}5\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n").into_bytes(),
        )
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    assert_eq!(client.get(&origin.url("/")).text(), "hello world");
    let again = client.get(&origin.url("/"));
    assert_eq!((again.how(), again.text()), ("hit", "hello world".into()));
    assert_eq!(again.header("content-length"), Some("11"));
    // HTTP/1.0 knows no chunks.
    client.write(format!("GET {} HTTP/1.0\r\n\r\n", origin.url("/?other")).as_bytes());
    let old = client.answer(false).expect("an answer");
    assert_eq!((old.text(), old.header("transfer-encoding")), ("hello world".into(), None));
}

#[test]
fn what_may_not_be_kept_is_not() {
    let origin = Origin::start(|asked| {
        let lines = match asked.path().as_str() {
            "/no-store" => "Cache-Control: No-Store, max-age=600\r\n",
            "/private" => "Cache-Control: private, max-age=600\r\n",
            "/star" => "Cache-Control: max-age=600\r\nVary: *\r\n",
            "/cookie" => "Cache-Control: max-age=600\r\nSet-Cookie: a=1\r\n",
            _ => "Cache-Control: max-age=600\r\n",
        };
        Reply::Bytes(answer(lines, b"x"))
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    for (path, lines) in [
        ("/no-store", ""),
        ("/private", ""),
        ("/star", ""),
        ("/cookie", ""),
        ("/asked", "Cache-Control: no-store\r\n"),
        ("/secret", "Authorization: Basic eDp5\r\n"),
        ("/\"quoted\"", ""),
    ] {
        let answers = [0; 2].map(|_| client.ask(&origin.url(path), lines));
        assert!(answers.iter().all(|answer| answer.how() != "hit"), "{path}");
    }
    let long = format!("/{}", "x".repeat(2_000));
    assert_eq!([0; 2].map(|_| client.get(&origin.url(&long)).how() == "hit"), [false, false]);
}

#[test]
fn an_unsafe_method_invalidates_what_it_is_about_and_what_the_answer_names() {
    let origin = Origin::start(|asked| {
        if asked.line.starts_with("POST") {
            return Reply::Bytes(answer("Content-Location: /other\r\n", &asked.body));
        }
        Reply::Bytes(answer("Cache-Control: max-age=600\r\n", b"x"))
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    let paths = ["/", "/other", "/third"];
    paths.iter().for_each(|path| drop(client.get(&origin.url(path))));
    client.write(
        format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", origin.url("/"))
            .as_bytes(),
    );
    let posted = client.answer(false).expect("an answer");
    assert_eq!((posted.how(), posted.text()), ("pass", "body".into()));
    let how = paths.map(|path| client.get(&origin.url(path)).how().to_owned());
    assert_eq!(how, ["miss", "miss", "hit"]);
    assert_eq!(proxy.peer().figure(Figure::Invalidated), 2);
}

#[test]
fn ranges_and_conditions_of_the_origin_are_passed_on() {
    let origin = Origin::start(|_| {
        let head = "HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=600\r\n";
        Reply::Bytes(
            format!("{head}Content-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\nx").into_bytes(),
        )
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    for lines in ["Range: bytes=0-0\r\n", "If-Match: \"1\"\r\n"] {
        for _ in 0..2 {
            assert_eq!(client.ask(&origin.url("/"), lines).how(), "pass");
        }
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn a_client_that_wants_only_what_is_cached_gets_that_or_a_refusal() {
    let (origin, proxy) = (Origin::plain(), Running::plain(1));
    let mut client = proxy.client();
    let only = "Cache-Control: only-if-cached\r\n";
    let answer = client.ask(&origin.url("/a/9"), only);
    assert_eq!((answer.status, answer.why(), origin.count()), (504, "only-if-cached", 0));
    client.get(&origin.url("/a/9"));
    assert_eq!(client.ask(&origin.url("/a/9"), only).how(), "hit");
}

#[test]
fn a_tunnel_carries_bytes_in_both_directions() {
    let origin = Origin::plain();
    let port = origin.address.port();
    let proxy = Running::start(1, |settings| settings.connect_ports = vec![port]);
    let mut client = proxy.client();
    client.write(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    assert_eq!(client.answer(true).expect("an answer").status, 200);
    client.write(b"GET /t/50 HTTP/1.1\r\nHost: y\r\n\r\n");
    let through = client.answer(false).expect("an answer");
    assert_eq!((through.body.len(), through.header("via")), (50, None));
    let mut other = proxy.client();
    other.write(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n");
    let refused = other.answer(false).expect("an answer");
    assert_eq!((refused.status, refused.why()), (403, "connect-port"));
    // It is counted as a connection until it ends.
    assert_eq!(proxy.peer().figure(Figure::Tunnels), 1);
}

#[test]
fn an_origin_that_dies_in_the_midst_of_a_body_leaves_nothing_behind() {
    let count = AtomicU32::new(0);
    let origin = Origin::start(move |asked| {
        let whole = answer("Cache-Control: max-age=600\r\n", &[b'x'; 1_000]);
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n";
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        match (count.fetch_add(1, Ordering::Relaxed), asked.path().as_str()) {
            (0 | 1, "/length") => Reply::Last(whole[..whole.len() - 500].to_vec()),
            (0 | 1, _) => Reply::Last(chunked.into_bytes()),
            _ => Reply::Bytes(whole),
        }
    });
    let proxy = Running::plain(1);
    for path in ["/length", "/chunked"] {
        let mut client = proxy.client();
        client.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url(path)).as_bytes());
        assert_eq!(client.answer(false), None, "the client is told that it is cut off");
    }
    assert_eq!(proxy.peer().get(Scope::MultiFlow, "any").len(), 0);
    let whole = proxy.client().get(&origin.url("/length"));
    assert_eq!((whole.how(), whole.body.len()), ("miss", 1_000));
}

#[test]
fn what_ends_with_its_connection_is_passed_and_not_kept() {
    let origin = Origin::start(|_| {
        Reply::Last(b"HTTP/1.0 200 OK\r\nCache-Control: max-age=600\r\n\r\nbody".to_vec())
    });
    let proxy = Running::plain(1);
    for _ in 0..2 {
        let answer = proxy.client().get(&origin.url("/"));
        assert_eq!((answer.how(), answer.text()), ("miss", "body".into()));
    }
}

#[test]
fn origins_that_can_not_be_had_are_named() {
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("it")
        .port();
    let nonsense = Origin::start(|_| Reply::Last(b"nonsense\r\n\r\n".to_vec()));
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    let cases = [
        (format!("http://127.0.0.1:{port}/"), "connection-refused", "connection_refused"),
        // No name server is asked for a name with an empty label.
        ("http://a..example/".to_owned(), "dns", "dns_error"),
        // No connection leads to all hosts of a link.
        ("http://255.255.255.255/".to_owned(), "unroutable", "destination_ip_unroutable"),
        (nonsense.url("/"), "upstream-protocol", "http_protocol_error"),
    ];
    for (url, why, error) in &cases {
        let answer = client.get(url);
        assert_eq!((answer.status, answer.why()), (502, *why), "{url}");
        let status = answer.header("proxy-status").expect("it says why");
        assert!(status.contains(&format!("error={error};")), "{url}: {status}");
    }
    assert_eq!(proxy.peer().figure(Figure::Refused), cases.len() as u64);
}

#[test]
fn a_connection_that_the_origin_has_just_ended_costs_no_request() {
    let origin = Origin::start(|asked: &Asked| {
        let whole = answer("Cache-Control: no-store\r\n", asked.path().as_bytes());
        Reply::Last(whole)
    });
    let proxy = Running::plain(1);
    let mut client = proxy.client();
    for number in 0..20 {
        let path = format!("/{number}");
        assert_eq!(client.get(&origin.url(&path)).text(), path);
    }
}
