//! What a NAT refuses has not begun anywhere: no function in front counts it as open.

use weir_state_transfer::{PortId, ServiceId};

use super::*;
use crate::nf::firewall::{Limits, Rules};
use crate::nf::nat::SourceRule;
use crate::packet::samples::{self, HOST_A, HOST_B};
use crate::packet::{Parsed, parse};

/// A firewall with a limit, an intrusion detection and a NAT.
fn chain() -> Chain {
    let rules = Rules::new(vec!["all: accept any".parse().expect("a rule")]).expect("one rule");
    let limits = Limits { connections_max: Some(1), ..Limits::default() };
    let firewall = firewall::Config { rules, limits, ..firewall::Config::default() };
    let (from, pool) = ("10.0.0.0/8".parse().expect("a prefix"), vec![[192, 0, 2, 1].into()]);
    let source = SourceRule { from, to: None, pool, ports: 1..=u16::MAX };
    let rules = nat::Rules::new(vec![source], Vec::new()).expect("a rule");
    let functions = vec![
        FunctionConfig::Firewall(firewall),
        FunctionConfig::Ids(ids::Config::default()),
        FunctionConfig::Nat(nat::Config { rules, ..nat::Config::default() }),
    ];
    let config = ChainConfig::new(functions, Timestamp(0)).expect("a NAT is the last");
    Chain::new(&config, &SteeringHash::new(0x6d5a), Replica { instance: 1, incarnation: 5 })
}

/// A host inside begins a connection, all of whose ports outside may be taken; whether it was
/// refused.
fn begins(chain: &mut Chain, taken: bool) -> bool {
    let mut frame = samples::tcp4(HOST_A, HOST_B, (4_000, 80), b"");
    // A SYN and nothing else.
    frame[14 + 20 + 13] = 2;
    let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
    let (frame, meta) = (&mut frame[..], &mut meta);
    let mut passing = Passing { frame, meta, port: PortId(0), now: Nanos(1 << 40) };
    let (verdict, states) = chain.process_first(&mut passing, &|_| taken);
    assert_eq!(states.is_some(), verdict.is_ok());
    verdict.is_err_and(|refused| refused.reason == DropReason::Nat)
}

fn counted(chain: &Chain, kind: &str, name: &str) -> u64 {
    let mut counters = chain.counters();
    let (_, counters) = counters.find(|(of, _)| *of == kind).expect("it is there");
    counters.into_iter().find(|(of, _)| of == name).expect("it is counted").1
}

#[test]
fn what_the_nat_refuses_is_open_nowhere() {
    let mut chain = chain();
    for round in 1..=3 {
        assert!(begins(&mut chain, true));
        for (kind, begun) in [("firewall", "begun"), ("ids", "connections")] {
            let counts = [begun, "ended"].map(|name| counted(&chain, kind, name));
            assert_eq!(counts, [round, round], "{kind}");
        }
    }
    assert!(!begins(&mut chain, false), "its source has nothing open");
    assert_eq!(counted(&chain, "ids", "connections") - counted(&chain, "ids", "ended"), 1);
    assert!(chain.take_records(10).is_empty(), "what did not begin has no record");
}
