//! Ends that die or are started again while state is on its way.

use weir_api::v1::StateOperationState as State;

use crate::support::{
    gate::{Gate, gated},
    nf::{Monitor, Nf, flow},
    node::{Running, block_on, limited},
    state::{Pair, moved},
};

/// Has the source know of flows, 100 packets.
fn fill(pair: &Pair) {
    (1..=20).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
}

/// Begins a move of them, and waits until it has come to a gate; its number.
async fn has_come_to(gate: &Gate, running: &Running) -> u64 {
    let asked = moved("m", "a", "b", "src=10.0.1.0/24");
    let mut stream = running.state().await.r#move(asked).await.unwrap().into_inner();
    let id = limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id;
    gate.has_one().await;
    id
}

#[test]
fn a_destination_that_is_started_again_between_two_scopes_does_not_cost_the_source_its_state() {
    let mut pair = Pair::new();
    pair.a.die();
    let (a, gate, _thread) = gated(&pair.socket("a"), Monitor::new(1), "GetMultiFlow");
    pair.a = a;
    fill(&pair);
    let running = pair.start();
    block_on(async {
        let id = has_come_to(&gate, &running).await;
        assert_eq!(pair.b.monitor().of_flows(), 100, "the flows are there");
        pair.b.die();
        pair.b = Nf::start(&pair.socket("b"), Monitor::new(3));
        running.reaches("b").await;
        gate.open();
        let ended = running.state_ended(id).await;
        assert_eq!(
            (ended.state(), ended.failed_end.as_str()),
            (State::Undone, "nf/b"),
            "{ended:?}"
        );
        assert!(ended.reason.contains("was started again"), "{}", ended.reason);
        assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (100, 0));
    });
}

/// The destination has the only copy then.
#[test]
fn what_a_source_has_lost_is_not_removed_at_the_destination() {
    for starts_again in [true, false] {
        let mut pair = Pair::new();
        pair.b.die();
        let (b, gate, _thread) = gated(&pair.socket("b"), Monitor::new(2), "PutMultiFlow");
        pair.b = b;
        fill(&pair);
        let running = pair.start();
        block_on(async {
            let id = has_come_to(&gate, &running).await;
            pair.a.die();
            if starts_again {
                pair.a = Nf::start(&pair.socket("a"), Monitor::new(3));
            }
            running.cancel(id).await.unwrap();
            gate.open();
            let ended = running.state_ended(id).await;
            assert_eq!(
                (ended.state(), ended.failed_end.as_str(), pair.b.monitor().of_flows()),
                (State::Failed, "nf/a", 100),
                "{ended:?}"
            );
            let says =
                "nf/a has lost what was taken from it, as far as anybody knows, so nf/b keeps";
            assert!(ended.reason.contains(says), "{}", ended.reason);
        });
    }
}
