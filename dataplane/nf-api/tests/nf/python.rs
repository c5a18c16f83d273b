//! The network function in Python keeps every rule.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_nf_api::client::{Client, Query, RefusalReason};
use weir_nf_api::conformance::{Options, Outcome, run};
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::state_filter::StateFilter;
use weir_state_transfer::wire::Writer;

use crate::running::Place;

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn python(script: &str, arguments: &[&Path], more: &[&str]) -> Self {
        let child = command(script, arguments, more).stdout(Stdio::piped()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{error}: run testbed/install.sh --python")))
    }

    /// A counter, with the sockets of a place.
    fn counter(script: &str, socket: &Path, feed: &Path) -> Self {
        let mut counter = Self::python(script, &serving(socket, feed), &[]);
        counter.ready();
        counter
    }

    /// Waits for its first line.
    fn ready(&mut self) {
        let mut line = String::new();
        let output = self.0.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it is text");
        assert_eq!(line, "ready\n");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// A script of the example.
fn command(script: &str, arguments: &[&Path], more: &[&str]) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/examples/nf_python");
    let mut command = Command::new(target.join("python/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(folder.join(script));
    command.args(arguments).args(more);
    command
}

/// The options of a counter.
fn serving<'a>(socket: &'a Path, feed: &'a Path) -> [&'a Path; 4] {
    [Path::new("--serve"), socket, Path::new("--feed"), feed]
}

#[tokio::test]
#[ignore = "needs Python packages: testbed/install.sh --python"]
async fn the_network_function_in_python_keeps_every_rule() {
    assert_keeps_every_rule("packet_counter.py", |_| None).await;
}

#[tokio::test]
#[ignore = "needs Python packages: testbed/install.sh --python"]
async fn so_does_its_next_version_that_takes_in_the_state_of_both() {
    assert_keeps_every_rule("packet_counter_2.py", |place| Some(write_capture(place))).await;
}

/// Packets are of a capture, or those that the example makes.
async fn assert_keeps_every_rule(script: &str, capture: impl FnOnce(&Place) -> Option<PathBuf>) {
    let place = Place::new();
    let (socket, feed) = (place.socket(), place.socket().with_extension("feed"));
    let capture = capture(&place);
    let arguments: Vec<&Path> = [&*feed].into_iter().chain(capture.as_deref()).collect();
    // It waits for the counter, as when both are begun at once.
    let _feeder = Process::python("feed.py", &arguments, &["--rate", "1500", "--loop"]);
    let _function = Process::counter(script, &socket, &feed);
    let client = Client::unix(&socket, Duration::from_secs(30));
    let lines = run(&client, &patient(""), |_| {}).await.expect("it is served");
    let counted = client.counters().await.expect("it answers");
    assert!(counted.iter().any(|one| one.name == "packets" && one.value > 0), "{counted:?}");
    let others: Vec<_> = lines.iter().filter(|line| line.outcome != Outcome::Pass).collect();
    assert_eq!((lines.len(), others), (69, Vec::new()));
}

#[tokio::test]
#[ignore = "needs Python packages: testbed/install.sh --python"]
async fn a_counter_begins_again_where_one_was_killed_and_not_where_one_serves() {
    let place = Place::new();
    let (socket, feed) = (place.socket(), place.socket().with_extension("feed"));
    let refused = |socket: &Path, feed: &Path, why: &str| {
        // One that begins would not end.
        let counter = command("packet_counter.py", &serving(socket, feed), &[]);
        let mut bounded = Command::new("timeout");
        bounded.env("PYTHONDONTWRITEBYTECODE", "1").arg("60");
        bounded.arg(counter.get_program()).args(counter.get_args());
        let output = bounded.output().expect("it runs");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(why), "{said}");
    };
    let first = Process::counter("packet_counter.py", &socket, &feed);
    let free = socket.with_extension("free");
    refused(&socket, &free, "is served already");
    refused(&free, &feed, "is served already");
    let client = Client::unix(&socket, Duration::from_secs(30));
    client.describe().await.expect("it serves on");
    drop(first);
    assert!(socket.exists() && feed.exists(), "killed, it leaves its sockets");
    let _second = Process::counter("packet_counter.py", &socket, &feed);
    let client = Client::unix(&socket, Duration::from_secs(30));
    client.describe().await.expect("it serves");
    fs::write(&free, "no socket").expect("a file");
    refused(&free, &free, "is no socket");
    assert!(free.exists());
}

#[tokio::test]
#[ignore = "needs Python packages: testbed/install.sh --python"]
async fn hostile_state_is_refused_by_name_and_changes_nothing_in_python() {
    let place = Place::new();
    let (socket, feed) = (place.socket(), place.socket().with_extension("feed"));
    let _function = Process::counter("packet_counter.py", &socket, &feed);
    let frames = UnixDatagram::unbound().expect("a socket");
    frames.send_to(&frame(1), &feed).expect("it takes packets");
    let client = Client::unix(&socket, Duration::from_secs(30));
    assert_there_is_state(&client).await;
    let all = async || {
        let mut state = Vec::new();
        for scope in Scope::ALL {
            state.extend(chunks(&client, scope).await);
        }
        state
    };
    let before = all().await;
    let of = |scope| before.iter().find(|chunk| chunk.scope == scope).expect("state").clone();
    let wrong = |scope, version| Chunk { version, ..of(scope) };
    let body = |scope, body: Vec<u8>| Chunk { body, ..of(scope) };
    let counted = |packets: u64| [packets.to_be_bytes(), [0; 8]].concat();
    // One part of a replica that is none, and the greatest count.
    let parts = [&1_u32.to_be_bytes()[..], &[0; 12], &u64::MAX.to_be_bytes()].concat();
    let mut cases = Vec::new();
    for scope in Scope::ALL {
        for version in [0, (1 << 63) + 1, u64::MAX - 1, u64::MAX] {
            cases.push((wrong(scope, version), RefusalReason::BadField));
        }
    }
    for packets in [(1 << 63) + 1, u64::MAX] {
        cases.push((body(Scope::PerFlow, counted(packets)), RefusalReason::BadBody));
    }
    for scope in [Scope::MultiFlow, Scope::AllFlows] {
        cases.push((body(scope, parts.clone()), RefusalReason::BadBody));
    }
    for (chunk, reason) in cases {
        let encoded = tokio_stream::iter([chunk.encode().expect("it is a chunk")]);
        let put = client.put(chunk.scope, encoded).await.expect("it answers");
        let refusal = put.refusal.map(|refusal| refusal.reason);
        assert_eq!((put.taken, refusal), (0, Some(reason)), "{chunk:?}");
        assert_eq!(all().await, before, "after {chunk:?}");
    }
    // It counts on.
    let packets = chunks(&client, Scope::PerFlow).await.len();
    frames.send_to(&frame(2), &feed).expect("it takes packets");
    let counts = async {
        while chunks(&client, Scope::PerFlow).await.len() == packets {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counts).await.expect("the packet is counted");
}

/// All state of a scope.
async fn chunks(client: &Client, scope: Scope) -> Vec<Chunk> {
    let query = Query::new(StateFilter::default());
    let mut chunks = client.get(scope, &query).await.expect("it answers");
    let mut all = Vec::new();
    while let Some(encoded) = chunks.next_encoded().await.expect("it answers") {
        all.extend(encoded.iter().map(|bytes| Chunk::decode(bytes).expect("a chunk")));
    }
    all
}

async fn assert_there_is_state(client: &Client) {
    for kind in ["per-flow-get-kinds", "multi-flow-get-kinds", "all-flows-get-kinds"] {
        let lines = run(client, &patient(kind), |_| {}).await.expect("it is served");
        assert_eq!(lines[0].outcome, Outcome::Pass, "{kind}");
    }
}

/// The rules whose names begin with a text, with as much time as packets may need.
fn patient(rules: &str) -> Options {
    Options { rules: rules.to_owned(), patience: Duration::from_secs(20), disturb: true }
}

/// A capture of TCP, UDP and ICMP between some hosts, of both families.
fn write_capture(place: &Place) -> PathBuf {
    let mut out = Writer::default();
    // Magic, version 2.4, zone, accuracy, longest frame, Ethernet.
    out.u32(0xa1b2_c3d4);
    out.raw(&[0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1]);
    for number in 0..240u16 {
        let frame = frame(number);
        out.raw(&[0; 8]);
        out.number(frame.len());
        out.number(frame.len());
        out.raw(&frame);
    }
    let path = place.socket().with_extension("pcap");
    fs::write(&path, out.finish()).expect("a file");
    path
}

/// A frame of one of some flows.
fn frame(number: u16) -> Vec<u8> {
    let protocol = [6, 17, 1][usize::from(number % 3)];
    let (client, server) = ((number % 5) as u8 + 1, (number % 2) as u8 + 100);
    let is_v6 = number % 4 == 3;
    let payload = vec![number as u8; 40 + usize::from(number)];
    Writer::bytes_of(|out| {
        out.raw(&[2; 12]);
        out.u16(if is_v6 { 0x86dd } else { 0x0800 });
        let length = 20 + payload.len();
        if is_v6 {
            out.raw(&[0x60, 0, 0, 0]);
            out.u16(length as u16);
            out.raw(&[protocol, 64]);
            for last in [client, server] {
                out.raw(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
        } else {
            out.raw(&[0x45, 0]);
            out.u16(20 + length as u16);
            out.raw(&[0, 0, 0, 0, 64, protocol, 0, 0]);
            for (third, last) in [(0, client), (1, server)] {
                out.raw(&[10, 7, third, last]);
            }
        }
        out.u16(1_000 + number % 7);
        out.u16(80);
        out.raw(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        out.raw(&payload);
    })
}
