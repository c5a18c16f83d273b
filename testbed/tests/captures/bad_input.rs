//! Broken frames, one by one, through the shipped loop: each ends in one counter.

use std::collections::BTreeMap;
use weir_dataplane::nf::ChainConfig;

use weir_api::dataplane::v1 as api;
use weir_state_transfer::PortId;
use weir_testbed::memory_node::MemoryNode;
use weir_testbed::trace::{data, read};

use crate::fixture;
use crate::naive::PORT_OUT;
use crate::replay::node;
use crate::source::{PORT_IN, RECEIVED_MAX, readdressed};

/// Where the frames of one replay ended.
type Ends = BTreeMap<String, u64>;

/// Sends each frame alone and finds the one counter that it ended in.
fn ends_of(frames: &[Vec<u8>]) -> Ends {
    let mut stepped = node(&ChainConfig::default(), 1);
    let mut ends = Ends::new();
    let mut before = counts(&stepped);
    for frame in frames {
        let wire = stepped.wires.get_mut(&(PortId(PORT_IN), 0)).unwrap();
        assert!(wire.inject(frame), "no frame to receive into");
        settle(&mut stepped);
        let after = counts(&stepped);
        let grown: Vec<_> = after
            .iter()
            .map(|(end, count)| (end, count - before.get(end).unwrap_or(&0)))
            .filter(|(_, more)| *more > 0)
            .collect();
        let [(end, 1)] = grown[..] else { panic!("{grown:?} for {frame:02x?}") };
        *ends.entry(end.clone()).or_default() += 1;
        before = after;
    }
    ends
}

/// Until the node is at rest and everything it sent is taken.
fn settle(stepped: &mut MemoryNode) {
    loop {
        stepped.settle();
        let mut taken = 0;
        for port in [PORT_IN, PORT_OUT] {
            for queue in 0..2 {
                while stepped.take(PortId(port), queue).is_some() {
                    taken += 1;
                }
            }
        }
        if taken == 0 {
            return;
        }
    }
}

/// Packets by what they ended as: forwarded, consumed, or dropped for a reason.
fn counts(stepped: &MemoryNode) -> Ends {
    let api::GetCountersResponse { balance, drops, .. } = stepped.node.counters();
    let balance = balance.unwrap();
    let (held, rings) = (balance.held, balance.in_rings);
    assert_eq!((held, rings, balance.unaccounted), (0, 0, 0), "{balance:?}");
    let mut ends: Ends = drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect();
    ends.insert("consumed".to_owned(), balance.consumed);
    ends.insert("forwarded".to_owned(), balance.transmitted - balance.generated);
    ends
}

#[test]
fn each_packet_of_our_own_ends_in_one_counter() {
    let frames = readdressed(&fixture::frames());
    let ends = ends_of(&frames);
    assert_eq!(ends.values().sum::<u64>(), frames.len() as u64);
    for end in ["forwarded", "ttl_expired", "tx_too_long", "bad_header_checksum"] {
        assert!(ends.contains_key(end), "{ends:?}");
    }
}

#[test]
fn each_broken_frame_of_strangers_ends_in_one_counter() {
    let path = data("badinput/derived/unique-frames.pcap");
    if !path.exists() {
        println!("data test skipped: bad_input: ../shared/data/badinput is absent");
        return;
    }
    let (mut frames, _) = read(&path).unwrap();
    let all = frames.len();
    frames.retain(|frame| frame.len() <= RECEIVED_MAX);
    let as_they_are = ends_of(&frames);
    let to_the_router = ends_of(&readdressed(&frames));
    for ends in [&as_they_are, &to_the_router] {
        assert_eq!(ends.values().sum::<u64>(), frames.len() as u64);
    }
    assert!(to_the_router.len() > 10, "{to_the_router:?}");
    println!(
        "data test ran: bad_input: {} frames, {} too long for a port; as they are \
         {as_they_are:?}; addressed to the router {to_the_router:?}",
        frames.len(),
        all - frames.len(),
    );
}
