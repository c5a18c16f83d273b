//! Being told of packets, and operations that an instance of the data plane is an end of.

use tonic::Code;
use weir_api::{
    dataplane::v1::{Guarantee, MovePhase},
    nf::v1::Scope,
    v1::{
        StateFailure, StateOperationState as State, move_request::Selection, notify_response::Note,
    },
};

use crate::support::{
    nf::flow,
    node::{block_on, limited},
    state::{Pair, copied, moved},
};

/// Reads events and gaps until so many events have come or are lost: what was told, and lost.
async fn told(
    stream: &mut tonic::Streaming<weir_api::v1::NotifyResponse>,
    count: u64,
) -> (Vec<weir_api::v1::StateEvent>, u64) {
    let (mut events, mut lost) = (Vec::new(), 0);
    while (events.len() as u64) + lost < count {
        match limited(stream.message()).await.unwrap().unwrap().note.unwrap() {
            Note::Event(event) => events.push(event),
            Note::Gap(gap) => lost += gap.lost,
            Note::Operation(operation) => panic!("{operation:?}"),
        }
    }
    (events, lost)
}

#[test]
fn every_notification_is_told_of_packets_in_order_and_ends_with_its_stream() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        let (first, mut one) = running.notified("a", "dport=80", 20).await.unwrap();
        let (second, mut two) =
            running.notified("a", "src=10.0.1.0/24,tcp_flags=syn", 0).await.unwrap();
        assert!(first.id != second.id && first.state() == State::Running);
        pair.a.monitor().packets(&flow(1, 1, 1_000), 50);
        pair.a.monitor().packets(&flow(2, 1, 1_000), 10);
        let (events, lost) = told(&mut one, 60).await;
        assert_eq!((events.len(), lost), (60, 0));
        let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, (0..60).collect::<Vec<_>>());
        assert_eq!((events[0].packet.len(), events[0].length, events[49].version), (20, 60, 50));
        let flow_text = "src=10.0.1.1,dst=192.168.0.1,sport=1000,dport=80,proto=tcp,service=0";
        assert_eq!(events[0].flow, flow_text);
        let (events, _) = told(&mut two, 50).await;
        assert!(events.iter().all(|event| event.flow == flow_text && event.packet.is_empty()));
        assert_eq!(pair.a.monitor().subscriptions, 2);
        drop(one);
        let ended = running.state_ended(first.id).await;
        assert_eq!((ended.state(), ended.events), (State::Cancelled, 60));
        limited(async {
            while pair.a.monitor().subscriptions != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // Told to end, it says so, and is over.
        running.cancel(second.id).await.unwrap();
        let last = limited(two.message()).await.unwrap().unwrap().note.unwrap();
        let Note::Operation(last) = last else { panic!("{last:?}") };
        assert_eq!((last.id, last.state()), (second.id, State::Cancelled));
        assert_eq!(limited(two.message()).await.unwrap(), None);
    });
}

#[test]
fn a_reader_that_is_too_slow_is_told_how_much_it_has_missed() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        let (operation, mut stream) = running.notified("a", "any", 60).await.unwrap();
        // More than all buffers on the way take.
        for _ in 0..400 {
            pair.a.monitor().packets(&flow(1, 1, 1_000), 100);
            tokio::task::yield_now().await;
        }
        let (events, lost) = told(&mut stream, 40_000).await;
        assert!(lost > 0 && !events.is_empty(), "{} told", events.len());
        assert_eq!(events.len() as u64 + lost, 40_000);
        assert!(events.is_sorted_by(|one, two| one.sequence < two.sequence));
        let known = running.state_operations().await;
        let known = known.iter().find(|known| known.id == operation.id).unwrap();
        assert_eq!((known.events, known.events_lost), (events.len() as u64, lost));
    });
}

#[test]
fn an_end_that_dies_ends_its_notifications() {
    let mut pair = Pair::new();
    let running = pair.start();
    block_on(async {
        let (_, mut stream) = running.notified("a", "any", 0).await.unwrap();
        let dead = crate::support::nf::Nf::unserved(crate::support::nf::Monitor::new(1)).1;
        drop(std::mem::replace(&mut pair.a, dead));
        let last = limited(stream.message()).await.unwrap().unwrap().note.unwrap();
        let Note::Operation(last) = last else { panic!("{last:?}") };
        assert_eq!((last.state(), last.failure()), (State::Failed, StateFailure::Unreachable));
        let refused = running.notified("a", "any", 70_000).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    });
}

#[test]
fn between_instances_the_data_plane_moves_and_says_how_far_it_is() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        let mut ask = moved("m", "sw1", "2", "proto=udp");
        ask.guarantee = Guarantee::Unspecified.into();
        ask.scopes.clear();
        let done = running.moves(ask.clone()).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        assert_eq!((done.from.as_str(), done.to.as_str()), ("instance/sw1", "instance/sw2"));
        assert_eq!(
            (done.guarantee(), done.scopes),
            (Guarantee::Ordered, vec![Scope::PerFlow as i32])
        );
        let seen = done.r#move.unwrap();
        assert_eq!((seen.phase(), seen.request_id.as_str()), (MovePhase::Done, "m"));
        let again = running.moves(ask).await.unwrap();
        assert_eq!((again.id, pair.node.fake.model().moves.len()), (done.id, 1));
        let mut ask = moved("b", "sw1", "sw2", "");
        ask.selection = Some(Selection::Buckets("0-9".to_owned()));
        let done = running.moves(ask).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        // What the data plane refuses has never begun.
        let refused = running.moves(moved("f", "sw1", "sw2", "any")).await.unwrap_err();
        assert_eq!(refused.message(), "that is no filter");
        assert_eq!(running.state_operations().await.len(), 2);
    });
}

#[test]
fn an_instance_is_an_end_like_any_other_and_named_in_each_call() {
    let pair = Pair::new();
    let running = pair.start();
    let instance = || pair.node.fake.instance();
    instance().packets(&flow(1, 1, 1_000), 5);
    block_on(async {
        let done = running.copies(copied("c", "sw1", "a", "src=10.0.1.0/24")).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        assert_eq!(pair.a.monitor().of_host([10, 0, 1, 1].into()), 5);
        let done = running.moves(moved("m", "instance/sw1", "b", "src=10.0.1.1")).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        assert_eq!((instance().of_flows(), pair.b.monitor().of_flows()), (0, 5));
        let (_, mut stream) = running.notified("sw1", "any", 0).await.unwrap();
        instance().packets(&flow(1, 2, 1_000), 3);
        assert_eq!(told(&mut stream, 3).await.0.len(), 3);
        // The fake serves the state of its first instance only.
        let refused = running.copies(copied("d", "sw2", "a", "any")).await.unwrap();
        assert_eq!((refused.state(), refused.failure()), (State::Failed, StateFailure::Refused));
        assert!(refused.reason.contains("there is no instance 2"), "{}", refused.reason);
    });
}
