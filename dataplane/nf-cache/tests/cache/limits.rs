//! Bounds and time-outs: each is kept, counted, and costs others nothing.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use weir_nf_cache::Figure;
use weir_state_transfer::chunk::Scope;

use crate::client::Client;
use crate::origin::{Origin, Reply, answer};
use crate::process::{LOCAL, Process};
use crate::running::{Peer, Running};

/// Where nothing has to happen within it.
const SHORT: Duration = Duration::from_millis(200);
/// Where something has to, however busy the machine is.
const ENOUGH: Duration = Duration::from_secs(3);

#[test]
fn an_object_that_is_too_large_passes_and_is_not_kept() {
    let origin = Origin::start(|asked| {
        let body = vec![b'x'; 200_000];
        if asked.path() == "/length" {
            return Reply::Bytes(answer("Cache-Control: max-age=600\r\n", &body));
        }
        let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n";
        Reply::Bytes([&head[..], &body, b"\r\n0\r\n\r\n"].concat())
    });
    let proxy = Running::start(1, |settings| settings.limits.object = 100_000);
    let mut client = proxy.client();
    for path in ["/length", "/length", "/chunked", "/chunked"] {
        let answer = client.get(&origin.url(path));
        assert_eq!((answer.how(), answer.body.len()), ("miss", 200_000));
    }
    assert_eq!(proxy.peer().get(Scope::MultiFlow, "any").len(), 0);
}

#[test]
fn a_full_store_forgets_what_was_used_longest_ago() {
    let (origin, proxy) =
        (Origin::plain(), Running::start(1, |settings| settings.limits.store = 4 << 20));
    let mut client = proxy.client();
    let url = |number: usize| origin.url(&format!("/{number}/500000"));
    for number in 0..12 {
        client.get(&url(number));
        client.get(&url(0));
    }
    let how = [0, 1, 11].map(|number| client.get(&url(number)).how().to_owned());
    assert_eq!(how, ["hit", "miss", "hit"]);
    let peer = proxy.peer();
    let bytes: usize = peer.get(Scope::MultiFlow, "any").iter().map(|chunk| chunk.body.len()).sum();
    assert!(bytes < 4 << 20, "{bytes}");
    assert!(peer.figure(Figure::Evicted) >= 4);
}

