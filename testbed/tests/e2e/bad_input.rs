//! Malformed frames through the live process: no worker stops, and each frame is in one counter.

use std::fs::File;
use std::path::Path;

use pcap_file::pcap::PcapReader;
use weir_testbed::node::Shape;
use weir_testbed::packet_socket::PacketSocket;
use weir_testbed::packet_socket::arriving;
use weir_testbed::udp::{ETHERNET, FRAME_MIN, Mark, ROUTER, TTL, mac, write};
use weir_testbed::wait::{LIMIT, until};

use super::Setup;

/// Longest frame that a veth of the default MTU takes.
const FRAME_MAX: usize = 1_514;
/// Frames sent before it is seen that all of them came in: far below the length of a ring.
const AT_ONCE: usize = 128;

#[test]
#[ignore = "needs root"]
fn frames_cut_changed_and_random_are_each_in_one_counter() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
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
    replay(&frames);
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
    replay(&frames);
    println!("data test ran: bad input through a live process: {} frames", frames.len());
}

/// Sends the frames from the first host and asserts that the router took every one of them, is
/// alive and well, and balances.
fn replay(frames: &[Vec<u8>]) {
    let setup = Setup::new(&Shape::default());
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
