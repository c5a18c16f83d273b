//! The stream of a subscription: notes from the network function, numbered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;
use tonic::Status;
use weir_api::nf::v1 as api;
use weir_api::nf::v1::enable_events_response::Note as Told;
use weir_state_transfer::southbound::Note;

use super::desk::{Subscribed, Wake};
use crate::convert::event_to;

/// What a subscriber is told. When it is dropped, the subscription ends.
#[derive(Debug)]
pub struct Notes {
    subscribed: Subscribed,
    /// Whether the subscriber knows that it has subscribed.
    begun: bool,
    /// The number of the next event.
    next: u64,
    /// Dropped after the notes: who is woken sees that they are gone.
    wake: WakeAtEnd,
}

#[derive(Debug)]
struct WakeAtEnd(Wake);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Notes {
    pub(super) fn new(subscribed: Subscribed, wake: Wake) -> Self {
        Self { subscribed, begun: false, next: 0, wake: WakeAtEnd(wake) }
    }

    fn tell(&mut self, note: Note) -> Told {
        match note {
            Note::Event(event) => {
                let told = event_to(&event, self.next);
                self.next += 1;
                // There is room for all that there are.
                let _given = self.subscribed.spent.try_send(event);
                self.wake.0.wake();
                Told::Event(told)
            }
            Note::Gap(lost) => {
                self.next += lost;
                Told::Gap(api::Gap { lost })
            }
        }
    }
}

impl Stream for Notes {
    type Item = Result<api::EnableEventsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let note = if self.begun {
            let note = ready!(self.subscribed.notes.poll_recv(context));
            note.map(|note| self.tell(note))
        } else {
            self.begun = true;
            Some(Told::Enabled(api::Enabled {}))
        };
        Poll::Ready(note.map(|note| Ok(api::EnableEventsResponse { note: Some(note) })))
    }
}
