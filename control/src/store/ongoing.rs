//! Operations on state as the answers to their requests tell of them: kept until they have ended,
//! however many come later.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    Answer, Database, StoreError,
    answers::{COLUMNS, read},
    database::{Durability, from_sql, to_sql},
    desired,
};

/// Such answers at most; of more the oldest may be forgotten. A sidecar has 64 operations at one
/// time, and a data plane 16 shares that may have been left to it.
pub const GOING_ON_MAX: u32 = 128;

/// Why what was begun is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was cancelled.
    Cancelled,
    /// Its time is over.
    Over,
}

/// The number of an operation, and what is known of it from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// The number.
    pub id: u64,
    /// It was begun before, and nobody knows how far it came.
    pub again: bool,
    /// It is to end, and why.
    pub ending: Option<Ending>,
}

/// An operation whose request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOperation {
    /// Of its request.
    pub request_id: String,
    /// The encoded response: the operation as it was when its request was answered, or as it ended.
    pub response: Vec<u8>,
    /// Whether it was not noted to have ended, nor to have been left by its sidecar.
    pub goes_on: bool,
    /// It is to end, and why.
    pub ending: Option<Ending>,
}

/// What is read of an operation.
const OPERATION_COLUMNS: &str = "request_id, response, goes_on, ending";

impl Database {
    /// Operations whose requests were answered: first those that go on, and each from the highest
    /// number down, `limit` at most.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kept_operations(&self, limit: u32) -> Result<Vec<KeptOperation>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {OPERATION_COLUMNS} FROM answer WHERE operation <> 0 AND answered = 1 \
             ORDER BY goes_on DESC, operation DESC LIMIT ?1"
        ))?;
        let operations = statement.query_map([limit], read_operation)?;
        Ok(operations.collect::<Result<_, _>>()?)
    }

    /// The operation of a number, if its request was answered and is still kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kept_operation(&self, id: u64) -> Result<Option<KeptOperation>, StoreError> {
        let sql =
            format!("SELECT {OPERATION_COLUMNS} FROM answer WHERE operation = ?1 AND answered = 1");
        Ok(self.connection.query_row(&sql, [to_sql(id)], read_operation).optional()?)
    }

    /// What was begun by requests of a method and goes on, and what was begun by them and has no
    /// answer.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn begun(&self, method: &str) -> Result<Vec<Answer>, StoreError> {
        self.answers_of(
            &format!(
                "SELECT {COLUMNS} FROM answer WHERE (answered = 0 AND method IN (?1, '')) \
             OR (method = ?1 AND goes_on = 1) ORDER BY id"
            ),
            method,
        )
    }

    /// What was begun by requests of a method, goes on and is to end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn ending(&self, method: &str) -> Result<Vec<Answer>, StoreError> {
        self.answers_of(
            &format!(
                "SELECT {COLUMNS} FROM answer \
             WHERE method = ?1 AND goes_on = 1 AND ending <> 0 ORDER BY id"
            ),
            method,
        )
    }

    fn answers_of(&self, sql: &str, method: &str) -> Result<Vec<Answer>, StoreError> {
        let mut statement = self.connection.prepare(sql)?;
        let answers = statement.query_map([method], read)?;
        Ok(answers.collect::<Result<_, _>>()?)
    }

    /// Numbers the operation that a request begins: as before if it was begun before and has no
    /// answer, else as none was nor will be.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn number_operation(&mut self, request_id: &str) -> Result<Numbered, StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "SELECT operation, ending FROM answer WHERE request_id = ?1";
            let before = transaction
                .query_row(sql, [request_id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some((number, ending)) = before.filter(|(number, _)| *number != 0) {
                let id = from_sql(number);
                return Ok(Numbered { id, again: true, ending: ending_of(ending) });
            }
            let id = desired::next_state_operation(transaction)?;
            let sql = "UPDATE answer SET operation = ?2, goes_on = 1 \
                       WHERE request_id = ?1 AND answered = 0";
            transaction.execute(sql, params![request_id, to_sql(id)])?;
            Ok(Numbered { id, again: false, ending: None })
        })
    }

    /// Writes down how what was begun by a request has ended, in the place of what was answered or
    /// would be; and whether something of it goes on all the same.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn amend(
        &mut self,
        request_id: &str,
        response: &[u8],
        goes_on: bool,
    ) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            amend(transaction, (request_id, response), goes_on)
        })
    }

    /// Notes that nothing goes on of what a request has begun.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn close(&mut self, request_id: &str) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "UPDATE answer SET goes_on = 0 WHERE request_id = ?1";
            transaction.execute(sql, [request_id])?;
            Ok(())
        })
    }

    /// Notes that what was begun by a request is to end, and why, unless it has or is to already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn to_end(&mut self, request_id: &str, why: Ending) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            // One that is being begun goes on as soon as it is answered.
            let sql = "UPDATE answer SET ending = ?2 WHERE request_id = ?1 \
                       AND (goes_on = 1 OR answered = 0) AND ending = 0";
            let number = match why {
                Ending::Cancelled => 1,
                Ending::Over => 2,
            };
            transaction.execute(sql, params![request_id, number])?;
            Ok(())
        })
    }

    /// What was begun by a request goes on again; whether it is to end, and why.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take_up(&mut self, request_id: &str) -> Result<Option<Ending>, StoreError> {
        self.write(Durability::Process, |transaction| {
            // Nothing is written of what is so already: the disk may be full.
            let sql = "UPDATE answer SET goes_on = 1 WHERE request_id = ?1 AND goes_on = 0";
            transaction.execute(sql, [request_id])?;
            let sql = "SELECT ending FROM answer WHERE request_id = ?1";
            let ending = transaction.query_row(sql, [request_id], |row| row.get(0)).optional()?;
            Ok(ending.and_then(ending_of))
        })
    }

    /// Notes that with the sidecar that died all has ended that was begun, but by requests of the
    /// method `lasting`, and what by those of `undone` is to end.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn close_all_but(&mut self, lasting: &str, undone: &str) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "UPDATE answer SET goes_on = 0 WHERE goes_on = 1 AND method <> ?1 \
                       AND NOT (method = ?2 AND ending <> 0)";
            transaction.execute(sql, [lasting, undone])?;
            Ok(())
        })
    }
}

/// See [`Database::amend`].
pub(super) fn amend(
    transaction: &Transaction<'_>,
    (request_id, response): (&str, &[u8]),
    goes_on: bool,
) -> Result<(), StoreError> {
    let sql = "UPDATE answer SET response = ?2, goes_on = ?3, answered = 1 WHERE request_id = ?1";
    transaction.execute(sql, params![request_id, response, goes_on])?;
    Ok(())
}

fn read_operation(row: &Row<'_>) -> rusqlite::Result<KeptOperation> {
    Ok(KeptOperation {
        request_id: row.get(0)?,
        response: row.get(1)?,
        goes_on: row.get(2)?,
        ending: ending_of(row.get(3)?),
    })
}

/// What the column says.
fn ending_of(number: i64) -> Option<Ending> {
    match number {
        1 => Some(Ending::Cancelled),
        2 => Some(Ending::Over),
        _ => None,
    }
}
