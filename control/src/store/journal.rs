//! The journal of scale operations: planned before anything is done, saved before each action.

use rusqlite::{Row, Transaction, params};
use weir_state_transfer::BucketSet;

use super::{
    Database, StoreError,
    database::{Durability, from_sql, to_sql},
    desired,
};
use crate::scaling::{
    operation::{Operation, OperationState, Origin, Step, StepKind, StepState},
    plan::Direction,
};

/// Operations kept; the oldest go first.
pub const OPERATIONS_MAX: u32 = 256;

const DIRECTIONS: [(Direction, &str); 3] =
    [(Direction::Out, "out"), (Direction::In, "in"), (Direction::Rebalance, "rebalance")];
const STATES: [(OperationState, &str); 5] = [
    (OperationState::Running, "running"),
    (OperationState::Undoing, "undoing"),
    (OperationState::Done, "done"),
    (OperationState::Undone, "undone"),
    (OperationState::Failed, "failed"),
];
const STEP_STATES: [(StepState, &str); 4] = [
    (StepState::Planned, "planned"),
    (StepState::Running, "running"),
    (StepState::Done, "done"),
    (StepState::Undone, "undone"),
];
const ORIGINS: [Origin; 3] = [Origin::Command, Origin::Auto, Origin::Converge];

impl Database {
    /// Writes a new operation and the number of instances that it aims at, and gives it its
    /// number. It is on the disk when this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin_operation(&mut self, operation: &mut Operation) -> Result<(), StoreError> {
        let id = self.write(Durability::Power, |transaction| {
            transaction.execute(
                "INSERT INTO operation (request_id, token, origin, incarnation, direction, \
                 instances_from, instances_to, state, reason, started_unix_ns, elapsed_ns, \
                 resumed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                params![
                    operation.request_id,
                    operation.token,
                    operation.origin.word(),
                    to_sql(operation.incarnation),
                    word(&DIRECTIONS, operation.direction),
                    operation.from,
                    operation.to,
                    word(&STATES, operation.state),
                    operation.reason,
                    to_sql(operation.started_unix_ns),
                    to_sql(operation.elapsed_ns),
                    operation.resumed,
                ],
            )?;
            let id = from_sql(transaction.last_insert_rowid());
            write_steps(transaction, id, &operation.steps)?;
            desired::set(transaction, "instances", u64::from(operation.to))?;
            transaction.execute(
                "DELETE FROM operation WHERE id <= (SELECT max(id) FROM operation) - ?1",
                [OPERATIONS_MAX],
            )?;
            Ok(id)
        })?;
        operation.id = id;
        Ok(())
    }

    /// Writes how far an operation got. One that ended without reaching its aim sets the number
    /// of instances desired to `instances`, what there is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_operation(
        &mut self,
        operation: &Operation,
        instances: Option<u32>,
    ) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            transaction.execute(
                "UPDATE operation SET state = ?2, reason = ?3, elapsed_ns = ?4, resumed = ?5 \
                 WHERE id = ?1",
                params![
                    to_sql(operation.id),
                    word(&STATES, operation.state),
                    operation.reason,
                    to_sql(operation.elapsed_ns),
                    operation.resumed,
                ],
            )?;
            write_steps(transaction, operation.id, &operation.steps)?;
            if let Some(count) = instances {
                desired::set(transaction, "instances", u64::from(count))?;
            }
            Ok(())
        })
    }

    /// The last operations, newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn operations(&self, limit: u32) -> Result<Vec<Operation>, StoreError> {
        self.select("ORDER BY id DESC LIMIT ?1", i64::from(limit))
    }

    /// One operation by its number.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn operation(&self, id: u64) -> Result<Option<Operation>, StoreError> {
        Ok(self.select("WHERE id = ?1", to_sql(id))?.pop())
    }

    fn select(&self, which: &str, parameter: i64) -> Result<Vec<Operation>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id, request_id, token, origin, incarnation, direction, instances_from, \
             instances_to, state, reason, started_unix_ns, elapsed_ns, resumed \
             FROM operation {which}"
        ))?;
        let mut rows = statement.query([parameter])?;
        let mut operations = Vec::new();
        while let Some(row) = rows.next()? {
            operations.push(read_operation(row)?);
        }
        for operation in &mut operations {
            operation.steps = self.steps(operation.id)?;
        }
        Ok(operations)
    }

    fn steps(&self, operation: u64) -> Result<Vec<Step>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT kind, ordinal, instance, destination, buckets, sweep, state, attempts, flows, \
             started_ns, ended_ns FROM step WHERE operation = ?1 ORDER BY place",
        )?;
        let mut rows = statement.query([to_sql(operation)])?;
        let mut steps = Vec::new();
        while let Some(row) = rows.next()? {
            steps.push(read_step(row)?);
        }
        Ok(steps)
    }
}

