//! HTTP: requests, responses, their bodies, and what is wrong with them.

use md5::{Digest as _, Md5};

use super::*;

/// The HTTP records of a conversation with these messages, sent in turn, and all of it.
fn talk(messages: &[(Side, &str)]) -> Vec<Record> {
    let mut talk = Talk::open(1000);
    messages.iter().for_each(|(side, text)| talk.say(*side, text.as_bytes()));
    talk.close();
    talk.records()
}

fn uris(records: &[Record]) -> Vec<String> {
    let uri = |http: &&HttpRecord| http.request.as_ref().map(|request| request.uri.clone());
    https(records).iter().filter_map(uri).map(|uri| String::from_utf8(uri).unwrap()).collect()
}

fn codes(records: &[Record]) -> Vec<Option<u16>> {
    https(records).iter().map(|http| http.response.as_ref().map(|head| head.code)).collect()
}

fn md5(bytes: &[u8]) -> Option<Digest> {
    Some(Md5::digest(bytes).into())
}

const ORIG: Side = Side::Orig;
const RESP: Side = Side::Resp;
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_request_and_its_response_are_one_record() {
    let records = talk(&[
        (ORIG, "POST /a?b HTTP/1.1\r\nhost: example.org\r\nReferer: r\r\nUser-Agent: u\r\n"),
        (ORIG, "Origin: o\r\nContent-Length: 4\r\n\r\nbody"),
        (RESP, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"),
    ]);
    let [http] = https(&records)[..] else { panic!("{records:?}") };
    let request = http.request.as_ref().unwrap();
    assert_eq!((&request.method[..], &request.uri[..]), (&b"POST"[..], &b"/a?b"[..]));
    assert_eq!(request.host.as_deref(), Some(&b"example.org"[..]));
    assert_eq!(request.referrer.as_deref(), Some(&b"r"[..]));
    assert_eq!(request.user_agent.as_deref(), Some(&b"u"[..]));
    assert_eq!(request.origin.as_deref(), Some(&b"o"[..]));
    assert_eq!(http.info.as_ref().map(|info| info.code), Some(100));
    assert_eq!(codes(&records), [Some(200)]);
    assert_eq!(http.body_len, Both { orig: 4, resp: 6 });
    assert_eq!(http.body_md5, Both { orig: md5(b"body"), resp: md5(b"answer") });
    assert_eq!((http.trans_depth, http.tags), (1, Notes::default()));
    assert_eq!((conns(&records)[0].service, conns(&records)[0].id), (Some("http"), http.id));
}

#[test]
fn what_is_no_request_is_told_by_its_first_line_in_whichever_pieces_it_comes() {
    let path = "a".repeat(100);
    for (line, is_http) in [
        (format!("GET /{path} HTTP/1.1\r\n"), true),
        (format!("GET /{path} NOT/1.1\r\n"), false),
        (format!("{path} / HTTP/1.1\r\n"), false),
    ] {
        let text = line + "Host: a\r\n\r\n";
        for piece in [1, 7, 64, text.len()] {
            let mut talk = Talk::open(1000);
            text.as_bytes().chunks(piece).for_each(|bytes| talk.say(ORIG, bytes));
            talk.close();
            let found = https(&talk.records()).len();
            assert_eq!(found, usize::from(is_http), "{text} in pieces of {piece}");
        }
    }
}

#[test]
fn every_way_to_cut_a_conversation_into_segments_gives_the_same_records() {
    let request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    5;x=y\r\nhello\r\nA\r\n, world!!!\r\n0\r\nTrailer: t\r\n\r\n";
    let whole = talk(&[(ORIG, request), (RESP, response)]);
    assert_eq!(https(&whole)[0].body_md5.resp, md5(b"hello, world!!!"));
    for cut in 1..response.len() {
        let mut parts = Talk::open(1000);
        for text in [request, response] {
            let side = if text == request { ORIG } else { RESP };
            text.as_bytes().chunks(cut).for_each(|part| parts.send(side, ACK, part));
        }
        parts.close();
        let records = parts.records();
        let [http] = https(&records)[..] else { panic!("{cut}: {records:?}") };
        assert_eq!(http.body_md5, https(&whole)[0].body_md5, "{cut}");
        assert_eq!(http.tags, Notes::default(), "{cut}");
    }
}

#[test]
fn pipelined_requests_get_their_responses_in_order() {
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let get = |uri: &str| format!("GET {uri} HTTP/1.1\r\nHost: a\r\n\r\n");
    let requests: String = ["/1", "/2", "/3"].map(get).concat();
    let responses = [ok("1"), "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_owned(), ok("333")];
    let records = talk(&[(ORIG, &requests), (RESP, &responses.concat())]);
    assert_eq!(uris(&records), ["/1", "/2", "/3"]);
    assert_eq!(codes(&records), [Some(200), Some(404), Some(200)]);
    let lengths: Vec<_> = https(&records).iter().map(|http| http.body_len.resp).collect();
    assert_eq!(lengths, [1, 0, 3]);
}

#[test]
fn responses_without_a_body_have_none_whatever_they_say() {
    let head = GET.replace("GET", "HEAD");
    for (request, status) in [(&head[..], "200 OK"), (GET, "304 Not Modified"), (GET, "204 None")] {
        let responses = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\nHTTP/1.1 500 Next\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let records = talk(&[(ORIG, request), (ORIG, GET), (RESP, &responses)]);
        assert_eq!(codes(&records)[1], Some(500), "{status}");
        assert_eq!(https(&records)[0].body_len.resp, 0);
    }
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let records = talk(&[(ORIG, GET), (RESP, "HTTP/1.0 200 OK\r\n\r\nuntil "), (RESP, "the end")]);
    let http = https(&records)[0];
    assert_eq!((http.body_md5.resp, http.tags), (md5(b"until the end"), Notes::default()));
    // Nobody knows whether it was all when the connection is aborted.
    let mut aborted = Talk::open(1000);
    aborted.say(ORIG, GET.as_bytes());
    aborted.say(RESP, b"HTTP/1.0 200 OK\r\n\r\nuntil ");
    aborted.send(RESP, RST, b"");
    let records = aborted.records();
    let http = https(&records)[0];
    assert!(http.tags.has(Note::Incomplete) && http.body_md5.resp.is_none());
    assert_eq!(http.body_len.resp, 6);
}

#[test]
fn shapes_of_smuggling_are_named() {
    let body = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}");
    for (note, fields) in [
        (Note::LengthAndChunked, body),
        (Note::LengthsDiffer, "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        (Note::LengthsDiffer, "Content-Length: 3, 4\r\n\r\nabcd"),
        (Note::BadLength, "Content-Length: +3\r\n\r\nabc"),
        (Note::BadLength, "Content-Length: \r\n\r\nabc"),
        (Note::BadLength, "Content-Length: 18446744073709551617\r\n\r\nabc"),
        (Note::BadLength, "Content-Length: 999999999999999999\r\n\r\nabc"),
        (Note::BadEncoding, "Transfer-Encoding: chunked, identity\r\n\r\nabc"),
        (Note::BadChunk, "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n"),
        (Note::BadChunk, "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n"),
        (Note::BadChunk, "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
        (Note::BareLineFeed, "Content-Length: 0\n\n"),
    ] {
        let records = talk(&[(ORIG, &post(fields)), (RESP, "HTTP/1.1 400 No\r\n\r\n")]);
        let [http] = https(&records)[..] else { panic!("{fields}: {records:?}") };
        assert!(http.tags.has(note), "{fields}: {:?}", http.tags);
        assert_eq!(codes(&records), [Some(400)]);
    }
    let same = post("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(https(&talk(&[(ORIG, &same)]))[0].tags, Notes::default());
}

#[test]
fn after_connect_and_upgrade_nothing_is_read_unless_it_is_refused() {
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    let records =
        talk(&[(ORIG, connect), (RESP, "HTTP/1.1 200 OK\r\n\r\n"), (ORIG, GET), (RESP, "junk")]);
    assert_eq!((uris(&records), codes(&records)), (vec!["a:443".to_owned()], vec![Some(200)]));
    assert!(https(&records)[0].tags.has(Note::Upgraded));
    let refused = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";
    let records = talk(&[(ORIG, connect), (RESP, refused), (ORIG, GET), (RESP, refused)]);
    assert_eq!(codes(&records), [Some(403), Some(403)]);
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let records = talk(&[(ORIG, upgrade), (RESP, switching), (RESP, "\x01\x02"), (ORIG, GET)]);
    assert_eq!((codes(&records), https(&records).len()), (vec![Some(101)], 1));
}

#[test]
fn a_gap_in_a_body_costs_its_digest_and_one_in_a_head_the_direction() {
    let mut gap = Talk::open(1000);
    gap.say(ORIG, GET.as_bytes());
    gap.say(RESP, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123");
    gap.lose(RESP, 4);
    gap.say(RESP, b"890");
    gap.say(ORIG, GET.as_bytes());
    gap.say(RESP, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    gap.close();
    let records = gap.records();
    assert_eq!(codes(&records), [Some(200), Some(404)]);
    let http = https(&records)[0];
    assert_eq!((http.body_len.resp, http.body_md5.resp), (10, None));
    assert!(http.tags.has(Note::Gap));
    assert_eq!(conns(&records)[0].missed_bytes, 4);
    let mut gap = Talk::open(1000);
    gap.say(ORIG, GET.as_bytes());
    gap.say(ORIG, b"GET /lost HTTP/1.1\r\n");
    gap.lose(ORIG, 9);
    gap.say(ORIG, b"\r\n\r\n");
    gap.say(RESP, b"HTTP/1.1 204 No\r\n\r\n");
    let records = gap.records();
    assert_eq!((uris(&records), codes(&records)), (vec!["/".to_owned()], vec![Some(204)]));
    assert!(conns(&records)[0].notes.has(Note::Gap));
}

#[test]
fn heads_values_and_waiting_requests_are_bounded() {
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(33 << 10));
    let records = talk(&[(ORIG, GET), (ORIG, &long)]);
    assert!(conns(&records)[0].notes.has(Note::HeadTooLong));
    assert_eq!(https(&records).len(), 1);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(5000));
    let records = talk(&[(ORIG, &long)]);
    assert_eq!(uris(&records)[0].len(), 4096);
    assert!(https(&records)[0].tags.has(Note::FieldCut));
    // No request is lost when there are too many, but their responses are.
    let records = talk(&[(ORIG, &GET.repeat(100)), (RESP, "HTTP/1.1 204 No\r\n\r\n")]);
    assert_eq!(https(&records).len(), 100);
    assert!(conns(&records)[0].notes.has(Note::PipeliningLimit));
    let depths: Vec<_> = https(&records).iter().map(|http| http.trans_depth).collect();
    assert_eq!(depths, (1..=100).collect::<Vec<_>>());
}

#[test]
fn what_is_not_http_is_left_alone() {
    for (first, second) in [
        ("SSH-2.0-x\r\n", "SSH-2.0-y\r\n"),
        ("\x16\x03\x01", "\x16\x03\x03"),
        ("USER me\r\n", "220 hello\r\n"),
        ("GET /", "nothing"),
        ("HTTP", "HTTP/2 200\r\n\r\n"),
    ] {
        let records = talk(&[(ORIG, first), (RESP, second)]);
        assert_eq!((https(&records).len(), conns(&records)[0].service), (0, None), "{first}");
        assert_eq!(conns(&records)[0].notes, Notes::default(), "{first}");
    }
}

#[test]
fn a_response_without_a_request_is_told_and_a_request_without_a_response() {
    let records = talk(&[(RESP, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")]);
    let http = https(&records)[0];
    assert!(http.request.is_none() && http.tags.has(Note::NoRequest));
    assert_eq!(http.body_md5.resp, md5(b"ab"));
    let records = talk(&[(ORIG, GET)]);
    assert_eq!(codes(&records), [None]);
}

#[test]
fn http_over_ipv6_is_read_from_the_middle_of_a_connection_too() {
    use crate::packet::samples::{self, HOST_A6, HOST_B6};
    let request = samples::tcp6(HOST_A6, HOST_B6, (1000, 8080), GET.as_bytes());
    let response = samples::tcp6(HOST_B6, HOST_A6, (8080, 1000), b"HTTP/1.1 204 No\r\n\r\n");
    let timed = |frame| Timed { at: Timestamp(START), frame };
    let records = records(&[timed(request), timed(response)]);
    let http = https(&records)[0];
    assert_eq!((http.id.orig, http.id.resp), ((HOST_A6.into(), 1000), (HOST_B6.into(), 8080)));
    assert_eq!((codes(&records), uris(&records)), (vec![Some(204)], vec!["/".to_owned()]));
}

#[test]
fn random_messages_in_random_pieces_never_panic() {
    let mut rng = weir_seed::rng();
    let words = [
        GET,
        "POST / HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 101 X\r\n\r\n",
        "\r\n",
        "\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "hello",
        "\0\u{ff}",
        "a: b\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "ffffffffffff\r\n",
        "HTTP/1.1 304 N\r\n\r\n",
    ];
    for _ in 0..2_000 {
        let mut talk = Talk::open(1000);
        for _ in 0..rng.usize(1..20) {
            let side = if rng.bool() { ORIG } else { RESP };
            let text: String = (0..rng.usize(1..6)).filter_map(|_| rng.choice(words)).collect();
            let flags = if rng.u8(..) < 4 { FIN | ACK } else { ACK };
            match rng.u8(..10) {
                0 => talk.lose(side, rng.u32(1..20)),
                1 => talk.send_at(side, rng.i32(-20..20), flags, text.as_bytes()),
                _ => talk.send(side, flags, text.as_bytes()),
            }
        }
        let records = talk.records();
        assert!(!conns(&records).is_empty());
    }
}
