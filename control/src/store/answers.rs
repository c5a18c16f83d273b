//! Answers already given, so that a repeated request changes nothing.

use rusqlite::{OptionalExtension as _, Row, params};

use super::{
    Database, StoreError, database::Durability, desired::bump_generation, ongoing::GOING_ON_MAX,
};

/// Answers kept, beside those of which something goes on; the oldest go first.
pub const ANSWERS_MAX: u32 = 4_096;

/// Bytes that an answer takes at most, beside its request.
const ROOM: usize = 8 << 10;
/// The method of what holds the place of an answer.
pub(super) const PLACE: &str = "";
/// What is read of an answer.
pub(super) const COLUMNS: &str = "request_id, method, request, response, goes_on";

/// A request that was accepted and what it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Chosen by the caller.
    pub request_id: String,
    /// Full name of the method.
    pub method: String,
    /// The encoded request.
    pub request: Vec<u8>,
    /// The encoded response.
    pub response: Vec<u8>,
    /// Whether what it began goes on.
    pub goes_on: bool,
}

impl Database {
    /// The answer that a request id was given, if it is still kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn answer(&self, request_id: &str) -> Result<Option<Answer>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM answer WHERE request_id = ?1 AND method <> '{PLACE}'");
        Ok(self.connection.query_row(&sql, [request_id], read).optional()?)
    }

    /// Makes room for the answer to a change that is about to be made: when there is none, the
    /// change is not begun.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn reserve(&mut self, request_id: &str, request: usize) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO answer (request_id, method, request, response) \
                 VALUES (?1, ?2, zeroblob(?3), x'')",
                params![request_id, PLACE, (request + ROOM) as i64],
            )?;
            Ok(())
        })
    }

    /// Gives the room for an answer back: the change was refused.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget(&mut self, request_id: &str) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "DELETE FROM answer WHERE request_id = ?1 AND method = ?2";
            transaction.execute(sql, [request_id, PLACE])?;
            Ok(())
        })
    }

    /// Keeps the answer to an accepted change and lets the generation grow. What was begun may have
    /// ended meanwhile: then how it has is the answer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn accept(&mut self, answer: &Answer) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            bump_generation(transaction)?;
            let sql = "SELECT response FROM answer \
                       WHERE request_id = ?1 AND method = ?2 AND length(response) > 0";
            let ended: Option<Vec<u8>> = transaction
                .query_row(sql, [answer.request_id.as_str(), PLACE], |row| row.get(0))
                .optional()?;
            transaction.execute(
                "INSERT OR REPLACE INTO answer (request_id, method, request, response, goes_on) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    answer.request_id,
                    answer.method,
                    answer.request,
                    ended.as_ref().unwrap_or(&answer.response),
                    answer.goes_on && ended.is_none(),
                ],
            )?;
            transaction.execute(
                "DELETE FROM answer WHERE id <= (SELECT max(id) FROM answer) - ?1 AND id NOT IN \
                 (SELECT id FROM answer WHERE goes_on = 1 \
                 AND id <= (SELECT max(id) FROM answer) - ?1 ORDER BY id DESC LIMIT ?2)",
                [ANSWERS_MAX, GOING_ON_MAX],
            )?;
            Ok(())
        })
    }
}

/// An answer out of the columns that [`COLUMNS`] names.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Answer> {
    Ok(Answer {
        request_id: row.get(0)?,
        method: row.get(1)?,
        request: row.get(2)?,
        response: row.get(3)?,
        goes_on: row.get(4)?,
    })
}
