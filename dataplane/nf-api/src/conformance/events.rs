//! Rules of events.

use std::time::Duration;

use tokio::time::timeout;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::southbound::{Action, Cause, Event, Note, SubscriptionId};
use weir_state_transfer::state_filter::StateFilter;

use super::subject::{Subject, state_of};
use super::subscription::Subscription;
use super::{Stop, Verdict, fail, skip};
use crate::client::{CallError, Query};

/// Events that are looked at.
const ENOUGH: usize = 50;
/// Bytes of packets in events that are looked at.
const SNAP: u32 = 20;
/// Events in which a gap has to show.
const GAP_WITHIN: usize = 100_000;
/// Parts of the patience in which nobody reads, each before as long a time in which somebody does.
const GAP_PAUSES: [u32; 4] = [32, 16, 8, 4];

/// It refuses the actions that it says it refuses, and no others.
pub(super) async fn actions(subject: &Subject) -> Verdict {
    for action in [Action::Process, Action::Buffer, Action::Drop] {
        let answer = subject.subscribe(&parsed("proto=253"), action, 0).await;
        if subject.offers(action) {
            subject.end(answer?).await?;
        } else {
            let what = format!("a subscription to {action} packets");
            refused(answer.map(drop), &what, "NOT_OFFERED")?;
        }
    }
    Ok(())
}

/// A subscription begins with the word that it is in force.
pub(super) async fn enable(subject: &Subject) -> Verdict {
    subject.end(subject.subscribe(&any(), Action::Process, 0).await?).await
}

/// A subscription of a number that there is already is refused, and the first goes on.
pub(super) async fn duplicate(subject: &Subject) -> Verdict {
    let first = subject.subscribe(&parsed("proto=253"), Action::Process, 0).await?;
    let again = subject.subscribe_as(first.id, &any(), Action::Process, 0).await;
    refused(again.map(drop), "a subscription that there is", "ALREADY_EXISTS")?;
    subject.end(first).await
}

/// A subscription that there is not can not be ended.
pub(super) async fn unknown(subject: &Subject) -> Verdict {
    is_unknown(subject, subject.number()).await
}

async fn is_unknown(subject: &Subject, id: SubscriptionId) -> Verdict {
    let ended = subject.client.disable_events(id).await;
    refused(ended, "the end of a subscription that there is not", "NOT_FOUND")
}

/// A subscription that is ended is ended: its stream too, and its number is free.
pub(super) async fn disable(subject: &Subject) -> Verdict {
    let id = subject.number();
    for _ in 0..2 {
        subject.end(subject.subscribe_as(id, &any(), Action::Process, 0).await?).await?;
    }
    is_unknown(subject, id).await
}

/// A subscription ends with its stream.
pub(super) async fn cancel(subject: &Subject) -> Verdict {
    let id = subject.subscribe(&any(), Action::Buffer, 0).await?.id;
    let free = async {
        loop {
            match subject.subscribe_as(id, &any(), Action::Process, 0).await {
                Ok(subscription) => return Ok(subscription),
                Err(error) if error.reason() == Some("ALREADY_EXISTS") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(Stop::from(error)),
            }
        }
    };
    match timeout(subject.client.limit(), free).await {
        Ok(subscription) => subject.end(subscription?).await,
        Err(_) => fail("a subscription whose stream was cancelled goes on"),
    }
}

/// Events are of packets that match, of the length that was asked for, and of processed packets.
pub(super) async fn matching(subject: &Subject) -> Verdict {
    // A flow that packets come of.
    let mut all = subject.subscribe(&any(), Action::Process, 0).await?;
    let seen = some_events(subject, &mut all, 1).await?;
    subject.end(all).await?;
    let Some(key) = seen.first().map(|event| event.key) else { return Ok(()) };
    let text = format!("src={},dst={}", key.src(), key.dst());
    let filter = parsed(&text);
    let mut some = subject.subscribe(&filter, Action::Process, SNAP).await?;
    let mut last: Option<Event> = None;
    for event in some_events(subject, &mut some, ENOUGH).await? {
        if !filter.flows.matches(&event.key) {
            return fail(format!("{text} gives an event of {}", FlowId::flow(&event.key)));
        }
        if event.packet.len() != event.length.min(SNAP as usize) {
            let (found, length) = (event.packet.len(), event.length);
            return fail(format!("of {SNAP} bytes of a packet of {length} there are {found}"));
        }
        if event.cause != Cause::Processed {
            return fail("a packet that is processed raises an event of one that is dropped");
        }
        last = Some(event);
    }
    subject.end(some).await?;
    let Some(event) = last else { return skip("there are no packets that match") };
    version(subject, &event).await
}

/// The state of a flow has seen the updates that the event of its packet says.
async fn version(subject: &Subject, event: &Event) -> Verdict {
    let query = Query::new(parsed(&FlowId::flow(&event.key).to_string()));
    let chunks = subject.get(Scope::PerFlow, &query).await?;
    if chunks.iter().all(|chunk| chunk.version < event.version) && !chunks.is_empty() {
        let (flow, version) = (FlowId::flow(&event.key), event.version);
        return fail(format!("an event says that {flow} is of version {version}, and it is not"));
    }
    Ok(())
}

