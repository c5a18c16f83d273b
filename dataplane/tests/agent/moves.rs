//! Moves that are in the way of others, as clients of the agent meet them.

use std::io::{PipeWriter, Write as _};
use std::os::fd::AsRawFd as _;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::dataplane::v1 as api;
use weir_api::dataplane::v1::start_move_request::Selection;

use super::{change, served::Served};

/// The head of a capture file, without a packet.
const CAPTURE: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0];

/// A node with something to share, and three workers. That of the first instance stands still: it
/// reads from a capture that goes on once the writer is dropped, and no move ends before.
fn standing_still() -> (Served, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&CAPTURE).unwrap();
    let served = Served::start(&format!(
        "[[worker]]\n[[port]]\nname = 'in'\nbackend = 'pcap'\nrx = '/proc/self/fd/{}'\ntx = '/dev/null'\n\
         [shares]\nshares_max = 1\nslots = 64\n\
         [[nf]]\nkind = 'firewall'\nrules = ['all: accept any']\nconnections_max = 3\n",
        reader.as_raw_fd()
    ));
    (served, writer)
}

async fn start(
    served: &Served,
    id: &str,
    (from, to): (u32, u32),
    selection: Selection,
    no_queue: bool,
) -> Result<api::Move, Status> {
    let selection = Some(selection);
    let request = api::StartMoveRequest {
        change: change(id),
        from,
        to,
        selection,
        no_queue,
        ..api::StartMoveRequest::default()
    };
    let started = served.moves().await.start_move(request).await?;
    Ok(started.into_inner().r#move.unwrap())
}

/// Checks that something was refused as it overlaps a move.
fn assert_overlaps(refused: &Status, id: u64) {
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let info = refused.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((&*info.domain, &*info.reason), ("weir", "MOVE_OVERLAPS"), "{refused}");
    assert_eq!(info.metadata["move"], id.to_string(), "{refused}");
    assert!(refused.message().contains(&format!("move {id}")), "{refused}");
}

#[tokio::test]
async fn what_overlaps_a_move_in_progress_is_refused_with_its_id_unless_it_may_wait() {
    let (served, writer) = standing_still();
    let (two, three) = (served.create("r2", "two").await, served.create("r3", "three").await);
    let buckets = |text: &str| Selection::Buckets(text.to_owned());
    // So that the number of a move is no other's.
    let first = start(&served, "first", (1, two), buckets("0-7"), true).await.unwrap();
    let second = start(&served, "second", (1, three), buckets("8-15"), true).await.unwrap();
    assert!(second.id > first.id, "it does not overlap the first");

    let filter = Selection::Filter("dport=53".to_owned());
    for (place, selection, ends, id) in [
        (0, buckets("7"), (1, three), first.id),
        (1, buckets("15-16"), (1, two), second.id),
        (2, filter, (1, two), first.id),
    ] {
        let asked = start(&served, &format!("refused {place}"), ends, selection, true).await;
        assert_overlaps(&asked.expect_err("it overlaps"), id);
    }
    let share = api::StartShareRequest {
        change: change("share"),
        instances: vec![1, two],
        filter: "any".to_owned(),
        ..api::StartShareRequest::default()
    };
    let refused = served.shares().await.start_share(share).await.expect_err("its flows move");
    assert_overlaps(&refused, first.id);
    let listed = served.moves().await.list_moves(api::ListMovesRequest {}).await.unwrap();
    let listed: Vec<_> = listed.into_inner().moves.iter().map(|one| one.id).collect();
    assert_eq!(listed, [first.id, second.id], "what is refused is not there");

    let waits = start(&served, "waits", (1, three), buckets("7"), false).await.unwrap();
    assert_eq!(waits.phase(), api::MovePhase::Queued);
    drop(writer);
    for (id, ends_as) in [
        (first.id, api::MovePhase::Done),
        (second.id, api::MovePhase::Done),
        (waits.id, api::MovePhase::Done),
    ] {
        assert_eq!(served.watch(id).await.last(), Some(&ends_as), "move {id}");
    }
    served.stop().await;
}