fn write_steps(
    transaction: &Transaction<'_>,
    operation: u64,
    steps: &[Step],
) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO step (operation, place, kind, ordinal, instance, destination, \
         buckets, sweep, state, attempts, flows, started_ns, ended_ns) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for (place, step) in steps.iter().enumerate() {
        statement.execute(params![
            to_sql(operation),
            place as u32,
            step.kind.word(),
            step.ordinal,
            step.instance,
            step.destination,
            step.buckets.to_string(),
            step.sweep,
            word(&STEP_STATES, step.state),
            step.attempts,
            to_sql(step.flows),
            to_sql(step.started_ns),
            to_sql(step.ended_ns),
        ])?;
    }
    Ok(())
}

fn read_operation(row: &Row<'_>) -> Result<Operation, StoreError> {
    let origin: String = row.get(3)?;
    Ok(Operation {
        id: from_sql(row.get(0)?),
        request_id: row.get(1)?,
        token: row.get(2)?,
        origin: ORIGINS
            .into_iter()
            .find(|known| known.word() == origin)
            .ok_or(StoreError::Unreadable { what: "origin", value: origin })?,
        incarnation: from_sql(row.get(4)?),
        direction: value(&DIRECTIONS, "direction", row.get(5)?)?,
        from: row.get(6)?,
        to: row.get(7)?,
        state: value(&STATES, "operation state", row.get(8)?)?,
        reason: row.get(9)?,
        steps: Vec::new(),
        started_unix_ns: from_sql(row.get(10)?),
        elapsed_ns: from_sql(row.get(11)?),
        resumed: row.get(12)?,
    })
}

fn read_step(row: &Row<'_>) -> Result<Step, StoreError> {
    let kind: String = row.get(0)?;
    let buckets: String = row.get(4)?;
    Ok(Step {
        kind: StepKind::ALL
            .into_iter()
            .find(|known| known.word() == kind)
            .ok_or(StoreError::Unreadable { what: "step kind", value: kind })?,
        ordinal: row.get(1)?,
        instance: row.get(2)?,
        destination: row.get(3)?,
        buckets: buckets
            .parse::<BucketSet>()
            .map_err(|_| StoreError::Unreadable { what: "buckets", value: buckets })?,
        sweep: row.get(5)?,
        state: value(&STEP_STATES, "step state", row.get(6)?)?,
        attempts: row.get(7)?,
        flows: from_sql(row.get(8)?),
        started_ns: from_sql(row.get(9)?),
        ended_ns: from_sql(row.get(10)?),
    })
}

fn word<T: Copy + PartialEq>(words: &[(T, &'static str)], value: T) -> &'static str {
    let found = words.iter().find(|(known, _)| *known == value);
    found.expect("the table has a word for each value").1
}

fn value<T: Copy>(
    words: &[(T, &'static str)],
    what: &'static str,
    word: String,
) -> Result<T, StoreError> {
    let found = words.iter().find(|(_, known)| *known == word);
    found.map(|(value, _)| *value).ok_or(StoreError::Unreadable { what, value: word })
}
