//! Answers already given, so that a repeated request changes nothing.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    Database, StoreError,
    database::{Durability, from_sql},
    desired::bump_generation,
    ongoing::GOING_ON_MAX,
};

/// Answers kept, beside those of which something goes on; the oldest go first.
pub const ANSWERS_MAX: u32 = 4_096;

/// Bytes that an answer takes at most, beside its request.
const ROOM: usize = 8 << 10;
/// What is read of an answer.
pub(super) const COLUMNS: &str =
    "request_id, method, request, response, goes_on, operation, answered";

/// A request that was begun and what it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Chosen by the caller.
    pub request_id: String,
    /// Full name of the method; empty of one that an early version has begun and not answered.
    pub method: String,
    /// The encoded request.
    pub request: Vec<u8>,
    /// The encoded response, once it is answered.
    pub response: Vec<u8>,
    /// Whether what it began goes on.
    pub goes_on: bool,
    /// The number of the operation on state that it has begun, if it was given one; else 0.
    pub operation: u64,
    /// Whether it was answered. One that was not may have been carried out all the same: its sidecar
    /// died, or could not learn or keep what came of it.
    pub answered: bool,
}

impl Database {
    /// What is kept of a request, if anything still is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn answer(&self, request_id: &str) -> Result<Option<Answer>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM answer WHERE request_id = ?1");
        Ok(self.connection.query_row(&sql, [request_id], read).optional()?)
    }

    /// Keeps that a request is begun, with room for its answer: when there is none, the change is not
    /// begun. What an earlier attempt has left stays.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn reserve(
        &mut self,
        request_id: &str,
        method: &str,
        request: &[u8],
    ) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO answer (request_id, method, request, response, answered) \
                 VALUES (?1, ?2, ?3, zeroblob(?4), 0)",
                params![request_id, method, request, ROOM as i64],
            )?;
            prune(transaction)
        })
    }

    /// Gives the room for an answer back: the change was refused.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget(&mut self, request_id: &str) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "DELETE FROM answer WHERE request_id = ?1 AND answered = 0";
            transaction.execute(sql, [request_id])?;
            Ok(())
        })
    }

    /// Keeps the answer to an accepted change and lets the generation grow. What was begun may have
    /// ended meanwhile: then how it has stays the answer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn accept(&mut self, answer: &Answer) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            bump_generation(transaction)?;
            transaction.execute(
                "INSERT INTO answer (request_id, method, request, response, goes_on) \
                 VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (request_id) DO UPDATE SET method = excluded.method, \
                 request = excluded.request, response = excluded.response, \
                 goes_on = excluded.goes_on, answered = 1 WHERE answered = 0",
                params![
                    answer.request_id,
                    answer.method,
                    answer.request,
                    answer.response,
                    answer.goes_on,
                ],
            )?;
            prune(transaction)
        })
    }
}

/// Forgets the oldest of what is beyond the bounds.
fn prune(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.execute(
        "DELETE FROM answer WHERE id <= (SELECT max(id) FROM answer) - ?1 AND id NOT IN \
         (SELECT id FROM answer WHERE goes_on = 1 \
         AND id <= (SELECT max(id) FROM answer) - ?1 ORDER BY id DESC LIMIT ?2)",
        [ANSWERS_MAX, GOING_ON_MAX],
    )?;
    Ok(())
}

/// An answer out of the columns that [`COLUMNS`] names.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Answer> {
    let answered = row.get(6)?;
    // What is not answered has room, and nothing in it.
    let response = if answered { row.get(3)? } else { Vec::new() };
    Ok(Answer {
        request_id: row.get(0)?,
        method: row.get(1)?,
        request: row.get(2)?,
        response,
        goes_on: row.get(4)?,
        operation: from_sql(row.get(5)?),
        answered,
    })
}
