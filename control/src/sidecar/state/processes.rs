//! Moves of which an end is a process of its own: get, put and del.

use std::{sync::Arc, time::Duration};

use weir_nf_api::client::{CallError, Client, Query};
use weir_state_transfer::{FlowId, StateFilter, chunk::Scope};

use super::{
    Reins,
    carry::{Carrier, Count, decode},
};
use crate::{
    sidecar::Sidecar,
    state_manager::{
        end::End,
        operation::{Failure, FailureKind, MoveAsked},
        transfer::{Carry, Task, Transfer},
    },
};

/// How long what must be finished may take: deleting at the source, or undoing.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// A move by get, put and del.
pub(super) struct Move {
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) reins: Reins,
    pub(super) asked: MoveAsked,
    pub(super) filter: StateFilter,
    pub(super) limit: Duration,
    /// An earlier sidecar has begun it.
    pub(super) is_again: bool,
}

impl Move {
    /// Runs it to its end.
    pub(super) async fn run(self) {
        let id = self.reins.id;
        let mut transfer = Transfer::new(self.filter.clone(), &self.asked.scopes);
        if self.is_again {
            transfer = transfer.again();
        }
        let mut late = std::pin::pin!(tokio::time::sleep(self.limit));
        let ends = (&self.asked.from, &self.asked.to);
        let acquainted = tokio::select! {
            known = self.sidecar.acquaint(ends, self.asked.scopes.iter()) => known.map(drop),
            failure = self.reins.cancelled() => Err(failure),
            () = &mut late => Err(too_late(self.limit)),
        };
        if let Err(failure) = acquainted {
            transfer.failed(failure);
        }
        let mut finish = None;
        while let Some(task) = transfer.task() {
            let outcome = if transfer.undoable() {
                let step = step(&self.sidecar, &self.asked, id, &self.filter, &mut transfer, task);
                tokio::select! {
                    outcome = step => outcome,
                    failure = self.reins.cancelled() => Err(failure),
                    () = &mut late => Err(too_late(self.limit)),
                }
            } else {
                let finish =
                    finish.get_or_insert_with(|| Box::pin(tokio::time::sleep(FINISH_LIMIT)));
                let step = step(&self.sidecar, &self.asked, id, &self.filter, &mut transfer, task);
                tokio::select! {
                    biased;
                    () = finish => Err(too_late(FINISH_LIMIT)),
                    outcome = step => outcome,
                }
            };
            match outcome {
                Ok(()) => transfer.done(),
                Err(failure) => {
                    let ended = finish.as_ref().is_some_and(|finish| finish.is_elapsed());
                    transfer.failed(failure);
                    if ended {
                        // Nothing is tried again once its time is over.
                        while transfer.task().is_some() {
                            transfer.failed(too_late(FINISH_LIMIT));
                        }
                    }
                    if let Some(failure) = transfer.undoing().filter(|_| transfer.task().is_some())
                    {
                        self.sidecar.undo_operation(id, failure);
                    }
                }
            }
        }
        // Versions of what has come need not be above those that were copied while it came.
        self.sidecar.state().versions().moved(&self.asked.from, &self.asked.to);
        self.sidecar.end_operation(id, transfer.ended()).await;
    }
}

fn too_late(limit: Duration) -> Failure {
    Failure::new(FailureKind::Late, format!("it did not end within {limit:?}"))
}

/// Carries out a step of a move.
async fn step(
    sidecar: &Sidecar,
    asked: &MoveAsked,
    id: u64,
    filter: &StateFilter,
    transfer: &mut Transfer,
    task: Task,
) -> Result<(), Failure> {
    let ends = &sidecar.state().ends;
    let (from, to) = (&asked.from, &asked.to);
    match task {
        Task::Survey(scope) => {
            let query = Query::new(filter.clone());
            let failed = |error| Failure::of_call(&error, to);
            let mut chunks = ends.reader(to).get(scope, &query).await.map_err(failed)?;
            while let Some(encoded) = chunks.next_encoded().await.map_err(failed)? {
                for bytes in encoded {
                    let flow = decode(&bytes, to)?.id;
                    transfer.there(scope, &flow, bytes)?;
                }
            }
            Ok(())
        }
        Task::Carry(scope) => {
            // What would change nothing there must not be deleted here.
            let writer = (to, ends.client(to).refusing_older());
            let carrier = Carrier { from: (from, ends.reader(from)), to: writer, scope };
            carry(sidecar, id, filter, transfer, carrier).await
        }
        Task::Delete(scope) => {
            delete(&ends.client(from), from, scope, &transfer.carried(scope)).await
        }
        Task::Remove(scope) => {
            delete(&ends.client(to), to, scope, &transfer.to_remove(scope)).await
        }
        Task::PutBack => {
            let chunks = tokio_stream::iter(transfer.to_put_back());
            let put = ends.client(to).put_per_flow(chunks).await;
            let put = put.map_err(|error| Failure::of_call(&error, to))?;
            put.refusal.map_or(Ok(()), |refusal| {
                let reason = format!("{to} refuses its own state: {refusal}");
                Err(Failure::new(FailureKind::Malformed, reason))
            })
        }
    }
}

async fn carry(
    sidecar: &Sidecar,
    id: u64,
    filter: &StateFilter,
    transfer: &mut Transfer,
    carrier: Carrier<'_>,
) -> Result<(), Failure> {
    let scope = carrier.scope;
    // What only overlaps is told apart from what moves by its id.
    let query = Query::new(filter.clone());
    let mut count = Count::new(sidecar, id);
    let carried = carrier
        .run(&query, |chunk, size| {
            let kept = transfer.carry(scope, &chunk.id)? == Carry::Put;
            if kept {
                count.add(size);
            }
            Ok(kept)
        })
        .await;
    if let Some(taken) = carried.taken {
        transfer.taken(taken);
    }
    count.end(carried.taken);
    let left_behind = transfer.left_behind().clone();
    sidecar.state().progress(id, |progress| progress.left_behind = left_behind);
    carried.failure.map_or(Ok(()), Err)
}

async fn delete(client: &Client, end: &End, scope: Scope, ids: &[FlowId]) -> Result<(), Failure> {
    let deleted: Result<u64, CallError> = client.del(scope, ids).await;
    deleted.map(drop).map_err(|error| Failure::of_call(&error, end))
}
