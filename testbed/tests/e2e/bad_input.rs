//! Malformed frames through the live process, without and with network functions: no worker stops,
//! no function panics, and each frame is in one counter. What lies is in the logs by name.

use std::fs::File;
use std::path::Path;

use etherparse::PacketBuilder;
use pcap_file::pcap::PcapReader;
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::packet_socket::PacketSocket;
use weir_testbed::packet_socket::arriving;
use weir_testbed::udp::{ETHERNET, FRAME_MIN, Mark, ROUTER, TTL, mac, write};
use weir_testbed::wait::{LIMIT, until};

use super::Setup;
use super::functions::lines;

/// Longest frame that a veth of the default MTU takes.
const FRAME_MAX: usize = 1_514;
/// Frames sent before it is seen that all of them came in: far below the length of a ring.
const AT_ONCE: usize = 128;

#[test]
#[ignore = "needs root"]
fn frames_cut_changed_and_random_are_each_in_one_counter() {
    let mut random = weir_seed::rng();
    let mut frames = Vec::new();
    for flow in weir_testbed::flow::between_all_pairs(4, 48, 1).iter().filter(|f| f.from == 0) {
        let mut good = vec![0; FRAME_MIN + 20];
        write(flow, &Mark { flow: 0, sequence: 0, sent_ns: 0 }, TTL, &mut good);
        frames.extend((ETHERNET..good.len()).map(|length| good[..length].to_vec()));
        for _ in 0..100 {
            let mut changed = good.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(ETHERNET..changed.len());
                changed[at] ^= random.u8(1..);
            }
            frames.push(changed);
        }
    }
    for _ in 0..500 {
        let mut frame: Vec<u8> = (0..random.usize(ETHERNET..300)).map(|_| random.u8(..)).collect();
        frame[..6].copy_from_slice(&mac(0, ROUTER));
        frames.push(frame);
    }
    replay(&Shape::default(), &frames);
}

#[test]
#[ignore = "needs root"]
fn real_malformed_frames_are_each_in_one_counter() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("shared/data/badinput/derived/unique-frames.pcap");
    let Ok(file) = File::open(&path) else {
        println!("data test skipped: bad input, live: {} is absent", path.display());
        return;
    };
    let mut reader = PcapReader::new(file).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let frame = packet.unwrap().data.into_owned();
        if (ETHERNET..=FRAME_MAX).contains(&frame.len()) {
            // Once as it is, and once so that it gets past the check of the address.
            let mut ours = frame.clone();
            ours[..6].copy_from_slice(&mac(0, ROUTER));
            frames.extend([frame, ours]);
        }
    }
    assert!(frames.len() > 10_000, "{}", frames.len());
    let logs = Folder::new().unwrap();
    for shape in [Shape::default(), with_functions(&logs)] {
        replay(&shape, &frames);
    }
    println!("data test ran: bad input through a live process: {} frames", frames.len());
}

/// A node with every kind of network function; those that only look see what the firewall drops.
fn with_functions(logs: &Folder) -> Shape {
    let logs = format!("logs = \"{}\"\n", logs.path().display());
    let tables = format!(
        "[[nf]]\nkind = \"ids\"\n{logs}[[nf]]\nkind = \"assets\"\n{logs}\
         [[nf]]\nkind = \"firewall\"\nrules = [\"all: accept any\"]\n\
         [[nf]]\nkind = \"nat\"\n[[nf.source]]\nfrom = \"192.0.2.0/24\"\npool = [\"198.51.100.1\"]\n"
    );
    Shape { tables, ..Shape::default() }
}

/// A segment between two ends of which the router knows nothing; both sent by the first host.
fn segment(there: bool, flags: &str, numbers: (u32, u32), payload: &[u8]) -> Vec<u8> {
    let (client, server) = ([10, 0, 1, 2], [10, 0, 2, 77]);
    let (ends, ports) =
        if there { ((client, server), (4_000, 80)) } else { ((server, client), (80, 4_000)) };
    let step = PacketBuilder::ethernet2([2; 6], mac(0, ROUTER)).ipv4(ends.0, ends.1, TTL);
    let mut step = step.tcp(ports.0, ports.1, numbers.0, 8_000);
    for flag in flags.chars() {
        step = if flag == 'S' { step.syn() } else { step.ack(numbers.1) };
    }
    let mut frame = Vec::new();
    step.write(&mut frame, payload).unwrap();
    frame
}

