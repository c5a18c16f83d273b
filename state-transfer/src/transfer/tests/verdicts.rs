//! Receipts and verdicts: when the source deletes, and when the destination undoes.

use super::{chunks, flow, put_all, ready, summary};
use crate::{
    Nanos,
    transfer::{
        Amount, Ended, HELD_LIMIT, Message, Outcome, Receiver, Receiving, Reply, SETTLE_LIMIT,
        Sender, Sending, Verdict, WINDOW,
    },
};

/// A source that has said its end.
fn closing() -> Sender {
    let mut sender = Sender::new();
    assert!(!sender.wants(), "the destination is not ready");
    sender.reply(Reply::Credit(WINDOW), Nanos(1));
    assert!(sender.wants());
    sender.give([flow(1), flow(2)]);
    sender.finish();
    let end = Message::End(summary(&[flow(1), flow(2)]));
    assert_eq!(said(&mut sender), [chunks(0, &[flow(1), flow(2)]), end]);
    assert_eq!(sender.poll(), None);
    sender
}

/// All that a source has to say.
fn said(sender: &mut Sender) -> Vec<Message> {
    std::iter::from_fn(|| sender.say()).collect()
}

/// A destination that has given its receipt.
fn holding() -> Receiver {
    let mut receiver = ready("any");
    receiver.message(chunks(0, &[flow(1), flow(2)]), Nanos(2));
    let all = summary(&[flow(1), flow(2)]);
    receiver.message(Message::End(all), Nanos(3));
    assert!(!receiver.holds(), "nothing is put yet");
    let said = put_all(&mut receiver, Nanos(4));
    assert_eq!(said, [Receiving::Reply(Reply::Receipt(all))]);
    receiver
}

#[test]
fn a_source_deletes_upon_the_receipt_of_what_it_has_sent_and_upon_no_other() {
    let mut sender = closing();
    sender.reply(Reply::Receipt(summary(&[flow(1), flow(2)])), Nanos(2));
    assert_eq!(sender.poll(), Some(Sending::Delete));
    sender.give_up(Nanos(3));
    assert_eq!(sender.poll(), None, "its word is given");
    assert_eq!(sender.say(), None);
    sender.deleted(Nanos(4));
    assert_eq!(said(&mut sender), [Message::Verdict(Verdict::Keep)]);
    sender.reply(Reply::Ended(Outcome::Kept), Nanos(5));
    assert_eq!(sender.ended(), Some(Ended::Moved));
    for other in [summary(&[flow(1)]), summary(&[flow(2), flow(1)]), summary(&[])] {
        let mut sender = closing();
        sender.reply(Reply::Receipt(other), Nanos(2));
        assert_eq!(said(&mut sender), [Message::Verdict(Verdict::Undo)]);
        sender.reply(Reply::Ended(Outcome::Undone), Nanos(3));
        assert_eq!((sender.poll(), sender.ended()), (None, Some(Ended::Undone)));
    }
    let mut early = Sender::new();
    early.reply(Reply::Receipt(summary(&[])), Nanos(2));
    assert_eq!((early.poll(), early.ended()), (None, Some(Ended::Undone)), "nothing was sent");
}

#[test]
fn a_source_that_gives_up_before_it_may_send_has_ended_at_once() {
    let mut unready = Sender::new();
    unready.give_up(Nanos(1));
    assert_eq!((unready.say(), unready.poll()), (None, None));
    assert_eq!((unready.ended(), unready.deadline()), (Some(Ended::Undone), None));
    let mut ready = Sender::new();
    ready.reply(Reply::Credit(WINDOW), Nanos(1));
    ready.give_up(Nanos(2));
    assert_eq!(ready.ended(), None, "something may be there");
    assert_eq!(said(&mut ready), [Message::Verdict(Verdict::Undo)]);
}

#[test]
fn a_stream_that_breaks_before_the_receipt_is_settled_by_another() {
    let mut unready = Sender::new();
    unready.broken_off(Nanos(1));
    assert_eq!((unready.poll(), unready.ended()), (None, Some(Ended::Undone)));
    let mut sender = closing();
    sender.broken_off(Nanos(10));
    let settle = Some(Sending::Settle(Verdict::Undo));
    assert_eq!(sender.poll(), settle);
    sender.not_settled(Nanos(20));
    assert_eq!(sender.poll(), None, "it waits before it tries again");
    let again = sender.deadline().expect("it tries again");
    sender.tick(again);
    assert_eq!(sender.poll(), settle);
    sender.settled(Some(Outcome::Undone));
    assert_eq!(sender.ended(), Some(Ended::Undone));
    // Nobody answers, or it is too late, or the other end has forgotten it.
    let unreached = |sender: &mut Sender| {
        sender.not_settled(Nanos(20));
        sender.tick(Nanos(10) + SETTLE_LIMIT);
    };
    let kept = |sender: &mut Sender| sender.settled(Some(Outcome::Kept));
    let stuck = |sender: &mut Sender| sender.settled(Some(Outcome::Stuck));
    let forgotten = |sender: &mut Sender| sender.settled(None);
    let ends: [&dyn Fn(&mut Sender); 4] = [&unreached, &kept, &stuck, &forgotten];
    for end in ends {
        let mut sender = closing();
        sender.broken_off(Nanos(10));
        end(&mut sender);
        assert_eq!(sender.ended(), Some(Ended::Unknown));
    }
}

