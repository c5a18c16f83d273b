//! The log of scaling decisions.

use rusqlite::params;

use super::{
    Database, StoreError,
    database::{Durability, from_sql, to_sql},
};
use crate::scaling::decide::{Decision, Verdict};

/// Decisions kept; the oldest go first.
pub const DECISIONS_MAX: u32 = 1_024;

/// A decision, when it was taken, and what it led to.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedDecision {
    /// Unix time in nanoseconds.
    pub at_unix_ns: u64,
    /// What was decided, on which figures.
    pub decision: Decision,
    /// The operation that it led to; 0 for none.
    pub operation: u64,
}

impl Database {
    /// Adds a decision to the log.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn log_decision(&mut self, logged: &LoggedDecision) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let decision = &logged.decision;
            transaction.execute(
                "INSERT INTO decision (at_unix_ns, verdict, instances_from, instances_to, reason, \
                 load_mean, load_max, load_total, beyond_ns, cool_down_left_ns, operation) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    to_sql(logged.at_unix_ns),
                    verdict_word(decision.verdict),
                    decision.from,
                    decision.to,
                    decision.reason,
                    decision.load_mean,
                    decision.load_max,
                    decision.load_total,
                    to_sql(decision.beyond_ns),
                    to_sql(decision.cool_down_left_ns),
                    to_sql(logged.operation),
                ],
            )?;
            transaction.execute(
                "DELETE FROM decision WHERE id <= (SELECT max(id) FROM decision) - ?1",
                [DECISIONS_MAX],
            )?;
            Ok(())
        })
    }

    /// The last decisions, newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn decisions(&self, limit: u32) -> Result<Vec<LoggedDecision>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_unix_ns, verdict, instances_from, instances_to, reason, load_mean, \
             load_max, load_total, beyond_ns, cool_down_left_ns, operation \
             FROM decision ORDER BY id DESC LIMIT ?1",
        )?;
        let mut rows = statement.query([limit])?;
        let mut decisions = Vec::new();
        while let Some(row) = rows.next()? {
            let verdict: String = row.get(1)?;
            decisions.push(LoggedDecision {
                at_unix_ns: from_sql(row.get(0)?),
                decision: Decision {
                    verdict: verdict_from(verdict)?,
                    from: row.get(2)?,
                    to: row.get(3)?,
                    reason: row.get(4)?,
                    load_mean: row.get(5)?,
                    load_max: row.get(6)?,
                    load_total: row.get(7)?,
                    beyond_ns: from_sql(row.get(8)?),
                    cool_down_left_ns: from_sql(row.get(9)?),
                },
                operation: from_sql(row.get(10)?),
            });
        }
        Ok(decisions)
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Keep => "keep",
        Verdict::ScaleOut => "scale-out",
        Verdict::ScaleIn => "scale-in",
    }
}

fn verdict_from(word: String) -> Result<Verdict, StoreError> {
    [Verdict::Keep, Verdict::ScaleOut, Verdict::ScaleIn]
        .into_iter()
        .find(|verdict| verdict_word(*verdict) == word)
        .ok_or(StoreError::Unreadable { what: "verdict", value: word })
}
