//! Broken frames, one by one, through the shipped loop, without network functions and with all of
//! them: each ends in one counter, and no function panics.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp, assets, firewall, ids, nat};
use weir_dataplane::node::FIRST;
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
fn ends_of(frames: &[Vec<u8>], functions: &ChainConfig) -> Ends {
    let mut stepped = node(functions, 1);
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
    assert_unhurt(&mut stepped, functions);
    ends
}

/// No worker was started again and no function has panicked.
fn assert_unhurt(stepped: &mut MemoryNode, functions: &ChainConfig) {
    let workers = stepped.node.list_workers();
    assert!(workers.iter().all(|worker| worker.restarts == 0), "{workers:?}");
    let (to, from) = channel();
    stepped.node.report_nfs(FIRST, to);
    stepped.settle();
    let reports: Vec<_> = from.into_iter().flatten().collect();
    assert_eq!(reports.is_empty(), functions.is_empty());
    for report in reports {
        let panics = report.counters.iter().find(|(name, _)| name == "panics");
        assert_eq!(panics.map(|(_, count)| *count), Some(0), "{report:?}");
    }
}

/// No network functions; all with the firewall first, which keeps from the others what is invalid;
/// and all with the firewall behind those that only look.
fn chains() -> [ChainConfig; 3] {
    let rules = firewall::Rules::new(vec!["all: accept any".parse().unwrap()]).unwrap();
    let limits = firewall::Limits { connections_max: Some(1_000), ..Default::default() };
    let mut firewall = firewall::Config { rules, limits, ..Default::default() };
    firewall.tracking.pick_up = true;
    let inside = |(from, pool): (&str, &str)| nat::SourceRule {
        from: from.parse().unwrap(),
        to: None,
        pool: vec![pool.parse().unwrap()],
        ports: 1..=u16::MAX,
    };
    let sources = [("0.0.0.0/1", "198.51.100.1"), ("::/0", "2001:db8:5::1")].map(inside);
    let rules = nat::Rules::new(sources.to_vec(), Vec::new()).unwrap();
    let firewall = FunctionConfig::Firewall(firewall);
    let ids = FunctionConfig::Ids(ids::Config::default());
    let assets = FunctionConfig::Assets(assets::Config::default());
    let nat = FunctionConfig::Nat(nat::Config { rules, ..nat::Config::default() });
    let chain = |functions| ChainConfig::new(functions, Timestamp(0)).unwrap();
    [
        ChainConfig::default(),
        chain(vec![firewall.clone(), ids.clone(), assets.clone(), nat.clone()]),
        chain(vec![ids, assets, firewall, nat]),
    ]
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
    for functions in chains() {
        let ends = ends_of(&frames, &functions);
        assert_eq!(ends.values().sum::<u64>(), frames.len() as u64);
        let seen = ["forwarded", "ttl_expired", "tx_too_long", "bad_header_checksum"];
        for end in seen {
            assert!(ends.contains_key(end), "{ends:?}");
        }
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
    let mut told = Vec::new();
    for functions in chains() {
        let as_they_are = ends_of(&frames, &functions);
        let to_the_router = ends_of(&readdressed(&frames), &functions);
        for ends in [&as_they_are, &to_the_router] {
            assert_eq!(ends.values().sum::<u64>(), frames.len() as u64);
        }
        assert!(to_the_router.len() > 10, "{to_the_router:?}");
        told.push(format!("as they are {as_they_are:?}; to the router {to_the_router:?}"));
    }
    println!(
        "data test ran: bad_input: {} frames, {} too long for a port; {}",
        frames.len(),
        all - frames.len(),
        told.join("; with functions: "),
    );
}
