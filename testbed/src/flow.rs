//! The UDP flows of the generator: who sends to whom, under which ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Source ports begin here; each flow of an ordered pair of hosts has its own.
const SOURCE_PORTS: u16 = 10_000;
/// Destination ports of all generated flows: what hosts drop unanswered and the sink receives. Below
/// the ports of traceroute and those that kernels choose for themselves.
pub const DESTINATION_PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;
/// Most flows of an ordered pair of hosts.
const FLOWS_A_PAIR_MAX: usize = 10_000;
/// One flow in so many is IPv6.
const IPV6_ONE_IN: usize = 4;

/// A directed UDP flow between two hosts, numbered by its place in the list of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Index of the sending host, which is that of its SAP.
    pub from: usize,
    /// Index of the receiving host.
    pub to: usize,
    /// Address and port of the sender.
    pub source: SocketAddr,
    /// Address and port of the receiver.
    pub destination: SocketAddr,
}

/// The address of a host's or the router's end of a SAP's network: `10.0.<sap>.<end>`.
pub fn ipv4(sap: usize, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, octet(sap), end)
}

/// The address of a host's or the router's end of a SAP's network: `fd00:<sap>::<end>`.
pub fn ipv6(sap: usize, end: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, u16::from(octet(sap)), 0, 0, 0, 0, 0, u16::from(end))
}

/// SAPs are counted from 0 in code and from 1 in addresses and names.
fn octet(sap: usize) -> u8 {
    u8::try_from(sap + 1).expect("a testbed has a handful of hosts")
}

/// At least `count` flows spread evenly over all ordered pairs of `hosts`, one in four IPv6.
/// Destination ports are drawn from `seed`, source ports tell the flows of a pair apart.
///
/// # Panics
/// With fewer than two hosts, or more flows than a pair of hosts has source ports.
pub fn between_all_pairs(hosts: usize, count: usize, seed: u64) -> Vec<Flow> {
    assert!(hosts >= 2, "a flow needs two hosts");
    let pairs = hosts * (hosts - 1);
    let a_pair = count.div_ceil(pairs);
    assert!(a_pair <= FLOWS_A_PAIR_MAX, "{count} flows over {pairs} pairs of hosts");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut flows = Vec::with_capacity(a_pair * pairs);
    for from in 0..hosts {
        for to in (0..hosts).filter(|to| *to != from) {
            for (number, port) in (0..a_pair).zip(SOURCE_PORTS..) {
                let [source, destination] = [from, to].map(|sap| -> IpAddr {
                    if number % IPV6_ONE_IN == IPV6_ONE_IN - 1 {
                        ipv6(sap, 2).into()
                    } else {
                        ipv4(sap, 2).into()
                    }
                });
                flows.push(Flow {
                    from,
                    to,
                    source: SocketAddr::new(source, port),
                    destination: SocketAddr::new(destination, random.u16(DESTINATION_PORTS)),
                });
            }
        }
    }
    flows
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn flows_cover_every_ordered_pair_and_are_all_different() {
        let flows = between_all_pairs(4, 2_000, 1);
        assert!(flows.len() >= 2_000 && flows.len() < 2_012);
        let pairs: HashSet<_> = flows.iter().map(|flow| (flow.from, flow.to)).collect();
        assert_eq!(pairs.len(), 12);
        assert!(pairs.iter().all(|(from, to)| from != to));
        let keys: HashSet<_> = flows.iter().map(|flow| (flow.source, flow.destination)).collect();
        assert_eq!(keys.len(), flows.len());
        assert!(flows.iter().any(|flow| flow.source.is_ipv6()));
    }

    #[test]
    fn the_same_seed_gives_the_same_flows() {
        assert_eq!(between_all_pairs(4, 100, 7), between_all_pairs(4, 100, 7));
        assert_ne!(between_all_pairs(4, 100, 7), between_all_pairs(4, 100, 8));
    }
}
