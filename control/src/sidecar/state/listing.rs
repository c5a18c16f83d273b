//! Operations on state that callers are told of: those that this sidecar has, and those of which only
//! its store tells, as it has forgotten them or an earlier sidecar had them.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use tonic::Code;
use weir_api::v1::{
    MoveResponse, StateFailure, StateOperation, StateOperationKind, StateOperationState,
};

use crate::{
    fault::Fault,
    service::{goes_on, state_message},
    sidecar::Sidecar,
    state_manager::{
        operation::Operation,
        table::{ENDED_MAX, RUNNING_MAX},
    },
    store::{KeptOperation, StoreError},
};

/// Operations that are read of the store for a list: as many as this sidecar can have.
const KEPT_MAX: u32 = (RUNNING_MAX + ENDED_MAX) as u32;

/// Why nobody follows one yet that goes on without a sidecar.
const NOT_YET: &str =
    "it goes on, and the sidecar takes it up as soon as it reaches the data plane";
/// What goes on of a move between instances that an earlier sidecar has left.
const LEFT_TO_DATAPLANE: &str = "the sidecar was started again; what the data plane does of it goes \
                                 on there: see weir move list";
/// What goes on of anything else that an earlier sidecar has left.
const LEFT: &str =
    "the sidecar was started again; nobody goes on with it, nor undoes what it has done";
/// What else is told of both, and of one that its sidecar has ended as it stopped, with the request id.
const ASKED_AGAIN: &str = "asked for again with request id";

/// An operation that can be told of.
#[derive(Debug)]
pub(crate) enum Found {
    /// This sidecar has it.
    Here(Box<Operation>),
    /// Only the store tells of it.
    Kept(Box<StateOperation>),
}

impl Sidecar {
    /// Those that go on, and the last of the others, newest first. Of the store those are left out that
    /// can not be read; its log names them.
    pub(crate) async fn list_state_operations(&self) -> Result<Vec<StateOperation>, Fault> {
        let rows = self.store.run(|database| database.kept_operations(KEPT_MAX)).await?;
        let now_unix_ns = self.clock.unix_ns();
        let readable = |row: &KeptOperation| {
            told(row, now_unix_ns).inspect_err(|error| {
                tracing::warn!(%error, "an operation is not listed");
            })
        };
        let kept = rows.iter().filter_map(|row| readable(row).ok()).collect();
        // What was begun since they were read is in the table.
        let (table, now) = (self.state.table.borrow(), self.now());
        let here = table.newest_first().into_iter();
        Ok(merged(here.map(|operation| state_message(operation, now)).collect(), kept))
    }

    /// The operation of a number. One that goes on and that nobody follows yet is taken up first, if that
    /// does not take long.
    ///
    /// # Errors
    /// NOT_FOUND; NOT_TAKEN_UP or why it can not be taken up; when its row can not be read.
    pub(crate) async fn find_state_operation(self: &Arc<Self>, id: u64) -> Result<Found, Fault> {
        let found = self.look_for(id).await?;
        let Found::Kept(kept) = &found else { return Ok(found) };
        if !goes_on(kept.state()) {
            return Ok(found);
        }
        let taken_up = self.take_up_kept(kept).await;
        match self.look_for(id).await? {
            Found::Kept(kept) if goes_on(kept.state()) => {
                Err(taken_up.err().unwrap_or_else(|| not_taken_up(id)))
            }
            found => Ok(found),
        }
    }

    /// The operation of a number, as it is known now.
    pub(super) async fn look_for(&self, id: u64) -> Result<Found, Fault> {
        let here = || self.state.table.borrow().find(id).cloned().map(Box::new).map(Found::Here);
        if let Some(found) = here() {
            return Ok(found);
        }
        let row = self.store.run(move |database| database.kept_operation(id)).await?;
        // It may have been begun or taken up meanwhile.
        if let Some(found) = here() {
            return Ok(found);
        }
        let row = row.ok_or_else(|| Fault::not_found("operations", &id.to_string()))?;
        let kept = told(&row, self.clock.unix_ns());
        let kept = kept.map_err(|error| Fault::from(error).object(format!("operations/{id}")))?;
        Ok(Found::Kept(Box::new(kept)))
    }
}

/// That an operation goes on, and this sidecar does not have it.
pub(crate) fn not_taken_up(id: u64) -> Fault {
    let message = format!("the sidecar can not follow operation {id}: its log says why");
    Fault::new(Code::Unavailable, "NOT_TAKEN_UP", message)
        .object(format!("operations/{id}"))
        .fix("ask again")
}

/// The operation that the answer to a request tells of: all have the same form.
pub(super) fn operation_in(response: &[u8]) -> Option<StateOperation> {
    MoveResponse::decode(response).ok()?.operation
}

/// The answer to a request that tells of an operation: the reverse.
pub(super) fn answer_with(operation: StateOperation) -> Vec<u8> {
    MoveResponse { operation: Some(operation) }.encode_to_vec()
}

/// One that has ended, as it is told once it goes on again.
pub(super) fn going_on(ended: &StateOperation) -> StateOperation {
    let mut operation = ended.clone();
    operation.set_state(StateOperationState::Running);
    forget_failure(&mut operation);
    operation
}

fn forget_failure(operation: &mut StateOperation) {
    operation.set_failure(StateFailure::Unspecified);
    operation.reason.clear();
    operation.failed_end.clear();
}

