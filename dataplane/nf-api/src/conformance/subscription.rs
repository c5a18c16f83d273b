//! Subscriptions of rules: each has a number of its own, and is ended when its rule is over.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::timeout;
use weir_state_transfer::southbound::{Action, SubscriptionId};
use weir_state_transfer::state_filter::StateFilter;

use super::subject::Subject;
use super::{Verdict, fail};
use crate::client::{CallError, Notes};

/// The number of the first; that of each other is one more.
const FIRST: u64 = 0x5745_4952_0000_0000;

/// Which numbers were given out, and which subscriptions may be in force.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    given: u64,
    open: Vec<SubscriptionId>,
}

/// One that is in force.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    pub(super) notes: Notes,
}

impl Subscriptions {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subject {
    /// A number that no subscription has had.
    pub(super) fn number(&self) -> SubscriptionId {
        let mut known = self.subscriptions.known();
        known.given += 1;
        SubscriptionId(FIRST + known.given - 1)
    }

    /// Subscribes to packets, by a number of its own.
    pub(super) async fn subscribe(
        &self,
        filter: &StateFilter,
        action: Action,
        snap: u32,
    ) -> Result<Subscription, CallError> {
        self.subscribe_as(self.number(), filter, action, snap).await
    }

    /// Subscribes to packets, by a number that may be in use.
    pub(super) async fn subscribe_as(
        &self,
        id: SubscriptionId,
        filter: &StateFilter,
        action: Action,
        snap: u32,
    ) -> Result<Subscription, CallError> {
        // What is late or cut off may be in force all the same.
        self.subscriptions.known().open.push(id);
        let notes = self.client.enable_events(id, filter, action, snap).await?;
        Ok(Subscription { id, notes })
    }

    /// Ends a subscription, whose stream has to end then.
    pub(super) async fn end(&self, subscription: Subscription) -> Verdict {
        let Subscription { id, mut notes } = subscription;
        self.client.disable_events(id).await?;
        self.subscriptions.known().open.retain(|open| *open != id);
        let end = async {
            while notes.next().await?.is_some() {}
            Ok::<_, CallError>(())
        };
        match timeout(self.client.limit(), end).await {
            Ok(ended) => Ok(ended?),
            Err(_) => fail("a subscription is ended, and its stream goes on"),
        }
    }

    /// Ends what a rule has left, so that the next one begins without.
    pub(super) async fn end_all(&self) {
        let open = std::mem::take(&mut self.subscriptions.known().open);
        for id in open {
            // Most are ended: their streams are gone.
            let _ended = self.client.disable_events(id).await;
        }
    }

    /// Keeps packets off until it is ended, as far as the function can.
    pub(super) async fn quiet(&self) -> Result<Quiet<'_>, CallError> {
        if !self.offers(Action::Drop) {
            return Ok(Quiet(self, None));
        }
        let dropping = self.subscribe(&StateFilter::default(), Action::Drop, 0).await?;
        Ok(Quiet(self, Some(dropping)))
    }
}

/// Packets are kept off until this is ended.
#[derive(Debug)]
pub(super) struct Quiet<'a>(&'a Subject, Option<Subscription>);

impl Quiet<'_> {
    pub(super) async fn end(self) -> Verdict {
        match self {
            Self(subject, Some(dropping)) => subject.end(dropping).await,
            Self(_, None) => Ok(()),
        }
    }
}
