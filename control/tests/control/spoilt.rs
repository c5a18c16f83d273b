//! Moves out of a network function that gives spoilt state: each is undone with a typed failure, and
//! both ends have what they had.

use weir_api::{
    nf::v1::RefusalReason,
    v1::{StateFailure, StateOperationState as State},
};
use weir_state_transfer::{
    FlowId, ServiceId,
    chunk::{BODY_MAX, Chunk, Schema, Scope},
};

use crate::support::{
    nf::{Monitor, flow},
    node::block_on,
    spoiling::Spoil,
    state::{Pair, moved},
};

/// Where the length of the body is in an encoded chunk.
const BODY_LENGTH: usize = 40;
const CHECKSUM: usize = size_of::<u32>();

/// A way to spoil state; what the move comes to; the reason with which the destination refuses it,
/// where the sidecar does not; and what people are told.
type Case = (&'static str, Spoil, StateFailure, Option<RefusalReason>, &'static str);

/// Each spoils the last chunk of a message: those before it have been put.
const CASES: &[Case] = &[
    ("cut", |chunks| cut(chunks), StateFailure::Malformed, None, "is cut off"),
    ("longer", |chunks| last(chunks).push(0), StateFailure::Malformed, None, "1 bytes follow"),
    ("one bit", |chunks| flip(chunks), StateFailure::Malformed, None, "is corrupted"),
    ("stage", |chunks| forge(last(chunks), 6, &[3]), StateFailure::Malformed, None, "stage"),
    ("oversize", |chunks| oversize(chunks), StateFailure::Malformed, None, "bytes of state"),
    (
        "not matched",
        |chunks| of_another(chunks),
        StateFailure::Malformed,
        None,
        "the filter names nothing",
    ),
    ("repeated", repeat, StateFailure::Malformed, None, "again, and a get gives each piece once"),
    (
        "revision",
        |chunks| change(chunks, |chunk| chunk.schema.revision += 1),
        StateFailure::ChunkRefused,
        Some(RefusalReason::UnknownSchema),
        "is not known here",
    ),
    (
        "schema",
        |chunks| change(chunks, |chunk| chunk.schema = Schema { kind: 0x7fff, revision: 1 }),
        StateFailure::ChunkRefused,
        Some(RefusalReason::UnknownSchema),
        "is not known here",
    ),
    (
        "body",
        |chunks| change(chunks, |chunk| chunk.body.truncate(1)),
        StateFailure::ChunkRefused,
        Some(RefusalReason::BadBody),
        "is malformed",
    ),
];

fn last(chunks: &mut [Vec<u8>]) -> &mut Vec<u8> {
    chunks.last_mut().unwrap()
}

/// The last chunk with a change, sound as bytes.
fn change(chunks: &mut [Vec<u8>], change: impl FnOnce(&mut Chunk)) {
    let bytes = last(chunks);
    let mut chunk = Chunk::decode(bytes).unwrap();
    change(&mut chunk);
    *bytes = chunk.encode().unwrap();
}

/// Other bytes in a place, and the checksum that they should have.
fn forge(bytes: &mut [u8], place: usize, new: &[u8]) {
    bytes[place..place + new.len()].copy_from_slice(new);
    let covered = bytes.len() - CHECKSUM;
    let checksum = crc32c::crc32c(&bytes[..covered]).to_be_bytes();
    bytes[covered..].copy_from_slice(&checksum);
}

fn cut(chunks: &mut [Vec<u8>]) {
    last(chunks).pop();
}

fn flip(chunks: &mut [Vec<u8>]) {
    let bytes = last(chunks);
    let place = bytes.len() - CHECKSUM - 1;
    bytes[place] ^= 1;
}

/// One that is as long as it says.
fn oversize(chunks: &mut [Vec<u8>]) {
    let bytes = last(chunks);
    let body = Chunk::decode(bytes).unwrap().body.len();
    bytes.resize(bytes.len() - body + BODY_MAX + 1, 0);
    forge(bytes, BODY_LENGTH, &(BODY_MAX as u32 + 1).to_be_bytes());
}

fn of_another(chunks: &mut [Vec<u8>]) {
    change(chunks, |chunk| {
        chunk.id = match chunk.scope {
            Scope::PerFlow => FlowId::flow(&flow(9, 1, 1_000)),
            _ => FlowId::host([10, 0, 9, 1].into(), ServiceId(0)),
        };
    });
}

fn repeat(chunks: &mut Vec<Vec<u8>>) {
    let again = last(chunks).clone();
    chunks.push(again);
}

fn known(monitor: &Monitor) -> impl PartialEq + std::fmt::Debug + use<> {
    (monitor.flows.clone(), monitor.hosts.clone())
}

#[test]
fn state_that_is_spoilt_on_its_way_undoes_the_move_and_changes_nothing() {
    let pair = Pair::new();
    (1..=9).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
    let running = pair.start();
    let filter = "src=10.0.1.0/24";
    for scope in [Scope::MultiFlow, Scope::PerFlow] {
        if scope == Scope::PerFlow {
            // What the destination has of the same flows is there again.
            [3, 7].iter().for_each(|host| pair.b.monitor().packets(&flow(1, *host, 1_000), 2));
        }
        for (name, spoil, failure, refused, told) in CASES {
            pair.a.spoil(scope, Some(*spoil));
            let before = (known(&pair.a.monitor()), known(&pair.b.monitor()));
            let ask = moved(&format!("{scope} {name}"), "a", "b", filter);
            let undone = block_on(running.moves(ask)).unwrap();
            let of = format!("{name} of {scope} state: {undone:?}");
            assert_eq!((undone.state(), undone.failure()), (State::Undone, *failure), "{of}");
            assert!(undone.reason.contains(told), "{of}");
            let end = if refused.is_some() { "nf/b" } else { "nf/a" };
            assert_eq!(undone.failed_end, end, "{of}");
            assert_eq!(undone.refusal.as_ref().map(|why| why.reason()), *refused, "{of}");
            assert_eq!((known(&pair.a.monitor()), known(&pair.b.monitor())), before, "{of}");
        }
        pair.a.spoil(scope, None);
    }
    let done = block_on(running.moves(moved("sound", "a", "b", filter))).unwrap();
    assert_eq!(done.state(), State::Done, "{done:?}");
    assert_eq!(pair.b.monitor().of_flows(), 45);
}