/// An operation that no task of this sidecar has, as its row tells of it.
fn told(row: &KeptOperation, unix_ns: u64) -> Result<StateOperation, StoreError> {
    let unreadable = || StoreError::Unreadable {
        what: "an operation as the answer to request",
        value: row.request_id.clone(),
    };
    let mut operation = operation_in(&row.response).ok_or_else(unreadable)?;
    if !goes_on(operation.state()) {
        if operation.failure() == StateFailure::Stopping {
            let StateOperation { reason, request_id, .. } = &mut operation;
            *reason = format!("{reason}; {ASKED_AGAIN} {request_id}, it is taken up again");
        }
        return Ok(operation);
    }
    // What every sidecar takes up by itself. Moves that lead packets are in its table from its start on.
    let is_taken_up = match operation.kind() {
        StateOperationKind::Share => row.goes_on,
        StateOperationKind::Move => row.goes_on && row.ending.is_some(),
        StateOperationKind::Copy | StateOperationKind::Notify | StateOperationKind::Unspecified => {
            false
        }
    };
    forget_failure(&mut operation);
    if is_taken_up {
        operation.elapsed_ns = unix_ns.saturating_sub(operation.started_unix_ns);
        NOT_YET.clone_into(&mut operation.reason);
    } else {
        operation.set_state(StateOperationState::Left);
        let what = if operation.r#move.is_some() { LEFT_TO_DATAPLANE } else { LEFT };
        operation.reason = format!("{what}; {ASKED_AGAIN} {}, it is taken up", row.request_id);
    }
    Ok(operation)
}

/// Those that this sidecar has, and of the `kept` all others that go on, and so many of the rest, in
/// their order, that [`ENDED_MAX`] do not go on; newest first.
fn merged(here: Vec<StateOperation>, kept: Vec<StateOperation>) -> Vec<StateOperation> {
    let rest = here.iter().filter(|operation| !goes_on(operation.state())).count();
    let mut room = ENDED_MAX.saturating_sub(rest);
    let by_id = |operation: StateOperation| (operation.id, operation);
    let mut all: BTreeMap<u64, _> = here.into_iter().map(by_id).collect();
    for operation in kept {
        if all.contains_key(&operation.id) {
            continue;
        }
        if !goes_on(operation.state()) {
            if room == 0 {
                continue;
            }
            room -= 1;
        }
        all.insert(operation.id, operation);
    }
    all.into_values().rev().collect()
}

#[cfg(test)]
mod tests {
    use StateOperationState::{Done, Failed, Left, Running};

    use super::*;
    use crate::store::Ending;

    fn operation(id: u64, state: StateOperationState) -> StateOperation {
        StateOperation { id, state: state.into(), ..StateOperation::default() }
    }

    fn ids(all: &[StateOperation]) -> Vec<u64> {
        all.iter().map(|operation| operation.id).collect()
    }

    #[test]
    fn what_the_sidecar_has_is_listed_whole_and_the_store_fills_up_what_is_left_of_the_bound() {
        const ENDED: u64 = ENDED_MAX as u64;
        // One that was begun first has ended last.
        let here = vec![operation(900, Running), operation(3, Done), operation(898, Failed)];
        let mut kept = vec![operation(900, Left), operation(7, Running)];
        kept.extend((100..898).rev().map(|id| operation(id, Done)));
        let all = merged(here, kept);
        let mut expected: Vec<u64> = vec![900, 898];
        expected.extend((898 - (ENDED - 2)..898).rev());
        expected.extend([7, 3]);
        assert_eq!(ids(&all), expected);
        assert_eq!(all[0].state(), Running);
        assert_eq!(all.iter().filter(|one| !goes_on(one.state())).count(), ENDED_MAX);

        let full = (1..=ENDED).map(|id| operation(id, Done)).collect();
        let all = merged(full, vec![operation(999, Done), operation(998, Running)]);
        assert_eq!((all[0].id, all.len()), (998, ENDED_MAX + 1));
    }

    #[test]
    fn a_row_goes_on_only_if_something_carries_it_out() {
        use StateOperationKind::{Copy, Move, Share};
        let ending = Some(Ending::Cancelled);
        for (kind, goes_on, ending, state) in [
            (Share, true, None, Running),
            (Share, true, ending, Running),
            (Share, false, None, Left),
            (Move, true, ending, Running),
            // The store could not note that they were left.
            (Move, true, None, Left),
            (Copy, true, ending, Left),
            (Move, false, ending, Left),
        ] {
            let begun = operation(1, Running);
            let begun = StateOperation { kind: kind.into(), started_unix_ns: 5, ..begun };
            let response = MoveResponse { operation: Some(begun) }.encode_to_vec();
            let request_id = "r".to_owned();
            let row = KeptOperation { request_id, response, goes_on, ending };
            let told = told(&row, 12).unwrap();
            let took = if state == Running { 7 } else { 0 };
            assert_eq!((told.state(), told.elapsed_ns), (state, took), "{row:?}");
            assert!(!told.reason.is_empty());
        }
    }

    #[test]
    fn a_row_without_an_operation_can_not_be_read() {
        for response in [vec![0xff], Vec::new()] {
            let request_id = "r".to_owned();
            let row = KeptOperation { request_id, response, goes_on: false, ending: None };
            let error = told(&row, 0).unwrap_err();
            assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
        }
    }
}
