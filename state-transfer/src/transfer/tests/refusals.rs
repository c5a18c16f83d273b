//! What a destination refuses: with its reason, and everything is undone.

use super::{FLOW, HOST, chunk, chunks, flow, opened, put_all, ready, summary};
use crate::{
    Nanos,
    chunk::{BODY_MAX, CHUNK_MAX, ChunkError, Schema, Scope},
    transfer::{
        CHUNKS_MAX, Destination, DestinationCommand, MESSAGE_BYTES_MAX, Message, Outcome,
        QUIET_LIMIT, Refusal, Reply, Summary, Verdict, WINDOW,
    },
};

/// That a destination undoes for a reason, at once and whatever comes then.
fn undoes(mut destination: Destination, refusal: &Refusal) {
    assert_eq!(destination.refusal(), Some(refusal));
    let mut left = std::iter::from_fn(|| destination.poll_command()).collect::<Vec<_>>();
    assert_eq!(left.pop(), Some(DestinationCommand::Undo), "{refusal}");
    assert!(left.iter().all(|output| *output != DestinationCommand::Undo), "{refusal}");
    for message in [chunks(0, &[flow(1)]), Message::Verdict(Verdict::Keep)] {
        destination.message(message, Nanos(9));
    }
    assert_eq!(destination.poll_command(), None, "{refusal}");
    destination.undone(true);
    assert_eq!(
        destination.poll_command(),
        Some(DestinationCommand::Reply(Reply::Ended(Outcome::Undone)))
    );
    assert_eq!(
        (destination.ended(), destination.refusal()),
        (Some(Outcome::Undone), Some(refusal))
    );
}

/// That messages are refused, after two chunks that were put.
fn refuses(messages: impl IntoIterator<Item = Message>, refusal: &Refusal) {
    let mut destination = ready("src=10.0.0.0/8");
    destination.message(chunks(0, &[flow(1), flow(2)]), Nanos(2));
    put_all(&mut destination, Nanos(3));
    messages.into_iter().for_each(|message| destination.message(message, Nanos(4)));
    undoes(destination, refusal);
}

#[test]
fn what_is_no_chunk_or_no_whole_one_is_refused() {
    let place = 2;
    let none = |bytes: Vec<u8>, why| {
        refuses([chunks(2, &[bytes])], &Refusal::NotAChunk { place, why });
    };
    let whole = flow(3);
    none(b"nothing of that kind".to_vec(), ChunkError::NotAChunk);
    let length = whole.len() - 1;
    none(whole[..length].to_vec(), ChunkError::Truncated { length });
    none([whole.as_slice(), &[0]].concat(), ChunkError::TooLong { excess: 1 });
    none(Vec::new(), ChunkError::Truncated { length: 0 });
    let (what, most) = ("bytes", CHUNK_MAX);
    none(vec![0; CHUNK_MAX + 1], ChunkError::TooLarge { what, length: CHUNK_MAX + 1, most });
    let mut destination = ready("any");
    let mut other = whole;
    *other.last_mut().expect("bytes") ^= 1;
    destination.message(chunks(0, &[other]), Nanos(2));
    let why = destination.refusal().cloned().expect("it is refused");
    assert!(matches!(why, Refusal::NotAChunk { why: ChunkError::Corrupted { .. }, .. }), "{why:?}");
    undoes(destination, &why);
}

#[test]
fn what_comes_again_or_too_early_is_refused() {
    refuses([chunks(0, &[flow(1), flow(2)])], &Refusal::Repeated { place: 0, expected: 2 });
    refuses([chunks(1, &[flow(2)])], &Refusal::Repeated { place: 1, expected: 2 });
    refuses([chunks(3, &[flow(4)])], &Refusal::Missing { place: 3, expected: 2 });
}

#[test]
fn what_the_transfer_was_not_opened_for_is_refused() {
    let mut destination = ready("src=11.0.0.0/8");
    destination.message(chunks(0, &[flow(1)]), Nanos(2));
    undoes(destination, &Refusal::NotNamed { place: 0 });
    // Scopes come one after the other, and no others than those.
    let host = chunk(HOST, 1, b"");
    refuses([chunks(2, &[host, flow(4)])], &Refusal::NotNamed { place: 3 });
    let all = chunk((Scope::AllFlows, FLOW.1), 1, b"");
    refuses([chunks(2, &[all])], &Refusal::NotNamed { place: 2 });
}

