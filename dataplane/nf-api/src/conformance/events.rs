//! Rules of events.

use std::time::Duration;

use tokio::time::timeout;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::southbound::{Action, Cause, Event, Note};
use weir_state_transfer::state_filter::StateFilter;

use super::subject::{Subject, state_of};
use super::{Stop, Verdict, fail, skip};
use crate::client::{CallError, Notes, Query};

/// Events that are looked at.
const ENOUGH: usize = 50;
/// Bytes of packets in events that are looked at.
const SNAP: u32 = 20;
/// Events in which a gap has to show.
const GAP_WITHIN: usize = 100_000;

/// It refuses the actions that it says it refuses, and no others.
pub(super) async fn actions(subject: &Subject) -> Verdict {
    for action in [Action::Process, Action::Buffer, Action::Drop] {
        let answer = subscribe(subject, 0, "proto=253", action, 0).await;
        if subject.offers(action) {
            end(subject, 0, answer?).await?;
        } else {
            let what = format!("a subscription to {action} packets");
            refused(answer.map(drop), &what, "NOT_OFFERED")?;
        }
    }
    Ok(())
}

/// A subscription begins with the word that it is in force.
pub(super) async fn enable(subject: &Subject) -> Verdict {
    let notes = subscribe(subject, 0, "any", Action::Process, 0).await?;
    end(subject, 0, notes).await
}

/// A subscription of a number that there is already is refused, and the first goes on.
pub(super) async fn duplicate(subject: &Subject) -> Verdict {
    let notes = subscribe(subject, 0, "proto=253", Action::Process, 0).await?;
    let again = subscribe(subject, 0, "any", Action::Process, 0).await;
    refused(again.map(drop), "a subscription that there is", "ALREADY_EXISTS")?;
    end(subject, 0, notes).await
}

/// A subscription that there is not can not be ended.
pub(super) async fn unknown(subject: &Subject) -> Verdict {
    let ended = subject.client.disable_events(Subject::subscription(0)).await;
    refused(ended, "the end of a subscription that there is not", "NOT_FOUND")
}

/// A subscription that is ended is ended: its stream too, and its number is free.
pub(super) async fn disable(subject: &Subject) -> Verdict {
    for _ in 0..2 {
        let notes = subscribe(subject, 0, "any", Action::Process, 0).await?;
        end(subject, 0, notes).await?;
    }
    unknown(subject).await
}

/// A subscription ends with its stream.
pub(super) async fn cancel(subject: &Subject) -> Verdict {
    drop(subscribe(subject, 0, "any", Action::Buffer, 0).await?);
    let free = async {
        loop {
            match subscribe(subject, 0, "any", Action::Process, 0).await {
                Ok(notes) => return Ok(notes),
                Err(error) if error.reason() == Some("ALREADY_EXISTS") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(Stop::from(error)),
            }
        }
    };
    match timeout(subject.client.limit(), free).await {
        Ok(notes) => end(subject, 0, notes?).await,
        Err(_) => fail("a subscription whose stream was cancelled goes on"),
    }
}

/// Events are of packets that match, of the length that was asked for, and of processed packets.
pub(super) async fn matching(subject: &Subject) -> Verdict {
    // A flow that packets come of.
    let mut notes = subscribe(subject, 0, "any", Action::Process, 0).await?;
    let seen = some_events(subject, &mut notes, 1).await;
    end(subject, 0, notes).await?;
    let Some(key) = seen?.first().map(|event| event.key) else { return Ok(()) };
    let text = format!("src={},dst={}", key.src(), key.dst());
    let filter = parsed(&text);
    let mut notes = subscribe(subject, 0, &text, Action::Process, SNAP).await?;
    let mut last: Option<Event> = None;
    for event in some_events(subject, &mut notes, ENOUGH).await? {
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
    end(subject, 0, notes).await?;
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
    let mut one = subscribe(subject, 0, "any", Action::Process, 0).await?;
    let mut two = subscribe(subject, 1, "any", Action::Process, 0).await?;
    some_events(subject, &mut one, 1).await?;
    if let Err(Stop::Skip(_)) = some_events(subject, &mut two, 1).await {
        return fail("of two subscriptions for all packets one has no events");
    }
    end(subject, 0, one).await?;
    end(subject, 1, two).await
}

/// Packets that are dropped raise events and change nothing.
pub(super) async fn dropping(subject: &Subject) -> Verdict {
    let mut notes = subscribe(subject, 0, "any", Action::Drop, SNAP).await?;
    let before = subject.state(Scope::PerFlow).await?;
    let events = some_events(subject, &mut notes, ENOUGH).await?;
    if events.iter().any(|event| event.cause != Cause::Dropped) {
        return fail("a packet that is dropped raises an event of one that is processed");
    }
    subject.unchanged(Scope::PerFlow, &before, "after packets were dropped").await?;
    end(subject, 0, notes).await
}

/// Packets that are kept change nothing until the subscription ends, and then they do.
pub(super) async fn buffering(subject: &Subject) -> Verdict {
    let before = subject.state(Scope::PerFlow).await?;
    subject.changed(Scope::PerFlow, &before).await?;
    let notes = subscribe(subject, 0, "any", Action::Buffer, 0).await?;
    let kept = state_of(&subject.all(Scope::PerFlow).await?, Scope::PerFlow);
    tokio::time::sleep(subject.patience / 4).await;
    subject.unchanged(Scope::PerFlow, &kept, "while packets were kept").await?;
    // From here on no packet comes by itself: what changes is by those that were kept.
    let quiet = subject.quiet().await;
    end(subject, 0, notes).await?;
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
    let mut notes = subscribe(subject, 0, "any", Action::Process, 1500).await?;
    // Nobody reads meanwhile. That none is missing without a word is seen to by who reads.
    tokio::time::sleep(subject.patience / 4).await;
    let gap = async {
        for _ in 0..GAP_WITHIN {
            match notes.next().await? {
                Some(Note::Gap(_)) => return Ok(true),
                Some(Note::Event(_)) => {}
                None => return fail("a subscription ends by itself"),
            }
        }
        Ok(false)
    };
    let found = match timeout(subject.patience, gap).await {
        Ok(found) => found?,
        Err(_) => false,
    };
    end(subject, 0, notes).await?;
    if found { Ok(()) } else { skip("so few packets come that no event is lost") }
}

async fn subscribe(
    subject: &Subject,
    number: u64,
    filter: &str,
    action: Action,
    snap: u32,
) -> Result<Notes, CallError> {
    let id = Subject::subscription(number);
    subject.client.enable_events(id, &parsed(filter), action, snap).await
}

/// Ends a subscription, whose stream has to end then.
async fn end(subject: &Subject, number: u64, mut notes: Notes) -> Verdict {
    subject.client.disable_events(Subject::subscription(number)).await?;
    let end = async {
        while notes.next().await?.is_some() {}
        Ok::<_, CallError>(())
    };
    match timeout(subject.client.limit(), end).await {
        Ok(ended) => Ok(ended?),
        Err(_) => fail("a subscription is ended, and its stream goes on"),
    }
}

/// So many events at most, and one at least.
async fn some_events(
    subject: &Subject,
    notes: &mut Notes,
    most: usize,
) -> Result<Vec<Event>, Stop> {
    let mut events = Vec::new();
    let read = async {
        while events.len() < most {
            match notes.next().await? {
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

/// Filters of this file, and of what ids say.
fn parsed(text: &str) -> StateFilter {
    text.parse().unwrap_or_default()
}