/// Every subscription that matches has its events.
pub(super) async fn all(subject: &Subject) -> Verdict {
    let mut one = subject.subscribe(&any(), Action::Process, 0).await?;
    let mut two = subject.subscribe(&any(), Action::Process, 0).await?;
    // Whether packets come is told by whichever has events, from when on the other must have some.
    let first = some_events(subject, &mut one, 1).await;
    let second = some_events(subject, &mut two, 1).await;
    let silent = match (first, second) {
        (Err(Stop::Skip(_)), Ok(_)) => some_events(subject, &mut one, 1).await,
        (Ok(_), second) => second,
        (first, _) => return first.map(drop),
    };
    match silent {
        Err(Stop::Skip(_)) => {
            return fail("of two subscriptions for all packets one has no events");
        }
        told => drop(told?),
    }
    subject.end(one).await?;
    subject.end(two).await
}

/// Packets that are dropped raise events and change nothing.
pub(super) async fn dropping(subject: &Subject) -> Verdict {
    let mut dropping = subject.subscribe(&any(), Action::Drop, SNAP).await?;
    let before = subject.state(Scope::PerFlow).await?;
    let events = some_events(subject, &mut dropping, ENOUGH).await?;
    if events.iter().any(|event| event.cause != Cause::Dropped) {
        return fail("a packet that is dropped raises an event of one that is processed");
    }
    subject.unchanged(Scope::PerFlow, &before, "after packets were dropped").await?;
    subject.end(dropping).await
}

/// Packets that are kept change nothing until the subscription ends, and then they do.
pub(super) async fn buffering(subject: &Subject) -> Verdict {
    let before = subject.state(Scope::PerFlow).await?;
    subject.changed(Scope::PerFlow, &before).await?;
    let keeping = subject.subscribe(&any(), Action::Buffer, 0).await?;
    let kept = state_of(&subject.all(Scope::PerFlow).await?, Scope::PerFlow);
    tokio::time::sleep(subject.patience / 4).await;
    subject.unchanged(Scope::PerFlow, &kept, "while packets were kept").await?;
    // From here on no packet comes by itself: what changes is by those that were kept.
    let quiet = subject.quiet().await?;
    subject.end(keeping).await?;
    let changed = subject.changed(Scope::PerFlow, &kept).await;
    quiet.end().await?;
    match changed {
        Ok(_) => Ok(()),
        Err(Stop::Skip(_)) => fail("packets that were kept are not processed in the end"),
        Err(stop) => Err(stop),
    }
}

/// Events that are lost are told where they are missing.
pub(super) async fn gap(subject: &Subject) -> Verdict {
    let mut unread = subject.subscribe(&any(), Action::Process, 1500).await?;
    // For longer each time: the function may have stood still while nobody read.
    for part in GAP_PAUSES {
        let pause = subject.patience / part;
        // That none is missing without a word is seen to by who reads.
        tokio::time::sleep(pause).await;
        if let Ok(found) = timeout(pause, has_gap(&mut unread)).await
            && found?
        {
            return subject.end(unread).await;
        }
    }
    subject.end(unread).await?;
    skip("so few packets come that no event is lost")
}

/// Whether one of the next events is missing.
async fn has_gap(subscription: &mut Subscription) -> Result<bool, Stop> {
    for _ in 0..GAP_WITHIN {
        match subscription.notes.next().await? {
            Some(Note::Gap(_)) => return Ok(true),
            Some(Note::Event(_)) => {}
            None => return fail("a subscription ends by itself"),
        }
    }
    Ok(false)
}

/// So many events at most, and one at least.
async fn some_events(
    subject: &Subject,
    subscription: &mut Subscription,
    most: usize,
) -> Result<Vec<Event>, Stop> {
    let mut events = Vec::new();
    let read = async {
        while events.len() < most {
            match subscription.notes.next().await? {
                Some(Note::Event(event)) => events.push(event),
                Some(Note::Gap(_)) => {}
                None => return fail("a subscription ends by itself"),
            }
        }
        Ok(())
    };
    if let Ok(read) = timeout(subject.patience, read).await {
        read?;
    }
    if events.is_empty() {
        skip(format!("no packet comes in {:?}", subject.patience))
    } else {
        Ok(events)
    }
}

fn refused(answer: Result<(), CallError>, what: &str, reason: &str) -> Verdict {
    match answer {
        Ok(()) => fail(format!("it does not refuse {what}")),
        Err(error) if error.reason() == Some(reason) => Ok(()),
        Err(error) => fail(format!("{what} is not refused as {reason}: {error:?}")),
    }
}

fn any() -> StateFilter {
    StateFilter::default()
}

/// Filters of this file, and of what ids say.
fn parsed(text: &str) -> StateFilter {
    text.parse().unwrap_or_default()
}
