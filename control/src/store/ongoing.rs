//! Answers to requests whose operations go on: kept until these have ended, however many come later.

use rusqlite::{OptionalExtension as _, params};

use super::{
    Answer, Database, StoreError,
    answers::{COLUMNS, PLACE, read},
    database::Durability,
};

/// Such answers at most; of more the oldest may be forgotten. A sidecar has 64 operations at one
/// time, and a data plane 16 shares that may have been left to it.
pub const GOING_ON_MAX: u32 = 128;

impl Database {
    /// What was begun by requests of a method and goes on, and changes that were begun and have no
    /// answer, as their sidecar died: of these nothing is known but their request ids.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn begun(&self, method: &str) -> Result<Vec<Answer>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM answer \
             WHERE method = '{PLACE}' OR (method = ?1 AND goes_on = 1) ORDER BY id"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let answers = statement.query_map([method], read)?;
        Ok(answers.collect::<Result<_, _>>()?)
    }

    /// Writes down how what was begun by a request has ended, in the place of what was answered;
    /// and whether something of it goes on all the same.
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
            // One that has no answer yet is found by who gives it.
            let sql = "UPDATE answer SET response = ?2, goes_on = ?3 WHERE request_id = ?1";
            transaction.execute(sql, params![request_id, response, goes_on])?;
            Ok(())
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

    /// Notes that what was begun by a request is to end, unless it has.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn cancel(&mut self, request_id: &str) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "UPDATE answer SET cancelled = 1 WHERE request_id = ?1 AND goes_on = 1";
            transaction.execute(sql, [request_id])?;
            Ok(())
        })
    }

    /// What was begun by a request goes on again; whether it is to end.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take_up(&mut self, request_id: &str) -> Result<bool, StoreError> {
        self.write(Durability::Process, |transaction| {
            // Nothing is written of what is so already: the disk may be full.
            let sql = "UPDATE answer SET goes_on = 1 WHERE request_id = ?1 AND goes_on = 0";
            transaction.execute(sql, [request_id])?;
            let sql = "SELECT cancelled FROM answer WHERE request_id = ?1";
            let is_cancelled =
                transaction.query_row(sql, [request_id], |row| row.get(0)).optional()?;
            Ok(is_cancelled.unwrap_or(false))
        })
    }

    /// Notes that with the sidecar that died all has ended that was begun, but by requests of a
    /// method.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn close_all_but(&mut self, method: &str) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "UPDATE answer SET goes_on = 0 WHERE goes_on = 1 AND method <> ?1";
            transaction.execute(sql, [method])?;
            Ok(())
        })
    }
}
