//! What the sidecar refuses before it begins, as it would do other than what was asked.

use std::{fs, os::unix::fs::symlink};

use tonic::Code;
use weir_api::{
    dataplane::v1::Guarantee,
    v1::{MoveRequest, StateOperationState as State},
};

use crate::{
    state::refusal,
    support::{
        nf::flow,
        node::block_on,
        state::{Pair, copied, moved},
    },
};

/// State that goes from a process to itself would be deleted behind what was put.
#[test]
fn one_process_behind_two_sockets_is_no_two_ends() {
    let links: [fn(&Pair); 2] = [
        |pair| symlink(pair.socket("a"), pair.socket("third")).unwrap(),
        |pair| fs::hard_link(pair.socket("a"), pair.socket("third")).unwrap(),
    ];
    for link in links {
        let pair = Pair::new();
        (1..=40).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
        let running = pair.start();
        link(&pair);
        block_on(async {
            for (from, to) in [("a", "third"), ("third", "a")] {
                let refused = running.moves(moved("m", from, to, "any")).await.unwrap_err();
                let (reason, object, fix) = refusal(&refused);
                assert_eq!(refused.code(), Code::FailedPrecondition);
                assert_eq!((&*reason, &*object), ("SAME_END", "to"), "{refused:?}");
                let both = format!("nf/{from} and nf/{to}");
                assert!(refused.message().starts_with(&both), "{refused:?}");
                assert!(fix.contains("[[control.nf]]"), "{fix}");
                let refused = running.copies(copied("c", from, to, "any")).await.unwrap_err();
                assert_eq!(refusal(&refused).0, "SAME_END");
            }
            assert_eq!(pair.a.monitor().of_flows(), 40);
            assert_eq!(running.state_operations().await, []);
            // Another process is another end.
            let done = running.moves(moved("m", "third", "b", "any")).await.unwrap();
            assert_eq!(done.state(), State::Done, "{done:?}");
        });
    }
}

/// State has no such fields, so that these would pick all that the rest of the filter picks.
#[test]
fn a_field_of_packets_picks_no_state() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 1);
    let running = pair.start();
    block_on(async {
        for (filter, field) in [("tcp_flags=syn", "tcp_flags"), ("proto=tcp,in_port=1", "in_port")]
        {
            let ordered = MoveRequest {
                guarantee: Guarantee::Ordered.into(),
                ..moved("o", "sw1", "sw2", filter)
            };
            for refused in [
                running.moves(moved("m", "a", "b", filter)).await,
                running.moves(ordered).await,
                running.copies(copied("c", "a", "b", filter)).await,
            ] {
                let refused = refused.unwrap_err();
                let (reason, object, fix) = refusal(&refused);
                assert_eq!(refused.code(), Code::InvalidArgument);
                assert_eq!((&*reason, &*object), ("FILTER", "filter"), "{refused:?}");
                assert!(refused.message().starts_with(field) && fix.contains(field), "{refused:?}");
            }
        }
        assert_eq!(pair.a.monitor().of_flows(), 1);
        assert_eq!(running.state_operations().await, []);
    });
}

/// Packets have no such fields, so that each would be told of.
#[test]
fn a_field_of_state_picks_no_packets() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        for (end, filter) in [("a", "http.host=nowhere.example"), ("sw1", "dport=80,nfct.id=7")] {
            let refused = running.notified(end, filter, 0).await.unwrap_err();
            let (reason, object, fix) = refusal(&refused);
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert_eq!((&*reason, &*object), ("FILTER", "filter"), "{refused:?}");
            assert!(
                fix.contains("leave http.host out") || fix.contains("leave nfct.id out"),
                "{fix}"
            );
        }
        assert_eq!(pair.a.monitor().subscriptions, 0);
        assert_eq!(running.state_operations().await, []);
    });
}
