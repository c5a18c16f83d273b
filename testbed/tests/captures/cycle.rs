//! One cycle from one instance to four and back, by buckets and by filter, under traffic.

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{BUCKETS, Bucket, BucketSet, InstanceId, MoveId, Selection};

use crate::Moved;
use crate::replay::Replay;

/// Scales out to four instances and back to one.
pub(crate) fn run(replay: &mut Replay<'_>) -> Moved {
    let ids = scale_out(replay);
    let mut moves = start(replay, ids.iter().map(|id| (FIRST, *id, quarter(*id))));
    await_end(replay, &moves);
    // Some flows that are not whole buckets; then overlapping moves and opposite ones at once.
    let filter = |text: &str| Selection::Filter(text.parse().expect("a filter of this test"));
    let more = [
        (FIRST, ids[0], filter("proto=tcp,dport=80")),
        (ids[0], ids[1], filter("proto=tcp")),
        (ids[1], ids[0], filter("proto=udp")),
    ];
    let by_filter = start(replay, more);
    await_end(replay, &by_filter);
    let back = ids.iter().map(|id| (*id, FIRST, Selection::Buckets(BucketSet::all())));
    let home = start(replay, back);
    await_end(replay, &home);
    moves.extend(by_filter);
    moves.extend(home);
    scale_in(replay, &ids);
    moves.iter().fold(Moved { cycles: 1, ..Moved::default() }, |mut sum, id| {
        let moved = replay.stepped.node.show_move(*id).unwrap();
        assert_eq!(moved.phase(), api::MovePhase::Done, "{moved:?}");
        sum.add(Moved {
            cycles: 0,
            flows: moved.flows,
            packets_during: moved.packets_during,
            held: moved.held,
        });
        sum
    })
}

fn scale_out(replay: &mut Replay<'_>) -> Vec<InstanceId> {
    let change = api::Change::default();
    let create = |n| {
        let made = replay.stepped.node.create_instance(&change, &format!("more{n}"), 0).unwrap();
        InstanceId(u8::try_from(made.id).unwrap())
    };
    let ids: Vec<_> = (0..3).map(create).collect();
    replay.until("the instances are ready", |replay| {
        let all = [api::InstanceState::Ready, api::InstanceState::Active];
        instances(replay).iter().all(|instance| all.contains(&instance.state()))
    });
    for id in &ids {
        let active = api::InstanceState::Active;
        replay.stepped.node.set_instance_state(&change, *id, active).unwrap();
    }
    ids
}

fn scale_in(replay: &mut Replay<'_>, ids: &[InstanceId]) {
    let change = api::Change::default();
    for id in ids {
        let paused = api::InstanceState::Paused;
        replay.stepped.node.set_instance_state(&change, *id, paused).unwrap();
        replay.stepped.node.remove_instance(&change, *id).unwrap();
    }
    replay.until("the instances are gone", |replay| instances(replay).len() == 1);
}

fn instances(replay: &Replay<'_>) -> Vec<api::Instance> {
    replay.stepped.node.list_instances(replay.stepped.now).instances
}

fn start(
    replay: &mut Replay<'_>,
    moves: impl IntoIterator<Item = (InstanceId, InstanceId, Selection)>,
) -> Vec<MoveId> {
    let now = replay.stepped.now;
    let start = |(from, to, selection)| {
        let request = Request::new(from, to, selection);
        let change = api::Change::default();
        MoveId(replay.stepped.node.start_move(&change, request, false, now).unwrap().id)
    };
    moves.into_iter().map(start).collect()
}

fn await_end(replay: &mut Replay<'_>, moves: &[MoveId]) {
    replay.until("the moves end", |replay| {
        moves.iter().all(|id| replay.stepped.node.show_move(*id).unwrap().ended_ns > 0)
    });
}

/// The buckets of one of four instances.
fn quarter(id: InstanceId) -> Selection {
    let mut set = BucketSet::empty();
    let mine = (0..BUCKETS as u16).filter(|bucket| bucket % 4 == u16::from(id.0) % 4);
    mine.filter_map(Bucket::new).for_each(|bucket| set.insert(bucket));
    Selection::Buckets(set)
}
