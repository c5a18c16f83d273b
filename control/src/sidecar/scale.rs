//! Beginning, planning and undoing scale operations.

use std::{sync::Arc, time::Duration};

use weir_api::dataplane::v1::Move;

use super::Sidecar;
use crate::{
    fault::Fault,
    scaling::{
        machine::Machine,
        operation::{Operation, OperationState, Origin},
        plan::{self, Plan},
    },
    southbound::ended,
};

/// How long a scale operation waits for moves that somebody started to end.
const MOVES_LIMIT: Duration = Duration::from_secs(10);
/// How often it looks.
const MOVES_POLL: Duration = Duration::from_millis(5);

impl Sidecar {
    /// Plans, writes down and begins the way to `wanted` instances. The caller holds the right to
    /// change.
    pub(crate) async fn begin_scale(
        self: &Arc<Self>,
        wanted: u32,
        origin: Origin,
        request_id: &str,
    ) -> Result<Operation, Fault> {
        let started_ns = self.clock.now_ns();
        self.refuse_to_scale(&[])?;
        let seen = tokio::try_join!(self.southbound.node(), self.southbound.list_moves());
        let (node, moves) = seen.map_err(|status| Fault::from_dataplane(&status))?;
        if node.instances_max > 0 && wanted > node.instances_max {
            let most = node.instances_max;
            return Err(Fault::invalid(
                "INSTANCE_COUNT",
                format!("the data plane has room for {most} instances, not {wanted}"),
            )
            .object("instances")
            .fix(format!("ask for 1 to {most}")));
        }
        if !idle(&moves) {
            self.await_moves().await?;
        }
        let plan = self.plan_scale(wanted).await?;
        self.refuse_to_scale(&plan.retire)?;
        let mut operation = Operation::new(&plan, token()?, origin, node.incarnation);
        request_id.clone_into(&mut operation.request_id);
        operation.started_unix_ns = self.clock.unix_ns();
        if plan.is_empty() {
            operation.state = OperationState::Done;
        }
        let operation = self
            .store
            .run(move |database| database.begin_operation(&mut operation).map(|()| operation))
            .await?;
        tracing::info!(
            operation = operation.id,
            from = operation.from,
            to = operation.to,
            origin = origin.word(),
            "scales"
        );
        self.operation.send_replace(Some(operation.clone()));
        if !operation.state.ended() {
            self.spawn_driver(Machine::new(operation.clone(), self.pause_at), started_ns);
        }
        Ok(operation)
    }

    /// The plan to `wanted` instances from what runs at this moment.
    pub(crate) async fn plan_scale(&self, wanted: u32) -> Result<Plan, Fault> {
        let running = self.southbound.running().await.map_err(|s| Fault::from_dataplane(&s))?;
        Ok(plan::plan(&running, wanted)?)
    }

    /// Refuses to change the number of instances beside what goes on; those in `retire` would go.
    pub(crate) fn refuse_to_scale(&self, retire: &[String]) -> Result<(), Fault> {
        self.refuse_during_operation("scale")?;
        self.refuse_during_share("scale")?;
        self.refuse_while_leading("scale")?;
        self.refuse_during_state_moves(retire)
    }

    /// Asks the operation of this number to go back. The caller holds the right to change.
    pub(crate) async fn undo_scale(&self, id: u64) -> Result<Operation, Fault> {
        let operation = self.find_operation(id).await?;
        if operation.undoable() {
            self.undo.send_replace(id);
            return Ok(operation);
        }
        let (message, when) = match operation.state.ended() {
            true => (format!("operation {id} has ended: it can not be undone"), ""),
            false => (format!("operation {id} can no longer be undone"), " when it has ended"),
        };
        Err(Fault::precondition("NOT_UNDOABLE", message)
            .object(format!("operations/{id}"))
            .fix(format!("scale back{when}: weir scale --to {}", operation.from)))
    }

    /// The operation of this number as it stands, or as it ended.
    pub(crate) async fn find_operation(&self, id: u64) -> Result<Operation, Fault> {
        let current = self.operation.borrow().clone().filter(|operation| operation.id == id);
        if let Some(operation) = current {
            return Ok(operation);
        }
        let found = self.store.run(move |database| database.operation(id)).await?;
        found.ok_or_else(|| Fault::not_found("operations", &id.to_string()).fix("weir scale list"))
    }

    /// Refuses what must not happen while the buckets change owners.
    pub(crate) fn refuse_during_operation(&self, what: &str) -> Result<(), Fault> {
        let Some(operation) = self.operation_in_progress() else { return Ok(()) };
        let id = operation.id;
        let message = format!("cannot {what} while scale operation {id} is in progress");
        Err(Fault::precondition("OPERATION_IN_PROGRESS", message)
            .object(format!("operations/{id}"))
            .fix(format!("wait for it (weir scale watch {id}) or undo it (weir scale undo {id})")))
    }

    async fn await_moves(&self) -> Result<(), Fault> {
        let all_ended = async {
            loop {
                let moves = self.southbound.list_moves().await;
                let moves = moves.map_err(|status| Fault::from_dataplane(&status))?;
                if idle(&moves) {
                    return Ok(());
                }
                tokio::time::sleep(MOVES_POLL).await;
            }
        };
        tokio::time::timeout(MOVES_LIMIT, all_ended).await.unwrap_or_else(|_| {
            Err(Fault::precondition("MOVE_IN_PROGRESS", "a move has not ended")
                .object("moves")
                .fix("see which with weir move list; undo it with weir move undo ID"))
        })
    }
}

fn idle(moves: &[Move]) -> bool {
    moves.iter().all(|listed| ended(listed.phase()))
}

/// A random word that no other operation has.
fn token() -> Result<String, Fault> {
    let random = getrandom::u64()
        .map_err(|error| Fault::new(tonic::Code::Internal, "NO_RANDOMNESS", error.to_string()))?;
    Ok(format!("s-{random:016x}"))
}
