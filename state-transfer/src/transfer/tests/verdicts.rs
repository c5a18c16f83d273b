//! Receipts and verdicts: when the source deletes, and when the destination undoes.

use super::{chunks, flow, put_all, ready, summary};
use crate::{
    Nanos,
    transfer::{
        Amount, Destination, DestinationCommand, Ended, HELD_LIMIT, Message, Outcome, Reply,
        SETTLE_LIMIT, Source, SourceCommand, Verdict, WINDOW,
    },
};

/// A source that has said its end.
fn closing() -> Source {
    let mut source = Source::new();
    assert!(!source.wants(), "the destination is not ready");
    source.reply(Reply::Credit(WINDOW), Nanos(1));
    assert!(source.wants());
    source.give([flow(1), flow(2)]);
    source.finish();
    let end = Message::End(summary(&[flow(1), flow(2)]));
    assert_eq!(said(&mut source), [chunks(0, &[flow(1), flow(2)]), end]);
    assert_eq!(source.poll_command(), None);
    source
}

/// All that a source has to say.
fn said(source: &mut Source) -> Vec<Message> {
    std::iter::from_fn(|| source.poll_message()).collect()
}

/// A destination that has given its receipt.
fn holding() -> Destination {
    let mut destination = ready("any");
    destination.message(chunks(0, &[flow(1), flow(2)]), Nanos(2));
    let all = summary(&[flow(1), flow(2)]);
    destination.message(Message::End(all), Nanos(3));
    assert!(!destination.holds(), "nothing is put yet");
    let said = put_all(&mut destination, Nanos(4));
    assert_eq!(said, [DestinationCommand::Reply(Reply::Receipt(all))]);
    destination
}

#[test]
fn a_source_deletes_upon_the_receipt_of_what_it_has_sent_and_upon_no_other() {
    let mut source = closing();
    source.reply(Reply::Receipt(summary(&[flow(1), flow(2)])), Nanos(2));
    assert_eq!(source.poll_command(), Some(SourceCommand::Delete));
    source.give_up(Nanos(3));
    assert_eq!(source.poll_command(), None, "its word is given");
    assert_eq!(source.poll_message(), None);
    source.deleted(Nanos(4));
    assert_eq!(said(&mut source), [Message::Verdict(Verdict::Keep)]);
    source.reply(Reply::Ended(Outcome::Kept), Nanos(5));
    assert_eq!(source.ended(), Some(Ended::Moved));
    for other in [summary(&[flow(1)]), summary(&[flow(2), flow(1)]), summary(&[])] {
        let mut source = closing();
        source.reply(Reply::Receipt(other), Nanos(2));
        assert_eq!(said(&mut source), [Message::Verdict(Verdict::Undo)]);
        source.reply(Reply::Ended(Outcome::Undone), Nanos(3));
        assert_eq!((source.poll_command(), source.ended()), (None, Some(Ended::Undone)));
    }
    let mut early = Source::new();
    early.reply(Reply::Receipt(summary(&[])), Nanos(2));
    assert_eq!(
        (early.poll_command(), early.ended()),
        (None, Some(Ended::Undone)),
        "nothing was sent"
    );
}

#[test]
fn a_source_that_gives_up_before_it_may_send_has_ended_at_once() {
    let mut unready = Source::new();
    unready.give_up(Nanos(1));
    assert_eq!((unready.poll_message(), unready.poll_command()), (None, None));
    assert_eq!((unready.ended(), unready.poll_timeout()), (Some(Ended::Undone), None));
    let mut ready = Source::new();
    ready.reply(Reply::Credit(WINDOW), Nanos(1));
    ready.give_up(Nanos(2));
    assert_eq!(ready.ended(), None, "something may be there");
    assert_eq!(said(&mut ready), [Message::Verdict(Verdict::Undo)]);
}

#[test]
fn a_stream_that_breaks_before_the_receipt_is_settled_by_another() {
    let mut unready = Source::new();
    unready.broken_off(Nanos(1));
    assert_eq!((unready.poll_command(), unready.ended()), (None, Some(Ended::Undone)));
    let mut source = closing();
    source.broken_off(Nanos(10));
    let settle = Some(SourceCommand::Settle(Verdict::Undo));
    assert_eq!(source.poll_command(), settle);
    source.not_settled(Nanos(20));
    assert_eq!(source.poll_command(), None, "it waits before it tries again");
    let again = source.poll_timeout().expect("it tries again");
    source.handle_timeout(again);
    assert_eq!(source.poll_command(), settle);
    source.settled(Some(Outcome::Undone));
    assert_eq!(source.ended(), Some(Ended::Undone));
    // Nobody answers, or it is too late, or the other end has forgotten it.
    let unreached = |source: &mut Source| {
        source.not_settled(Nanos(20));
        source.handle_timeout(Nanos(10) + SETTLE_LIMIT);
    };
    let kept = |source: &mut Source| source.settled(Some(Outcome::Kept));
    let stuck = |source: &mut Source| source.settled(Some(Outcome::Stuck));
    let forgotten = |source: &mut Source| source.settled(None);
    let ends: [&dyn Fn(&mut Source); 4] = [&unreached, &kept, &stuck, &forgotten];
    for end in ends {
        let mut source = closing();
        source.broken_off(Nanos(10));
        end(&mut source);
        assert_eq!(source.ended(), Some(Ended::Unknown));
    }
}