#[test]
fn a_kind_of_state_that_is_not_known_is_refused_before_anything_comes_and_when_it_comes() {
    let lacking = Destination::new(opened("any"), &[FLOW]).expect_err("it lacks a kind");
    let (scope, schema) = HOST;
    assert_eq!(lacking, Refusal::UnknownSchema { scope, schema });
    let later = Schema { revision: 2, ..FLOW.1 };
    assert!(Destination::new(opened("any"), &[(Scope::PerFlow, later), HOST]).is_err());
    let (scope, schema) = (Scope::PerFlow, later);
    let message = chunks(2, &[chunk((scope, schema), 3, b"")]);
    refuses([message], &Refusal::UnknownSchema { scope, schema });
}

#[test]
fn too_much_is_refused() {
    let many: Vec<_> = (0..257).map(|_| flow(3)).collect();
    refuses([chunks(2, &many)], &Refusal::MessageTooLarge);
    refuses([chunks(2, &[])], &Refusal::MessageTooLarge);
    let large = chunk(FLOW, 3, &vec![0; MESSAGE_BYTES_MAX / 2]);
    refuses([chunks(2, &[large.clone(), large])], &Refusal::MessageTooLarge);
    // Without credit: nothing is put meanwhile.
    let full: Vec<_> = (0..256).map(|_| flow(3)).collect();
    let beyond = (0..WINDOW.chunks / 256 + 1).map(|turn| chunks(2 + turn * 256, &full));
    refuses(beyond, &Refusal::BeyondCredit);
    let whole = chunk(FLOW, 3, &vec![0; BODY_MAX]);
    let beyond = (0..=WINDOW.bytes / BODY_MAX as u64)
        .map(|turn| chunks(2 + turn, std::slice::from_ref(&whole)));
    refuses(beyond, &Refusal::BeyondCredit);
}

#[test]
fn more_chunks_than_one_transfer_may_have_are_refused() {
    let mut destination = ready("any");
    let full: Vec<_> = (0..256).map(|_| flow(3)).collect();
    for turn in 0..CHUNKS_MAX / 256 {
        destination.message(chunks(turn * 256, &full), Nanos(2));
        put_all(&mut destination, Nanos(2));
        assert_eq!(destination.refusal(), None);
    }
    destination.message(chunks(CHUNKS_MAX, &[flow(3)]), Nanos(2));
    undoes(destination, &Refusal::TooMuch);
}

#[test]
fn an_end_that_is_not_that_of_what_came_is_refused() {
    let came = [flow(1), flow(2)];
    let more = [flow(1), flow(2), flow(3)];
    let (came_amount, sent) = (summary(&came).amount, summary(&more).amount);
    let truncated = Refusal::Truncated { came: came_amount, sent };
    refuses([Message::End(summary(&more))], &truncated);
    // As many bytes, and others: a chunk was put in the place of another.
    let other = summary(&[flow(1), flow(9)]);
    assert_eq!(other.amount, came_amount);
    refuses([Message::End(other)], &Refusal::WrongDigest);
    let swapped = Summary { amount: came_amount, ..summary(&[flow(2), flow(1)]) };
    refuses([Message::End(swapped)], &Refusal::WrongDigest);
}

#[test]
fn what_is_said_out_of_turn_is_refused() {
    refuses([Message::Verdict(Verdict::Keep)], &Refusal::OutOfTurn("the verdict"));
    let more = [flow(1), flow(2), flow(3)];
    let (last, end) = (chunks(2, &[flow(3)]), Message::End(summary(&more)));
    let twice = [last.clone(), end.clone(), end.clone()];
    refuses(twice, &Refusal::OutOfTurn("the end"));
    refuses([last, end, chunks(3, &[flow(4)])], &Refusal::OutOfTurn("a chunk"));
    let mut early = Destination::new(opened("any"), &[FLOW, HOST]).expect("it has all kinds");
    early.message(chunks(0, &[flow(1)]), Nanos(1));
    undoes(early, &Refusal::OutOfTurn("a chunk"));
}

#[test]
fn a_stream_that_breaks_and_a_source_that_is_silent_are_given_up() {
    let mut broken = ready("any");
    broken.message(chunks(0, &[flow(1)]), Nanos(2));
    broken.broken_off();
    undoes(broken, &Refusal::BrokenOff);
    let mut silent = ready("any");
    let deadline = silent.poll_timeout().expect("it waits for the source");
    assert_eq!(deadline, Nanos(1) + QUIET_LIMIT);
    silent.handle_timeout(Nanos(deadline.0 - 1));
    assert_eq!(silent.refusal(), None);
    silent.handle_timeout(deadline);
    undoes(silent, &Refusal::Quiet);
    // The source has no credit, or waits for its receipt: it is not to blame.
    let mut slow = ready("any");
    slow.message(chunks(0, &[flow(1)]), Nanos(2));
    assert_eq!(slow.poll_timeout(), None);
    slow.failed();
    undoes(slow, &Refusal::Destination);
}
