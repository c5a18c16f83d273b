//! The end of a move by get, put and del: what has moved is deleted at the source, but for flows that are
//! in use there again.

use std::collections::BTreeSet;

use weir_nf_api::client::{Client, Deleted, IDS_MAX, Query};
use weir_state_transfer::{FlowId, StateFilter, chunk::Scope};

use super::{
    carry::{decode, delete, put_back},
    processes::{Job, Way},
};
use crate::state_manager::{
    end::End,
    operation::{Failure, FailureKind},
    steps::Steps,
};

impl Job<'_> {
    /// Deletes at the source what has moved: so much at a time that what it says of flows in use is known
    /// before the next can fail.
    pub(super) async fn delete_moved(
        &self,
        way: &mut Way,
        scope: Scope,
        steps: &mut Steps,
    ) -> Result<(), Failure> {
        let from = &self.asked.from;
        let source = (from, &self.sidecar.state().ends.client(from));
        let (moved, mut has_said, mut outcome) = (steps.carried(scope), false, Ok(()));
        for ids in moved.chunks(IDS_MAX) {
            match delete(source, scope, ids).await {
                Ok(deleted) if deleted == Deleted::default() => {}
                Ok(deleted) => {
                    has_said = true;
                    self.tell_in_use(deleted.in_use);
                    steps.deleted(scope, ids, (deleted.in_use, &deleted.in_use_ids));
                }
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
        }
        let struck = match way {
            Way::Led(lead) => lead.strike(self.sidecar, steps.finishing()).await,
            _ => Ok(()),
        };
        outcome.and(struck)?;
        if !has_said {
            see_deleted(source, self.filter, scope, &moved).await?;
        }
        self.replace(way, steps).await
    }

    /// Has the destination have of flows that go on at the source what it had before. That of another
    /// node is not asked to: its half has ended.
    async fn replace(&self, way: &mut Way, steps: &mut Steps) -> Result<(), Failure> {
        if steps.finishing().is_empty() || matches!(way, Way::Leaving(_)) {
            steps.replaced();
            return Ok(());
        }
        let to = &self.asked.to;
        let client = self.sidecar.state().ends.client(to);
        if !steps.is_cleared() {
            let deleted = delete((to, &client), Scope::PerFlow, steps.finishing()).await?;
            steps.cleared(deleted.in_use);
        }
        match put_back(to, &client, steps.to_replace()).await {
            // It is of no use to ask again, and no reason to say that the source has any of it.
            Err(refused) if matches!(refused.kind, FailureKind::ChunkRefused(_)) => {
                steps.falls_short(refused);
            }
            done => done?,
        }
        steps.replaced();
        match way {
            Way::Led(lead) => lead.replaced(self.sidecar).await,
            _ => Ok(()),
        }
    }
}

/// Sees that a source that says that it has deleted none of what has moved has none of it.
///
/// # Errors
/// When a call fails, or it still has some. What has ended meanwhile is not there to be deleted, so that
/// it deletes less than it was asked to says nothing.
async fn see_deleted(
    (source, client): (&End, &Client),
    filter: &StateFilter,
    scope: Scope,
    ids: &[FlowId],
) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let failed = |error| Failure::of_call(&error, source);
    let moved: BTreeSet<_> = ids.iter().map(FlowId::one_way).collect();
    let mut still_there = BTreeSet::new();
    let mut chunks = client.get(scope, &Query::new(filter.clone())).await.map_err(failed)?;
    while let Some(encoded) = chunks.next_encoded().await.map_err(failed)? {
        for bytes in encoded {
            still_there.extend(moved.get(&decode(&bytes, source)?.id.one_way()));
        }
    }
    if still_there.is_empty() {
        return Ok(());
    }
    let (moved, there) = (moved.len(), still_there.len());
    let reason = format!("{source} deleted none of {moved} pieces, and still has {there} of them");
    let failure = Failure::new(FailureKind::Malformed, reason);
    Err(Failure { end: Some(source.clone()), ..failure })
}