#[test]
fn what_the_source_has_deleted_stays_at_the_destination_whatever_breaks() {
    let deleting = || {
        let mut sender = closing();
        sender.reply(Reply::Receipt(summary(&[flow(1), flow(2)])), Nanos(2));
        assert_eq!(sender.poll(), Some(Sending::Delete));
        sender.broken_off(Nanos(3));
        assert_eq!((sender.poll(), sender.ended()), (None, None), "it goes on to delete");
        sender.deleted(Nanos(4));
        assert_eq!(sender.poll(), Some(Sending::Settle(Verdict::Keep)));
        sender
    };
    let mut told = deleting();
    told.settled(Some(Outcome::Kept));
    let mut forgotten = deleting();
    forgotten.settled(None);
    let mut unreached = deleting();
    unreached.not_settled(Nanos(5));
    unreached.tick(Nanos(4) + SETTLE_LIMIT);
    for sender in [told, forgotten, unreached] {
        assert_eq!(sender.ended(), Some(Ended::Moved));
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
    assert!(kept.holds() && kept.poll().is_none());
    kept.verdict(Verdict::Keep);
    assert_eq!((kept.ended(), kept.kept_unasked()), (Some(Outcome::Kept), false));
    kept.verdict(Verdict::Undo);
    assert_eq!(kept.ended(), Some(Outcome::Kept), "the first verdict counts");

    let mut undone = holding();
    undone.broken_off();
    undone.verdict(Verdict::Undo);
    assert_eq!(undone.poll(), Some(Receiving::Undo));
    undone.undone(false);
    assert_eq!((undone.ended(), undone.refusal()), (Some(Outcome::Stuck), None));

    let mut unasked = holding();
    let deadline = unasked.deadline().expect("it does not wait for ever");
    assert_eq!(deadline, Nanos(4) + HELD_LIMIT);
    unasked.tick(Nanos(deadline.0 - 1));
    assert!(unasked.holds());
    unasked.tick(deadline);
    assert_eq!((unasked.ended(), unasked.kept_unasked()), (Some(Outcome::Kept), true));
    let mut early = ready("any");
    early.keep_unasked();
    assert_eq!(early.ended(), None);
}

#[test]
fn no_more_is_sent_than_there_is_credit_for() {
    let mut sender = Sender::new();
    let size = flow(1).len() as u64;
    sender.reply(Reply::Credit(Amount { chunks: 2, bytes: 9 * size }), Nanos(1));
    sender.give((0..5).map(flow));
    assert_eq!(said(&mut sender), [chunks(0, &[flow(0), flow(1)])]);
    assert_eq!((sender.sent().chunks, sender.wants()), (2, false));
    // Credit that comes late, and credit by bytes.
    sender.reply(Reply::Credit(Amount { chunks: 1, bytes: size }), Nanos(2));
    assert_eq!(sender.say(), None);
    sender.reply(Reply::Credit(Amount { chunks: 9, bytes: 9 * size }), Nanos(2));
    assert_eq!(said(&mut sender), [chunks(2, &[flow(2), flow(3), flow(4)])]);
    assert_eq!((sender.sent().chunks, sender.wants()), (5, true));
    sender.reply(Reply::Credit(Amount { chunks: 99, bytes: 0 }), Nanos(2));
    sender.give((0..5).map(flow));
    said(&mut sender);
    assert_eq!((sender.sent().chunks, sender.sent().bytes), (9, 9 * size));
    assert!(!sender.wants(), "one waits");
}

#[test]
fn a_source_wants_no_more_before_the_stream_has_taken_what_it_has_whatever_is_granted() {
    let mut sender = Sender::new();
    sender.reply(Reply::Credit(Amount { chunks: u64::MAX, bytes: u64::MAX }), Nanos(1));
    sender.give((0..300).map(flow));
    assert!(!sender.wants());
    assert!(matches!(sender.say(), Some(Message::Chunks { chunks, .. }) if chunks.len() == 256));
    assert!(!sender.wants(), "44 wait");
    assert!(sender.say().is_some() && sender.wants());
}
