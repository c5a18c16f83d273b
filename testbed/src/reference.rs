//! What the instances keep of each flow, against what a single instance would.

use std::collections::HashMap;
use std::net::SocketAddr;

use weir_api::dataplane::v1;

use crate::flow::{DESTINATION_PORTS, Flow};
use crate::generator::FlowState;

/// UDP, by its protocol number.
const UDP: u32 = 17;

/// Compares the flows of all instances with the reference; one line for each that differs.
///
/// Every flow that sent packets must be with one instance only, with the packets, bytes and
/// rolling hash that a single instance would have. Flows that others made are left out.
pub fn mismatches(kept: &[v1::Flow], reference: &[(Flow, FlowState)]) -> Vec<String> {
    let mut found: HashMap<(SocketAddr, SocketAddr), Vec<&v1::Flow>> = HashMap::new();
    let mut wrong = Vec::new();
    for flow in kept.iter().filter(|flow| is_ours(flow)) {
        match key(flow) {
            Some(key) => found.entry(key).or_default().push(flow),
            None => wrong.push(format!("unreadable: {flow:?}")),
        }
    }
    for (flow, state) in reference {
        let kept = found.remove(&(flow.source, flow.destination)).unwrap_or_default();
        let same = match kept.as_slice() {
            [] => state.packets == 0,
            [one] => {
                (one.packets, one.bytes, one.digest) == (state.packets, state.bytes, state.digest)
            }
            _ => false,
        };
        if !same {
            wrong.push(format!("{} to {}: {state:?} but {kept:?}", flow.source, flow.destination));
        }
    }
    wrong.extend(found.values().flatten().map(|flow| format!("nobody sent {flow:?}")));
    wrong
}

fn is_ours(flow: &v1::Flow) -> bool {
    let port = u16::try_from(flow.dst_port).unwrap_or_default();
    flow.protocol == UDP && DESTINATION_PORTS.contains(&port)
}

fn key(flow: &v1::Flow) -> Option<(SocketAddr, SocketAddr)> {
    let address =
        |ip: &str, port: u32| Some(SocketAddr::new(ip.parse().ok()?, u16::try_from(port).ok()?));
    Some((address(&flow.src, flow.src_port)?, address(&flow.dst, flow.dst_port)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::between_all_pairs;

    fn reference() -> Vec<(Flow, FlowState)> {
        let states = (1..).map(|n| FlowState { packets: n, bytes: 100 * n, digest: 7 * n });
        between_all_pairs(2, 6, 1).into_iter().zip(states).collect()
    }

    fn kept(reference: &[(Flow, FlowState)]) -> Vec<v1::Flow> {
        let entry = |(flow, state): &(Flow, FlowState)| v1::Flow {
            src: flow.source.ip().to_string(),
            dst: flow.destination.ip().to_string(),
            src_port: flow.source.port().into(),
            dst_port: flow.destination.port().into(),
            protocol: UDP,
            packets: state.packets,
            bytes: state.bytes,
            digest: state.digest,
            ..v1::Flow::default()
        };
        reference.iter().map(entry).collect()
    }

    #[test]
    fn equal_states_match_and_other_flows_are_left_out() {
        let reference = reference();
        let mut kept = kept(&reference);
        kept.push(v1::Flow { protocol: 6, dst_port: 5_001, ..v1::Flow::default() });
        assert_eq!(mismatches(&kept, &reference), Vec::<String>::new());
    }

    #[test]
    fn every_way_to_differ_is_one_mismatch() {
        let reference = reference();
        let count = |change: fn(&mut Vec<v1::Flow>)| {
            let mut kept = kept(&reference);
            change(&mut kept);
            mismatches(&kept, &reference).len()
        };
        assert_eq!(count(|kept| kept[0].packets += 1), 1);
        assert_eq!(count(|kept| kept[1].bytes -= 1), 1);
        assert_eq!(count(|kept| kept[2].digest ^= 1), 1);
        assert_eq!(count(|kept| drop(kept.pop())), 1);
        assert_eq!(count(|kept| kept.push(kept[3].clone())), 1);
        assert_eq!(count(|kept| kept.push(v1::Flow { src_port: 9, ..kept[3].clone() })), 1);
        assert_eq!(count(|kept| kept.push(v1::Flow { src: "?".into(), ..kept[3].clone() })), 1);
    }
}
