//! Answers already given, so that a repeated request changes nothing.

use rusqlite::{OptionalExtension as _, params};

use super::{Database, StoreError, database::Durability, desired::bump_generation};

/// Answers kept; the oldest go first.
pub const ANSWERS_MAX: u32 = 4_096;

/// Bytes that an answer takes at most, beside its request.
const ROOM: usize = 8 << 10;
/// The method of what holds the place of an answer.
const PLACE: &str = "";

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
}

impl Database {
    /// The answer that a request id was given, if it is still kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn answer(&self, request_id: &str) -> Result<Option<Answer>, StoreError> {
        let sql = "SELECT request_id, method, request, response FROM answer \
                   WHERE request_id = ?1 AND method <> ?2";
        let answer = self.connection.query_row(sql, [request_id, PLACE], |row| {
            Ok(Answer {
                request_id: row.get(0)?,
                method: row.get(1)?,
                request: row.get(2)?,
                response: row.get(3)?,
            })
        });
        Ok(answer.optional()?)
    }

    /// What was begun by requests of a method, and changes that were begun and have no answer, as
    /// their sidecar died: of these nothing is known but their request ids.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn begun(&self, method: &str) -> Result<Vec<Answer>, StoreError> {
        let sql = "SELECT request_id, method, request, response FROM answer \
                   WHERE method IN (?1, ?2) ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let answers = statement.query_map([method, PLACE], |row| {
            Ok(Answer {
                request_id: row.get(0)?,
                method: row.get(1)?,
                request: row.get(2)?,
                response: row.get(3)?,
            })
        })?;
        Ok(answers.collect::<Result<_, _>>()?)
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

    /// Writes down how what was begun by a request has ended, in the place of what was answered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn amend(&mut self, request_id: &str, response: &[u8]) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "UPDATE answer SET response = ?2 WHERE request_id = ?1 AND method <> ?3";
            transaction.execute(sql, params![request_id, response, PLACE])?;
            Ok(())
        })
    }

    /// Keeps the answer to an accepted change and lets the generation grow.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn accept(&mut self, answer: &Answer) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            bump_generation(transaction)?;
            transaction.execute(
                "INSERT OR REPLACE INTO answer (request_id, method, request, response) \
                 VALUES (?1, ?2, ?3, ?4)",
                params![answer.request_id, answer.method, answer.request, answer.response],
            )?;
            transaction.execute(
                "DELETE FROM answer WHERE id <= (SELECT max(id) FROM answer) - ?1",
                [ANSWERS_MAX],
            )?;
            Ok(())
        })
    }
}