#[test]
fn what_the_source_has_deleted_stays_at_the_destination_whatever_breaks() {
    let deleting = || {
        let mut source = closing();
        source.reply(Reply::Receipt(summary(&[flow(1), flow(2)])), Nanos(2));
        assert_eq!(source.poll_command(), Some(SourceCommand::Delete));
        source.broken_off(Nanos(3));
        assert_eq!((source.poll_command(), source.ended()), (None, None), "it goes on to delete");
        source.deleted(Nanos(4));
        assert_eq!(source.poll_command(), Some(SourceCommand::Settle(Verdict::Keep)));
        source
    };
    let mut told = deleting();
    told.settled(Some(Outcome::Kept));
    let mut forgotten = deleting();
    forgotten.settled(None);
    let mut unreached = deleting();
    unreached.not_settled(Nanos(5));
    unreached.handle_timeout(Nanos(4) + SETTLE_LIMIT);
    for source in [told, forgotten, unreached] {
        assert_eq!(source.ended(), Some(Ended::Moved));
    }
    let mut broken = deleting();
    broken.settled(Some(Outcome::Undone));
    assert_eq!(broken.ended(), Some(Ended::WordBroken));
}

#[test]
fn a_destination_that_holds_undoes_only_upon_the_verdict_and_keeps_in_the_end() {
    let mut kept = holding();
    kept.broken_off();
    kept.failed();
    // Whatever else the source says: it may have deleted.
    kept.message(chunks(0, &[flow(1)]), Nanos(5));
    kept.message(Message::End(summary(&[])), Nanos(5));
    assert!(kept.holds() && kept.poll_command().is_none());
    kept.verdict(Verdict::Keep);
    assert_eq!((kept.ended(), kept.kept_unasked()), (Some(Outcome::Kept), false));
    kept.verdict(Verdict::Undo);
    assert_eq!(kept.ended(), Some(Outcome::Kept), "the first verdict counts");

    let mut undone = holding();
    undone.broken_off();
    undone.verdict(Verdict::Undo);
    assert_eq!(undone.poll_command(), Some(DestinationCommand::Undo));
    undone.undone(false);
    assert_eq!((undone.ended(), undone.refusal()), (Some(Outcome::Stuck), None));

    let mut unasked = holding();
    let deadline = unasked.poll_timeout().expect("it does not wait for ever");
    assert_eq!(deadline, Nanos(4) + HELD_LIMIT);
    unasked.handle_timeout(Nanos(deadline.0 - 1));
    assert!(unasked.holds());
    unasked.handle_timeout(deadline);
    assert_eq!((unasked.ended(), unasked.kept_unasked()), (Some(Outcome::Kept), true));
    let mut early = ready("any");
    early.keep_unasked();
    assert_eq!(early.ended(), None);
}

#[test]
fn no_more_is_sent_than_there_is_credit_for() {
    let mut source = Source::new();
    let size = flow(1).len() as u64;
    source.reply(Reply::Credit(Amount { chunks: 2, bytes: 9 * size }), Nanos(1));
    source.give((0..5).map(flow));
    assert_eq!(said(&mut source), [chunks(0, &[flow(0), flow(1)])]);
    assert_eq!((source.sent().chunks, source.wants()), (2, false));
    // Credit that comes late, and credit by bytes.
    source.reply(Reply::Credit(Amount { chunks: 1, bytes: size }), Nanos(2));
    assert_eq!(source.poll_message(), None);
    source.reply(Reply::Credit(Amount { chunks: 9, bytes: 9 * size }), Nanos(2));
    assert_eq!(said(&mut source), [chunks(2, &[flow(2), flow(3), flow(4)])]);
    assert_eq!((source.sent().chunks, source.wants()), (5, true));
    source.reply(Reply::Credit(Amount { chunks: 99, bytes: 0 }), Nanos(2));
    source.give((0..5).map(flow));
    said(&mut source);
    assert_eq!((source.sent().chunks, source.sent().bytes), (9, 9 * size));
    assert!(!source.wants(), "one waits");
}

#[test]
fn a_source_wants_no_more_before_the_stream_has_taken_what_it_has_whatever_is_granted() {
    let mut source = Source::new();
    source.reply(Reply::Credit(Amount { chunks: u64::MAX, bytes: u64::MAX }), Nanos(1));
    source.give((0..300).map(flow));
    assert!(!source.wants());
    assert!(
        matches!(source.poll_message(), Some(Message::Chunks { chunks, .. }) if chunks.len() == 256)
    );
    assert!(!source.wants(), "44 wait");
    assert!(source.poll_message().is_some() && source.wants());
}
