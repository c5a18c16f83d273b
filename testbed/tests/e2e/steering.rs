//! Which instance gets which packet.

use std::collections::HashMap;

use weir_api::dataplane::v1::Flow;
use weir_testbed::dataplane::Selection;
use weir_testbed::node::Shape;

use super::{Setup, let_flow};

#[test]
#[ignore = "needs root"]
fn flows_are_with_the_owner_of_their_bucket_in_both_directions() {
    let setup = Setup::new(&Shape::default());
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let half = Selection::Buckets("0-2047".to_owned());
    let started = setup.dataplane.start_move(first, second, half).unwrap();
    setup.dataplane.finish_move(started.id).unwrap();
    let traffic = setup.traffic(600, 20_000);
    let_flow(&traffic, 20_000);
    setup.assert_exact(&traffic.stop().unwrap());
    let owners = setup.dataplane.steering().unwrap().owners;
    assert_eq!(owners.len(), 4096);
    let flows = setup.dataplane.flows("").unwrap();
    for flow in &flows {
        let bucket = usize::try_from(flow.bucket).unwrap();
        assert_eq!(u32::from(owners[bucket]), flow.instance, "{flow:?}");
        assert_eq!(flow.instance == second, bucket < 2048, "{flow:?}");
    }
    assert_both_directions_share_a_bucket(&flows);
    let loads: Vec<u64> =
        setup.dataplane.instances().unwrap().iter().map(|instance| instance.packets).collect();
    assert!(loads.iter().all(|packets| *packets > 5_000), "{loads:?}");
}

#[test]
#[ignore = "needs root"]
fn a_filter_takes_its_flows_and_no_others() {
    let setup = Setup::new(&Shape::default());
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let traffic = setup.traffic(600, 20_000);
    let_flow(&traffic, 10_000);
    let filter = "src=10.0.1.0/24,dst=10.0.2.0/24,proto=udp,symmetric=false";
    let moved =
        setup.dataplane.start_move(first, second, Selection::Filter(filter.into())).unwrap();
    let moved = setup.dataplane.finish_move(moved.id).unwrap();
    let_flow(&traffic, 10_000);
    setup.assert_exact(&traffic.stop().unwrap());
    let flows = setup.dataplane.flows("").unwrap();
    let matches = |flow: &Flow| {
        flow.src.starts_with("10.0.1.") && flow.dst.starts_with("10.0.2.") && flow.protocol == 17
    };
    for flow in &flows {
        assert_eq!(flow.instance == second, matches(flow), "{flow:?}");
    }
    let matching = flows.iter().filter(|flow| matches(flow)).count();
    assert_eq!((moved.flows, matching > 0), (matching as u64, true));
}

/// Pings are flows in both directions with the same addresses.
fn assert_both_directions_share_a_bucket(flows: &[Flow]) {
    let by_ends: HashMap<_, u32> = flows
        .iter()
        .filter(|flow| flow.src_port == 0 && flow.dst_port == 0)
        .map(|flow| ((flow.src.as_str(), flow.dst.as_str(), flow.protocol), flow.bucket))
        .collect();
    let mut pairs = 0;
    for ((src, dst, protocol), bucket) in &by_ends {
        if let Some(reverse) = by_ends.get(&(*dst, *src, *protocol)) {
            assert_eq!(bucket, reverse, "{src} and {dst}");
            pairs += 1;
        }
    }
    assert!(pairs > 0, "no flow was seen in both directions");
}
