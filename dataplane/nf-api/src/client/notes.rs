//! What a subscriber is told.

use tonic::Streaming;
use weir_api::nf::v1 as api;
use weir_api::nf::v1::enable_events_response::Note as Told;
use weir_state_transfer::southbound::{Note, SubscriptionId};

use super::{CallError, Client};
use crate::convert::event_of;
use crate::description::Malformed;

/// The events of a subscription, which ends when this is dropped.
#[derive(Debug)]
pub struct Notes {
    client: Client,
    id: SubscriptionId,
    stream: Streaming<api::EnableEventsResponse>,
    /// The number of the next event.
    next: u64,
}

impl Notes {
    pub(super) fn begin(
        client: Client,
        id: SubscriptionId,
        stream: Streaming<api::EnableEventsResponse>,
        first: Option<api::EnableEventsResponse>,
    ) -> Result<Self, CallError> {
        match first.and_then(|answer| answer.note) {
            Some(Told::Enabled(_)) => Ok(Self { client, id, stream, next: 0 }),
            Some(_) | None => {
                let why = "its first answer is not that it is enabled".to_owned();
                Err(CallError::Malformed { call: "enable_events", why })
            }
        }
    }

    /// The next event, or how many of them are lost; none when the subscription has been disabled.
    ///
    /// It waits as long as nothing happens and the network function answers other calls. May be
    /// cancelled: nothing is lost by that.
    ///
    /// # Errors
    /// [`CallError`], that for events that are missing without a word too.
    pub async fn next(&mut self) -> Result<Option<Note>, CallError> {
        loop {
            let limit = self.client.limit();
            match tokio::time::timeout(limit, self.stream.message()).await {
                Ok(Ok(Some(answer))) => {
                    let malformed = CallError::malformed("enable_events");
                    return self.note(answer).map(Some).map_err(malformed);
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(status)) => return Err(CallError::of(&status)),
                Err(_) => drop(self.client.describe().await?),
            }
        }
    }

    fn note(&mut self, answer: api::EnableEventsResponse) -> Result<Note, Malformed> {
        match answer.note {
            Some(Told::Event(event)) => {
                let number = event.sequence;
                if number != self.next {
                    let missing = format!("event {number} follows where {} should", self.next);
                    return Err(Malformed(missing));
                }
                self.next = self.next.saturating_add(1);
                event_of(event, self.id).map(Note::Event)
            }
            Some(Told::Gap(api::Gap { lost: 0 })) => Err(Malformed("a gap of nothing".to_owned())),
            Some(Told::Gap(api::Gap { lost })) => {
                self.next = self.next.saturating_add(lost);
                Ok(Note::Gap(lost))
            }
            Some(Told::Enabled(_)) => Err(Malformed("it is enabled twice".to_owned())),
            None => Err(Malformed("an answer without a note".to_owned())),
        }
    }
}