#[test]
fn bodies_that_are_collected_have_a_bound_together() {
    // Each is almost complete, and stays so: a quarter of the store has room for two.
    let origin = Origin::start(|_| {
        let whole = answer("Cache-Control: max-age=600\r\n", &[b'x'; 500_000]);
        Reply::Silence(whole[..whole.len() - 1].to_vec())
    });
    let quick = Origin::plain();
    let proxy = Running::start(1, |settings| settings.limits.store = 4 << 20);
    let streams = [0, 1, 2, 3].map(|number| {
        let (mut client, url) = (proxy.client(), origin.url(&format!("/{number}")));
        let stream = client.0.get_ref().try_clone().expect("a stream");
        client.write(format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        (stream, thread::spawn(move || client.answer(false)))
    });
    let peer = proxy.peer();
    peer.reaches(Figure::OriginBytes, 4 * 499_999);
    let mut client = proxy.client();
    let answers = [0; 2].map(|_| client.get(&quick.url("/big/500000")).how().to_owned());
    assert_eq!(answers, ["miss", "miss"], "there is no room to collect it");
    for (stream, reader) in streams {
        stream.shutdown(std::net::Shutdown::Both).expect("it is there");
        assert_eq!(reader.join().expect("it has read"), None);
    }
    // Room comes back when those have gone.
    while client.get(&quick.url("/big/500000")).how() != "hit" {}
}

#[test]
fn connections_beyond_the_most_are_closed_at_once() {
    let (origin, proxy) =
        (Origin::plain(), Running::start(1, |settings| settings.limits.connections = 2));
    let mut held: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    held.iter_mut().for_each(|client| drop(client.get(&origin.url("/a/1"))));
    assert!(proxy.client().is_over());
    assert_eq!(held[0].get(&origin.url("/a/1")).how(), "hit");
    let peer = proxy.peer();
    let counts = (peer.figure(Figure::ConnectionsRefused), peer.counter("refused_connections"));
    assert_eq!(counts, (1, 1));
}

#[test]
fn who_may_not_use_it_is_closed_at_once_counted_and_logged() {
    let arguments = [&LOCAL[..], &["--client", "127.0.0.9/32"]].concat();
    let mut proxy = Process::start(1, &arguments, None);
    let origin = Origin::plain();
    assert!(Client::connect(proxy.address).is_over());
    let mut client = Client::from([127, 0, 0, 9], proxy.address);
    assert_eq!(client.get(&origin.url("/a/1")).status, 200);
    let peer = Peer::of(&proxy.place);
    let counts = (peer.figure(Figure::ConnectionsRefused), peer.counter("refused_client"));
    assert_eq!(counts, (1, 1));
    assert!(proxy.stop().success());
    let log = proxy.log();
    let line = log.lines().find(|line| line.contains("reason=\"client\"")).expect(&log);
    assert!(line.contains(" WARN ") && line.contains("client=127.0.0.1 "), "{line}");
}

#[test]
fn slow_clients_are_let_go() {
    let origin = Origin::plain();
    let proxy = Running::start(1, |settings| {
        (settings.limits.head_time, settings.limits.idle) = (ENOUGH, Duration::from_secs(3_600));
    });
    // One that drips a head, and for which the limit is not renewed by each byte.
    let mut slow = proxy.client();
    let dripped = thread::spawn(move || {
        let dripping =
            b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'x'));
        for byte in dripping {
            thread::yield_now();
            if std::io::Write::write_all(slow.0.get_mut(), &[*byte]).is_err() {
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    });
    dripped.join().expect("it is cut off");
    assert_eq!(proxy.peer().figure(Figure::TimedOut), 1);
    assert_eq!(proxy.client().get(&origin.url("/a/1")).status, 200);
}

#[test]
fn idle_connections_are_let_go() {
    let origin = Origin::plain();
    let proxy = Running::start(1, |settings| settings.limits.idle = ENOUGH);
    let mut fresh = proxy.client();
    let mut used = proxy.client();
    used.get(&origin.url("/a/1"));
    assert!(fresh.is_over() && used.is_over());
    assert_eq!(proxy.peer().figure(Figure::TimedOut), 2);
}

#[test]
fn a_client_that_takes_nothing_of_an_answer_is_let_go() {
    let origin = Origin::start(|_| Reply::Bytes(answer("", &vec![b'x'; 64 << 20])));
    let proxy = Running::start(1, |settings| settings.limits.idle = SHORT);
    let mut client = proxy.client();
    client.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/")).as_bytes());
    proxy.peer().reaches(Figure::TimedOut, 1);
}

#[test]
fn slow_origins_are_named() {
    let origin = Origin::start(|asked| match asked.path().as_str() {
        "/head" => Reply::Silence(Vec::new()),
        _ => Reply::Silence(answer("", &[b'x'; 100])[..80].to_vec()),
    });
    let proxy = Running::start(1, |settings| settings.limits.upstream = ENOUGH);
    let mut client = proxy.client();
    let answer = client.get(&origin.url("/head"));
    assert_eq!((answer.status, answer.why()), (504, "upstream-timeout"));
    let status = answer.header("proxy-status").expect("it says why");
    assert!(status.contains("error=connection_read_timeout;"), "{status}");
    client.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/body")).as_bytes());
    assert_eq!(client.answer(false), None, "a body that stands still is cut off");
}

#[test]
fn origins_that_take_no_connection_in_time_are_named() {
    // What listens has room for as many as nobody accepts, and leaves others without an answer.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    full.listen(0).expect("it listens");
    let address = full.local_addr().expect("it").as_socket().expect("of IPv4");
    let held: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, SHORT).ok()).take(64).collect();
    assert!(held.len() < 64, "it takes every connection");
    let proxy = Running::start(1, |settings| settings.limits.upstream = SHORT);
    let answer = proxy.client().get(&format!("http://{address}/"));
    assert_eq!((answer.status, answer.why()), (504, "connect-timeout"));
    let status = answer.header("proxy-status").expect("it says why");
    assert!(status.contains("error=connection_timeout;"), "{status}");
}

#[test]
fn a_body_that_a_client_does_not_finish_is_given_up() {
    let origin = Origin::plain();
    let proxy = Running::start(1, |settings| settings.limits.upstream = SHORT);
    let mut client = proxy.client();
    let head =
        format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly", origin.url("/"));
    client.write(head.as_bytes());
    let answer = client.answer(false).expect("an answer");
    assert_eq!(answer.status / 100, 5);
}

#[test]
fn a_stop_finishes_what_is_under_way_and_takes_nothing_new() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::start(move |_| {
        let _gone = gone.lock().expect("nobody panics here").recv();
        Reply::Bytes(answer("Cache-Control: max-age=600\r\n", b"late"))
    });
    let quick = Origin::plain();
    let mut proxy = Running::plain(1);
    let (mut busy, mut idle) = (proxy.client(), proxy.client());
    idle.get(&quick.url("/a/1"));
    busy.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/")).as_bytes());
    proxy.peer().reaches(Figure::Requests, 2);
    proxy.ask_to_stop();
    assert!(idle.is_over());
    go.send(()).expect("it is waited for");
    assert_eq!(busy.answer(false).expect("an answer").text(), "late");
    assert!(busy.is_over());
    proxy.stopped();
}
