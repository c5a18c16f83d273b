//! What several functions know of one host is forgotten by all of them, and counts once.

use std::collections::BTreeSet;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::southbound::{Cursor, Get, More};
use weir_state_transfer::{Chunk, FlowId, PortId, ServiceId, StateFilter};

use super::*;
use crate::nf::assets;
use crate::nf::firewall::{Limits, Rules};
use crate::packet::samples::{self, HOST_A, HOST_B};
use crate::packet::{Parsed, parse};

/// A firewall with a limit, an intrusion detection and an inventory of hosts.
fn chain() -> Chain {
    let rules = Rules::new(vec!["all: accept any".parse().expect("a rule")]).expect("one rule");
    let limits = Limits { connections_max: Some(9), ..Limits::default() };
    let firewall = firewall::Config { rules, limits, ..firewall::Config::default() };
    let functions = vec![
        FunctionConfig::Firewall(firewall),
        FunctionConfig::Ids(ids::Config::default()),
        FunctionConfig::Assets(assets::Config::default()),
    ];
    let config = ChainConfig::new(functions, Timestamp(0)).expect("three functions");
    Chain::new(&config, &SteeringHash::new(0x6d5a), Replica { instance: 1, incarnation: 5 })
}

/// A connection of two hosts begins.
fn begins(chain: &mut Chain, [from, to]: [std::net::Ipv4Addr; 2]) {
    let mut frame = samples::tcp4(from, to, (4_000, 80), b"");
    // A SYN and nothing else.
    frame[14 + 20 + 13] = 2;
    let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
    let (frame, meta) = (&mut frame[..], &mut meta);
    let mut passing = Passing { frame, meta, port: PortId(0), now: Nanos(1 << 40) };
    let (verdict, _) = chain.process_first(&mut passing, &|_| false);
    assert_eq!(verdict, Ok(()));
}

fn known(chain: &mut Chain) -> Vec<Chunk> {
    let filter = StateFilter::default();
    let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: 16 };
    let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
    while chain.get_multi_flow(&get, &mut cursor, &mut chunks, Nanos(1 << 40)) == More::Yes {}
    chunks
}

#[test]
fn an_id_that_several_functions_know_is_deleted_at_all_of_them_and_counts_once() {
    let mut chain = chain();
    begins(&mut chain, [HOST_A, HOST_B]);
    begins(&mut chain, [HOST_B, HOST_A]);
    let chunks = known(&mut chain);
    let ids: BTreeSet<FlowId> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
    assert!(chunks.len() > ids.len(), "{chunks:?}");
    let mut asked: Vec<FlowId> = ids.iter().cloned().collect();
    asked.push(FlowId::host([203, 0, 113, 9].into(), ServiceId(0)));
    // One that is named twice is gone the second time.
    asked.extend(ids.iter().take(1).cloned());
    assert_eq!(chain.del_multi_flow(&asked), ids.len());
    assert_eq!(known(&mut chain), Vec::new());
    assert_eq!(chain.del_multi_flow(&asked), 0);
}
