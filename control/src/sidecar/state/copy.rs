//! Copies: rounds of get and put, each of what has changed since the last.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use weir_nf_api::client::Query;
use weir_state_transfer::{chunk::Scope, flow_id::Extent};

use super::{
    Reins,
    carry::{Carrier, Count},
};
use crate::{
    sidecar::Sidecar,
    state_manager::{
        operation::{CopyAsked, Failure, FailureKind, State},
        rounds::Rounds,
        versions::{Epochs, Seen, Way},
    },
};

/// A copy.
pub(super) struct Copy {
    sidecar: Arc<Sidecar>,
    reins: Reins,
    asked: CopyAsked,
    rounds: Rounds,
    /// Of each round.
    limit: Duration,
    /// What the round waits for.
    waits_for: Mutex<String>,
}

/// What a round has copied of a scope.
struct Copied {
    /// Which versions it had.
    seen: Seen,
    chunks: u64,
    /// Flows that the source passed over, as they are in use there.
    in_use: u64,
}

impl Copy {
    /// A copy in rounds, each of which may take `limit`.
    pub(super) fn new(reins: Reins, asked: CopyAsked, rounds: Rounds, limit: Duration) -> Self {
        let (sidecar, waits_for) = (Arc::clone(&reins.sidecar), Mutex::default());
        Self { sidecar, reins, asked, rounds, limit, waits_for }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) {
        let id = self.reins.id;
        let end = match self.all_rounds().await {
            Ok(()) => (State::Done, None),
            Err(failure) => match failure.kind {
                FailureKind::Cancelled | FailureKind::Stopping => (State::Cancelled, Some(failure)),
                _ => (State::Failed, Some(failure)),
            },
        };
        self.sidecar.end_operation(id, end).await;
    }

    async fn all_rounds(&mut self) -> Result<(), Failure> {
        let repeats = self.rounds.interval.is_some();
        loop {
            let round = tokio::time::timeout(self.limit, self.round());
            tokio::select! {
                done = round => done.map_err(|_| self.too_late())??,
                failure = self.reins.cancelled_or_abandoned(repeats) => return Err(failure),
            }
            let Some(next) = self.rounds.next(self.sidecar.now()) else { return Ok(()) };
            tokio::select! {
                () = tokio::time::sleep(next.since(self.sidecar.now())) => {}
                failure = self.reins.cancelled_or_abandoned(repeats) => return Err(failure),
            }
        }
    }

    fn too_late(&self) -> Failure {
        let waits_for = self.waits_for.lock().expect("nobody panics while it is held");
        let reason =
            format!("a round did not end within {:?}: it waited for {waits_for}", self.limit);
        Failure::new(FailureKind::Late, reason)
    }

    fn now_waits_for(&self, what: String) {
        *self.waits_for.lock().expect("nobody panics while it is held") = what;
    }

    async fn round(&self) -> Result<(), Failure> {
        let ends = (&self.asked.from, &self.asked.to);
        self.now_waits_for(format!("{} and {} to say what they are", ends.0, ends.1));
        let source =
            self.sidecar.acquaint(ends, &self.asked.filter, self.asked.scopes.iter()).await?;
        let epochs = self.epochs().await?;
        let mut copied = Vec::new();
        for scope in &self.asked.scopes {
            let way = self.way(*scope);
            let since = match source.common_versions {
                true => self.sidecar.state().versions().begin(&way, epochs),
                false => 0,
            };
            copied.push((way, self.scope(*scope, since).await?));
        }
        let after = self.epochs().await?;
        if source.common_versions && after == epochs {
            let mut versions = self.sidecar.state().versions();
            copied.iter().for_each(|(way, copied)| versions.copied(way, epochs, copied.seen));
        }
        self.sidecar.state().progress(self.reins.id, |progress| {
            progress.rounds += 1;
            progress.chunks_of_round = copied.iter().map(|(_, copied)| copied.chunks).sum();
            // Nothing holds the source to the truth.
            let in_use = copied.iter().map(|(_, copied)| copied.in_use);
            progress.in_use = in_use.fold(0, u64::saturating_add);
        });
        Ok(())
    }

    /// Copies the state of a scope.
    async fn scope(&self, scope: Scope, since: u64) -> Result<Copied, Failure> {
        let CopyAsked { from, to, filter, .. } = &self.asked;
        self.now_waits_for(format!("{scope} state of {from} to be taken in by {to}"));
        let ends = &self.sidecar.state().ends;
        let query = Query { filter: filter.clone(), extent: Extent::Overlaps, since };
        let (reader, writer) = ((from, ends.reader(from)), (to, ends.client(to)));
        let carrier = Carrier { from: reader, to: writer, scope };
        let (mut seen, mut count) = (Seen::default(), Count::new(&self.sidecar, self.reins.id));
        let mut chunks = 0;
        let carried = carrier
            .run(&query, |chunk, size| {
                if chunks == 0 {
                    self.sidecar.state().versions().brought(from, to);
                }
                chunks += 1;
                seen.see(chunk.version);
                count.add(size);
                Ok(true)
            })
            .await;
        count.end(carried.taken);
        seen.begun_at(carried.changes);
        carried.failure.map_or(Ok(Copied { seen, chunks, in_use: carried.in_use }), Err)
    }

    async fn epochs(&self) -> Result<Epochs, Failure> {
        let CopyAsked { from, to, .. } = &self.asked;
        Ok([self.sidecar.epoch(from).await?, self.sidecar.epoch(to).await?])
    }

    fn way(&self, scope: Scope) -> Way {
        let CopyAsked { from, to, filter, .. } = self.asked.clone();
        Way { from, to, filter, scope }
    }
}
