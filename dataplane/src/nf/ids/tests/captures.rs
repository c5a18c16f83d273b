//! Real captures, against what other programs have found in them.

use super::*;

/// The records of a capture, which are the same when connections travel at every packet, and when
/// all of them move to another instance at some packets.
fn checked(name: &str) -> Option<Vec<Record>> {
    let frames = capture(name)?;
    let single = records(&frames);
    let (travelled, most) = transfer::travelled(&frames);
    assert_eq!(travelled, single, "{name}");
    let expected = lines(&single);
    let step = (frames.len() / 20).max(1);
    for at in (0..frames.len()).step_by(step) {
        assert_eq!(lines(&transfer::moved(&frames, at)), expected, "{name} moved at {at}");
    }
    println!(
        "data test ran: {name}: {} packets, {} records, the same with connections that travel, \
         of {most} bytes at most",
        frames.len(),
        single.len()
    );
    Some(single)
}

/// The values of some fields, of all records of a log.
fn values(records: &[Record], log: log::Log, names: &[&str]) -> Vec<String> {
    let header = log.header();
    let fields = header.lines().find_map(|line| line.strip_prefix("#fields\t")).unwrap();
    let fields: Vec<_> = fields.split('\t').collect();
    let places: Vec<_> =
        names.iter().map(|name| fields.iter().position(|field| field == name).unwrap()).collect();
    let records = records.iter().filter(|record| log::Log::of(record) == log);
    let mut lines: Vec<_> = records
        .map(|record| {
            let line = log::line(record);
            let values: Vec<_> = line.trim_end().split('\t').collect();
            places.iter().map(|place| values[*place]).collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

const ALL: [&str; 10] = [
    "service",
    "duration",
    "orig_bytes",
    "resp_bytes",
    "conn_state",
    "missed_bytes",
    "history",
    "orig_pkts",
    "orig_ip_bytes",
    "resp_pkts",
];

fn conn_values(records: &[Record]) -> Vec<String> {
    values(records, log::Log::Conn, &ALL)
}

fn http_values(records: &[Record]) -> Vec<String> {
    values(records, log::Log::Http, &["method", "host", "uri", "status_code", "response_body_len"])
}

/// The line that Zeek's own test expects of this capture.
#[test]
fn a_capture_without_its_syn_gives_zeeks_line() {
    let Some(records) = checked("zeek_zeek__missing-syn.pcap") else { return };
    assert_eq!(conn_values(&records), ["http 1.550793 98 9417 SF 0 ^hADdFaf 11 670 10"]);
}

/// What Zeek's own test expects of the ends: closed with 3 packets, reset with 2.
#[test]
fn a_capture_with_a_fin_that_comes_again_is_read() {
    let Some(records) = checked("zeek_zeek__fin_retransmission.pcap") else { return };
    assert_eq!(conn_values(&records), ["- 0.610409 0 0 RSTR 0 SFhr 3 156 2"]);
}

#[test]
fn captures_of_unusual_handshakes_are_read() {
    if let Some(records) = checked("zeek_zeek__handshake-reorder.pcap") {
        assert_eq!(conn_values(&records), ["http 0.141744 136 5007 SF 0 ^hSADadFf 7 512 7"]);
        assert_eq!(http_values(&records), ["GET bro.org /download/CHANGES.bro-aux.txt 200 4705"]);
    }
    if let Some(records) = checked("zeek_zeek__tcp-fast-open.pcap") {
        let expected = [
            "http 0.005275 86 1307 SF 0 ShAdfFa 4 314 4",
            "http 0.006866 65 200 SF 0 ShDadfF 3 233 5",
        ];
        assert_eq!(conn_values(&records), expected);
        let expected =
            ["GET - //index.php?page=../../../etc/passwd 200 1158", "GET - /index.php 302 0"];
        assert_eq!(http_values(&records), expected);
    }
}

#[test]
fn a_capture_with_packets_that_come_twice_misses_nothing() {
    let Some(records) = checked("zeek_zeek__ssh-dups.pcap") else { return };
    assert_eq!(conn_values(&records), ["- 4.937069 3705 4273 SF 0 ShADTadtTtFf 225 26532 152"]);
}

#[test]
fn captures_of_many_requests_are_read() {
    if let Some(records) = checked("zeek_zeek__pipelined-requests.pcap") {
        let expected = [
            "GET www.mozilla.org /images/template/screen/bullet_utility.png 200 94",
            "GET www.mozilla.org /images/template/screen/key-point-top.png 200 2349",
            "GET www.mozilla.org /projects/calendar/images/header-sunbird.png 200 27579",
            "GET www.mozilla.org /script/urchin.js 200 6716",
            "GET www.mozilla.org /style/enhanced.css 200 946",
        ];
        assert_eq!(http_values(&records), expected);
    }
    if let Some(records) = checked("zeek_zeek__206_example_a.pcap") {
        let expected = [
            "GET cs.gmu.edu /~tr-admin/papers/GMU-CS-TR-2010-20.pdf 206 32768",
            "GET cs.gmu.edu /~tr-admin/papers/GMU-CS-TR-2010-20.pdf 206 522755",
        ];
        assert_eq!(http_values(&records), expected);
    }
    if let Some(records) = checked("zeek_zeek__methods.pcap") {
        let methods = values(&records, log::Log::Http, &["method"]);
        let count = |wanted: &str| methods.iter().filter(|method| *method == wanted).count();
        // Most lines of this capture are no requests, and are answered all the same.
        assert_eq!((methods.len(), conns(&records).len()), (49, 49));
        let known = ["GET", "HEAD", "PUT", "TRACE", "DELETE", "OPTIONS", "CCM_POST", "CONNECT"];
        assert_eq!((known.map(count), count("-")), ([3, 2, 2, 2, 2, 2, 2, 2], 31));
    }
}

/// A node that waits longer, as the times of this capture are stretched.
fn patient() -> Node {
    let long = std::time::Duration::from_secs(30);
    let timeouts = Timeouts { attempt: long, closed: long, reset: long, ..Timeouts::default() };
    Node::with(Config { timeouts, ..Config::default() }, 1)
}

const SEED: &str = "http-489.pcap";

/// Flows, packets, bytes and requests as the list that comes with the capture has them.
#[test]
fn the_capture_of_489_conversations_agrees_with_its_list() {
    let Some(frames) = capture(SEED) else { return };
    checked(SEED);
    let Some(list) = data("http-489.flows.csv") else { return };
    let list = std::fs::read_to_string(list).unwrap();
    let mut node = patient();
    node.take_all(&frames);
    let records = node.finish();
    let (conns, https) = (conns(&records), https(&records));
    let (mut flows, mut requests, mut differ) = (0, 0, Vec::new());
    for row in list.lines().skip(1) {
        let row: Vec<_> = row.split(',').collect();
        let client: std::net::IpAddr = row[1].parse().unwrap();
        let own: Vec<_> = conns.iter().filter(|conn| conn.id.orig.0 == client).collect();
        let [conn] = own[..] else { panic!("{row:?}: {own:?}") };
        let packets = conn.packets.orig + conn.packets.resp;
        // The list counts Ethernet headers too.
        let bytes = conn.ip_bytes.orig + conn.ip_bytes.resp + 14 * packets;
        assert_eq!([conn.id.resp.0.to_string(), packets.to_string(), bytes.to_string()], row[2..5]);
        let own = https.iter().filter(|http| http.id == conn.id && http.request.is_some()).count();
        requests += own;
        if own.to_string() != row[5] {
            let repeated = conn.history.contains(&b'T') && own < row[5].parse().unwrap();
            differ.push((row[1].to_owned(), repeated));
        }
        flows += 1;
    }
    // The list counts packets that look like a request: those sent again too, and not a second
    // request in one packet.
    let others: Vec<_> = differ.iter().filter(|(_, repeated)| !repeated).collect();
    println!(
        "data test ran: {SEED}: {flows} flows, all packets and bytes, {requests} requests; of \
         these those of {} flows as listed, {} flows sent some again",
        flows - differ.len(),
        differ.len() - others.len()
    );
    // What they are is compared with tshark's below. These have lines that look like a request and
    // are none, in a body or behind another protocol, or more than one request in a packet.
    let others: Vec<_> =
        others.iter().map(|(client, _)| client.strip_prefix("10.0.").unwrap()).collect();
    let expected = [
        "0.15", "2.75", "2.82", "2.188", "2.245", "2.246", "2.247", "3.206", "3.221", "3.224",
        "3.240", "4.1", "4.27", "4.28", "4.43", "4.47", "4.56", "4.60", "4.61", "4.82", "4.84",
        "4.99",
    ];
    assert_eq!(others, expected);
    assert_eq!((flows, conns.len(), frames.len()), (489, 489, 13_759));
}

/// Another version may say something else.
const TSHARK: &str = "4.0";

/// Conversations of which tshark says something else, and why.
const OTHERWISE: &[(&str, &str)] = &[
    ("10.0.0.76", "it looks into the tunnel that a CONNECT has made"),
    ("10.0.2.135", "it ends a target at the first of its spaces"),
    ("10.0.2.166", "it takes port 22 for SSH"),
    ("10.0.2.245", "it knows SOCKS, which comes first"),
    ("10.0.2.246", "it knows SOCKS, which comes first"),
    ("10.0.2.247", "it knows SOCKS, which comes first"),
    ("10.0.2.75", "it takes a request without a version"),
    ("10.0.3.219", "it goes on behind a content length that is no number"),
    ("10.0.3.224", "it does not join a folded transfer encoding"),
    ("10.0.4.0", "it takes port 22 for SSH"),
    ("10.0.4.1", "it takes a request without a version"),
    ("10.0.4.25", "it takes port 22 for SSH"),
    ("10.0.4.26", "it takes port 22 for SSH"),
    ("10.0.4.43", "it takes a request without a version"),
    ("10.0.4.72", "it takes the request for that of another protocol over HTTP"),
    ("10.0.4.82", "it begins again behind bytes that are missing"),
    ("10.0.4.84", "it takes a request without a version"),
    ("10.0.4.99", "it knows SOCKS, which comes first"),
];

/// Method, host, target of each request, as tshark finds them.
#[test]
fn the_requests_of_489_conversations_are_those_that_tshark_finds() {
    let Some(frames) = capture(SEED) else { return };
    let Some(theirs) = tshark(&data(SEED).unwrap()) else {
        println!("data test skipped: {SEED} by tshark: tshark {TSHARK} is not installed");
        return;
    };
    let mut node = patient();
    node.take_all(&frames);
    let mut ours: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut records = node.finish();
    records.retain(|record| matches!(record, Record::Http(http) if http.request.is_some()));
    records.sort_by_key(|record| match record {
        Record::Http(http) => http.trans_depth,
        Record::Conn(_) | Record::Scan(_) => 0,
    });
    for http in https(&records) {
        let request = http.request.as_ref().unwrap();
        let host = request.host.as_deref().unwrap_or_default();
        let parts = [&request.method[..], host, &request.uri[..]];
        let line = parts.map(|part| String::from_utf8_lossy(part).into_owned()).join(" ");
        ours.entry(http.id.orig.0.to_string()).or_default().push(line);
    }
    let clients: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ: Vec<_> =
        clients.into_iter().filter(|client| ours.get(*client) != theirs.get(*client)).collect();
    let same: usize =
        ours.iter().filter(|(client, _)| !differ.contains(client)).map(|(_, all)| all.len()).sum();
    println!(
        "data test ran: {SEED} by tshark: {same} requests are the same, {} conversations differ for \
         known reasons",
        differ.len()
    );
    let known: Vec<_> = OTHERWISE.iter().map(|(client, _)| *client).collect();
    assert_eq!(differ, known);
}

/// Requests by client, or `None` where there is no tshark of that version.
fn tshark(path: &Path) -> Option<BTreeMap<String, Vec<String>>> {
    let version = std::process::Command::new("tshark").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains(&format!("(Wireshark) {TSHARK}.")) {
        return None;
    }
    let mut command = std::process::Command::new("tshark");
    command.arg("-r").arg(path);
    for port in [1080, 2375, 3128, 4000, 8000, 8001, 8080, 8888] {
        command.args(["-d", &format!("tcp.port=={port},http")]);
    }
    // Between the values of several requests in one packet stands what no value has.
    command.args(["-Y", "http.request", "-T", "fields", "-E", "aggregator=\x01"]);
    for field in ["ip.src", "http.request.method", "http.host", "http.request.uri"] {
        command.args(["-e", field]);
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    let mut requests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let parts = |index: usize| fields[index].split('\x01');
        let mut hosts = parts(2);
        for (method, uri) in parts(1).zip(parts(3)) {
            let host = hosts.next().unwrap_or_default();
            let uri = uri.replace("\\\\", "\\");
            let line = format!("{method} {host} {uri}");
            requests.entry(fields[0].to_owned()).or_default().push(line);
        }
    }
    Some(requests)
}
