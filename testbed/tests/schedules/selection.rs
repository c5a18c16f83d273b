//! Random selections: some of the flows of a schedule, by bucket or by filter, often overlapping.

use fastrand::Rng;
use weir_state_transfer::{Bucket, BucketSet, Filter, FlowKey, Selection};

use crate::reference::Flow;
use crate::shape::Shape;

/// A selection of some of the flows; in both directions, where these may not part.
pub(crate) fn random(flows: &[Flow], shape: &Shape, rng: &mut Rng) -> Selection {
    if rng.bool() {
        Selection::Buckets(buckets(flows, rng))
    } else {
        let flow = &flows[rng.usize(..flows.len())];
        let filter = if shape.nat { remote(&flow.key, rng) } else { filter(&flow.key, rng) };
        Selection::Filter(Filter { symmetric: filter.symmetric || shape.functions, ..filter })
    }
}

/// The buckets of some flows and a few more; seldom, many.
fn buckets(flows: &[Flow], rng: &mut Rng) -> BucketSet {
    if rng.u8(..60) == 0 {
        return "0-1023".parse().expect("a range of buckets");
    }
    let mut set = BucketSet::empty();
    let share = rng.u8(1..=9);
    for flow in flows.iter().filter(|_| rng.u8(..10) < share) {
        set.insert(flow.bucket);
    }
    for _ in 0..rng.usize(..4) {
        set.insert(Bucket::of(rng.u32(..)));
    }
    set
}

/// A filter by the remote end of a flow, which is outside of a NAT: all that such a filter may name.
fn remote(key: &FlowKey, rng: &mut Rng) -> Filter {
    let is_back = key.dst_octets()[14] == 0;
    let key = if is_back { key.reversed() } else { *key };
    let (host, port) = (key.dst(), key.dst_port());
    let text = match rng.u8(..3) {
        0 => format!("dst={host}/32"),
        1 => format!("src={host}/32,proto=udp,sport={port}"),
        _ => format!("dst={host}/32,dport={port}"),
    };
    text.parse().expect("a filter")
}

/// A filter that a flow matches, and mostly others too.
fn filter(key: &FlowKey, rng: &mut Rng) -> Filter {
    let (src, dst) = (key.src(), key.dst());
    let (sport, dport) = (key.src_port(), key.dst_port());
    let symmetric = rng.bool();
    let text = match rng.u8(..9) {
        0 => format!("src={src}/32"),
        1 => format!("dst={dst}/32"),
        2 => "src=10.0.0.0/23".to_owned(),
        3 => format!("dport={dport}"),
        4 => format!("proto=udp,sport={sport}-{}", sport + rng.u16(..6)),
        5 => format!("src={src}/32,dport={dport}"),
        6 => format!("sport={}-{sport}", sport - rng.u16(..6)),
        _ => format!("src={src}/32,dst={dst}/32,proto=udp,sport={sport},dport={dport},service=0"),
    };
    format!("{text},symmetric={symmetric}").parse().expect("a filter")
}
