//! The room of what a move holds: packets that find none are lost.

use std::time::Duration;

use weir_api::dataplane::v1::{ListPolicyRoutesResponse, PolicyRouteState};

use crate::{
    sidecar::{Sidecar, policies::name_of},
    state_manager::operation::{Failure, FailureKind},
};

/// How often is looked whether packets that are held find room.
const LOOK: Duration = Duration::from_millis(100);

/// What tells packets that find no room while a move holds.
#[derive(Debug)]
pub(super) struct Room {
    /// The policy routes that hold.
    pub(super) names: Vec<String>,
    /// Those for which they had had none before.
    pub(super) before: u64,
}

impl Room {
    /// Returns why a move is undone once packets find no room: from then on all that come are lost.
    pub(super) async fn is_over(&self, sidecar: &Sidecar) -> Failure {
        loop {
            tokio::time::sleep(LOOK).await;
            // One that does not answer is told by what asks it for something.
            if let Ok(listed) = sidecar.list_policies().await
                && self.lost(&listed) > 0
            {
                return no_room();
            }
        }
    }

    /// Packets that found none since the move was planned.
    pub(super) fn lost(&self, listed: &ListPolicyRoutesResponse) -> u64 {
        overflow(listed, &self.names).saturating_sub(self.before)
    }
}

pub(super) fn no_room() -> Failure {
    let reason = "what is held has no more room: raise hold in [moves], or move less";
    Failure::new(FailureKind::Dataplane, reason)
}

/// Packets for which those that hold have had no room.
pub(super) fn overflow(listed: &ListPolicyRoutesResponse, held: &[String]) -> u64 {
    let holds = |seen: &&PolicyRouteState| held.iter().any(|name| name == name_of(seen));
    listed
        .routes
        .iter()
        .filter(holds)
        .map(|seen| seen.overflow.saturating_add(seen.undelivered))
        .sum()
}