#[test]
#[ignore = "needs root"]
fn http_and_tcp_that_lie_are_in_the_logs_by_name() {
    let logs = Folder::new().unwrap();
    let setup = Setup::new(&with_functions(&logs));
    let socket = setup.topology.hosts[0].socket(&arriving()).unwrap();
    let before = arrived(&setup);
    let request = b"POST /lie HTTP/1.1\r\nHost: h\nContent-Length: 3\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (asked, answered) = (101 + request.len() as u32, 901 + answer.len() as u32);
    let frames = [
        segment(true, "S", (100, 0), b""),
        segment(false, "SA", (900, 101), b""),
        segment(true, "A", (101, 901), request),
        segment(false, "A", (901, asked), answer),
        // Ahead, again with other bytes, and much too far ahead.
        segment(true, "A", (asked + 10, answered), b"one"),
        segment(true, "A", (asked + 10, answered), b"two"),
        segment(true, "A", (asked + (20 << 20), answered), b"far"),
    ];
    send(&socket, &frames);
    let sent = frames.len() as u64;
    until("the frames to come in", LIMIT, || (arrived(&setup) >= before + sent).then_some(()))
        .unwrap();
    setup.dataplane.balance_at_rest().unwrap();
    setup.node.stop().unwrap();
    let value = |log: &str, field: &str| {
        let of_client = |line: &std::collections::BTreeMap<String, String>| {
            line["id.orig_p"] == "4000" && line["id.resp_h"] == "10.0.2.77"
        };
        let found: Vec<_> = lines(logs.path(), log).into_iter().filter(of_client).collect();
        let [line] = &found[..] else { panic!("{log}: {found:?}") };
        line[field].clone()
    };
    assert_eq!(value("http.log", "tags"), "bare_line_feed,length_and_chunked");
    assert_eq!(value("conn.log", "notes"), "overlap_conflict,out_of_window,gap");
}

/// Sends the frames from the first host and asserts that the router took every one of them, is
/// alive and well, and balances.
fn replay(shape: &Shape, frames: &[Vec<u8>]) {
    let setup = Setup::new(shape);
    let socket = setup.topology.hosts[0].socket(&arriving()).unwrap();
    let before = arrived(&setup);
    let mut sent = 0;
    for part in frames.chunks(AT_ONCE) {
        send(&socket, part);
        sent += part.len() as u64;
        // Hosts say things of their own, so there may be more.
        until("the frames to come in", LIMIT, || (arrived(&setup) >= before + sent).then_some(()))
            .unwrap();
    }
    let balance = setup.dataplane.balance_at_rest().unwrap();
    println!("{sent} frames: {balance:?}");
    for drop in setup.dataplane.counters().unwrap().drops {
        println!("{:>8} {}", drop.packets, drop.reason);
    }
    assert_eq!(balance.overload, 0);
    let workers = setup.dataplane.workers().unwrap();
    assert!(workers.iter().all(|worker| worker.restarts == 0), "{workers:?}");
    let nfs = setup.dataplane.nfs().unwrap();
    assert_eq!(nfs.is_empty(), shape.tables.is_empty());
    for nf in nfs {
        let panics = nf.counters.iter().find(|counter| counter.name == "panics");
        assert_eq!(panics.map(|counter| counter.value), Some(0), "{nf:?}");
    }
    setup.topology.hosts[1].namespace.run("ping -n -c 3 -i 0.01 -W 10 10.0.3.2").unwrap();
    let frames = setup.dataplane.counters().unwrap().frames;
    let total: u64 = frames.iter().map(|place| place.frames).sum();
    assert_eq!(total, u64::from(setup.dataplane.node().unwrap().frames), "{frames:?}");
}

/// Frames that came in at the first port, whatever became of them.
fn arrived(setup: &Setup) -> u64 {
    let ports = setup.dataplane.ports().unwrap();
    let port = ports.iter().find(|port| port.name == "sap1").unwrap();
    port.rx_packets + port.punted + port.kernel_drops
}

fn send(socket: &PacketSocket, frames: &[Vec<u8>]) {
    let mut sent = 0;
    until("the frames to be sent", LIMIT, || {
        sent += socket.send(frames[sent..].iter().map(Vec::as_slice)).unwrap();
        (sent == frames.len()).then_some(())
    })
    .unwrap();
}
