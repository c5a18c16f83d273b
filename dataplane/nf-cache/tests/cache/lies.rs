//! Bodies that are not what they say, and what is told of refusals.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::time::Instant;

use weir_nf_cache::Figure;

use crate::client::Client;
use crate::origin::{Origin, Reply, answer};
use crate::process::Process;
use crate::running::{Peer, Running};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Chunks of which one has a size that is none, or another than it says.
fn lying_chunks() -> [String; 9] {
    let behind = format!("\r\n0\r\n\r\n{SMUGGLED}");
    [
        format!("-1\r\na{behind}"),
        format!("+1\r\na{behind}"),
        format!("0x1\r\na{behind}"),
        format!("\r\na{behind}"),
        format!("1 1\r\na{behind}"),
        // 2^64 + 1, which is 1 to who lets it go round.
        format!("10000000000000001\r\na{behind}"),
        format!("fffffffffffffffff\r\na{behind}"),
        // Shorter and longer than what there is.
        format!("1\r\nab{behind}"),
        format!("3\r\na{behind}"),
    ]
}

#[test]
fn a_request_whose_chunks_lie_is_refused_by_name_and_hides_no_other() {
    let origin = Origin::start(|_| Reply::Bytes(answer("Cache-Control: no-store\r\n", b"x")));
    let proxy = Running::plain(1);
    let head = format!("POST http://{}/first HTTP/1.1\r\nHost: x\r\n", origin.address);
    let chunked =
        lying_chunks().map(|chunks| format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"));
    // Two that end before they are as long as they say.
    let cut = ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n9\r\nabc"];
    let cut = cut.map(str::to_owned);
    let count = chunked.len() + cut.len();
    for lines in chunked.into_iter().chain(cut) {
        let mut client = proxy.client();
        client.write(format!("{head}{lines}").as_bytes());
        client.0.get_mut().shutdown(Shutdown::Write).expect("it is there");
        let answer = client.answer(false).unwrap_or_else(|| panic!("no answer to {lines:?}"));
        assert_eq!((answer.status, answer.why()), (400, "body"), "{lines:?}");
        assert!(client.is_over(), "the connection goes on behind {lines:?}");
    }
    assert!(
        origin.asked().iter().all(|asked| !asked.line.contains("smuggled")),
        "{:?}",
        origin.asked()
    );
    let peer = proxy.peer();
    assert_eq!(
        (peer.counter("refused_body"), peer.figure(Figure::Refused)),
        (count as u64, count as u64)
    );
}

#[test]
fn an_answer_whose_body_lies_is_broken_off_counted_and_not_kept() {
    let lies: Vec<Vec<u8>> = {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n";
        let chunked = lying_chunks()
            .map(|chunks| format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"));
        let cut = format!("{head}Content-Length: 9\r\n\r\nabc");
        chunked.into_iter().chain([cut]).map(String::into_bytes).collect()
    };
    let count = lies.len();
    let origin = Origin::start(move |asked| {
        let place: usize = asked.path()[1..].parse().expect("a number");
        Reply::Last(lies[place].clone())
    });
    let proxy = Running::plain(1);
    for place in 0..count {
        let mut client = proxy.client();
        let ask = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url(&format!("/{place}")));
        client.write(ask.as_bytes());
        // A head may have gone; the whole of an answer has not.
        let got = client.answer(false);
        assert!(got.as_ref().is_none_or(|answer| answer.status == 502), "{place}: {got:?}");
    }
    let peer = proxy.peer();
    assert_eq!(peer.figure(Figure::Stored), 0);
    let refused =
        ["refused_answer_body", "refused_upstream_protocol"].map(|name| peer.counter(name));
    assert_eq!(refused.iter().sum::<u64>(), count as u64, "{refused:?}");
    assert!(refused[0] > 0);
}

/// What a log tells by reason: lines, and refusals that these stand for.
fn told(log: &str) -> BTreeMap<String, (u64, u64)> {
    let mut told: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("refused: ")) {
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=")).expect(line);
            rest.split(' ').next().expect(line).trim_matches('"').to_owned()
        };
        assert!(line.contains(" WARN ") && field("client") == "127.0.0.1", "{line}");
        let untold: u64 = field("untold").parse().expect(line);
        let (lines, refusals) = told.entry(field("reason")).or_default();
        (*lines, *refusals) = (*lines + 1, *refusals + 1 + untold);
    }
    told
}

#[expect(clippy::disallowed_methods, reason = "how long refusals go on says how many may be told")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn refusals_are_logged_by_name_once_a_second_however_many_there_are() {
    let begun = now();
    let mut proxy = Process::start(1, &["--listen", "127.0.0.1:0"], None);
    let host = "Host: x\r\n";
    let shapes = [
        ("encoding", 501, format!("{host}Transfer-Encoding: gzip, chunked\r\n")),
        ("host", 400, format!("{host}Host: y\r\n")),
        ("malformed", 400, format!("{host}Content-Length: 3\r\nContent-Length: 4\r\n")),
        ("head-too-large", 431, format!("{host}X: {}\r\n", "x".repeat(40_000))),
        ("not-absolute", 400, host.to_owned()),
    ];
    const EACH: u64 = 100;
    for _ in 0..EACH {
        for (reason, status, lines) in &shapes {
            let target = if *reason == "not-absolute" { "/x" } else { "http://127.0.0.1:9/x" };
            let mut client = Client::connect(proxy.address);
            client.write(format!("POST {target} HTTP/1.1\r\n{lines}\r\n").as_bytes());
            let answer = client.answer(false).unwrap_or_else(|| panic!("no answer: {reason}"));
            assert_eq!(answer.status, *status, "{reason}");
        }
    }
    let peer = Peer::of(&proxy.place);
    for (reason, ..) in &shapes {
        let name = format!("refused_{}", reason.replace('-', "_"));
        // What hyper refuses is counted as the connection ends, behind the answer.
        peer.counts(&name, EACH);
        assert_eq!(peer.counter(&name), EACH, "{reason}");
    }
    let took = begun.elapsed();
    assert!(proxy.stop().success());
    let told = told(&proxy.log());
    assert_eq!(told.len(), shapes.len(), "{told:?}");
    let seconds = took.as_secs() + 1;
    for (reason, (lines, refusals)) in told {
        assert!((1..=seconds).contains(&lines), "{reason}: {lines} lines in {took:?}");
        assert!((lines..=EACH).contains(&refusals), "{reason}: {refusals}");
    }
}
