//! The SQLite file: opening, schema, and how durable a write is.

use std::{collections::BTreeSet, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, Transaction};

use super::StoreError;

const VERSION: i64 = 7;

/// How long to wait for an earlier sidecar to let the file go.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
CREATE TABLE desired (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE route (prefix TEXT PRIMARY KEY, via TEXT NOT NULL, port TEXT NOT NULL) STRICT;
CREATE TABLE removed_route (prefix TEXT PRIMARY KEY) STRICT;
CREATE TABLE operation (
  id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, token TEXT NOT NULL UNIQUE,
  origin TEXT NOT NULL, incarnation INTEGER NOT NULL, direction TEXT NOT NULL,
  instances_from INTEGER NOT NULL, instances_to INTEGER NOT NULL, state TEXT NOT NULL,
  reason TEXT NOT NULL, started_unix_ns INTEGER NOT NULL, elapsed_ns INTEGER NOT NULL,
  resumed INTEGER NOT NULL) STRICT;
CREATE TABLE step (
  operation INTEGER NOT NULL REFERENCES operation ON DELETE CASCADE, place INTEGER NOT NULL,
  kind TEXT NOT NULL, ordinal INTEGER NOT NULL, instance TEXT NOT NULL,
  destination TEXT NOT NULL, buckets TEXT NOT NULL, sweep INTEGER NOT NULL, state TEXT NOT NULL,
  attempts INTEGER NOT NULL, flows INTEGER NOT NULL, started_ns INTEGER NOT NULL,
  ended_ns INTEGER NOT NULL, PRIMARY KEY (operation, place)) STRICT, WITHOUT ROWID;
CREATE TABLE decision (
  id INTEGER PRIMARY KEY, at_unix_ns INTEGER NOT NULL, verdict TEXT NOT NULL,
  instances_from INTEGER NOT NULL, instances_to INTEGER NOT NULL, reason TEXT NOT NULL,
  load_mean REAL NOT NULL, load_max REAL NOT NULL, load_total REAL NOT NULL,
  beyond_ns INTEGER NOT NULL, cool_down_left_ns INTEGER NOT NULL,
  operation INTEGER NOT NULL) STRICT;
CREATE TABLE answer (
  id INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, method TEXT NOT NULL,
  request BLOB NOT NULL, response BLOB NOT NULL, goes_on INTEGER NOT NULL DEFAULT 0,
  ending INTEGER NOT NULL DEFAULT 0, operation INTEGER NOT NULL DEFAULT 0,
  answered INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE INDEX going_on ON answer (id) WHERE goes_on = 1;
CREATE TABLE led_move (
  operation INTEGER PRIMARY KEY, request_id TEXT NOT NULL, source TEXT NOT NULL,
  destination TEXT NOT NULL, filter TEXT NOT NULL, scopes TEXT NOT NULL,
  guarantee INTEGER NOT NULL, step TEXT NOT NULL, held BLOB NOT NULL, led BLOB NOT NULL,
  back BLOB NOT NULL, added TEXT NOT NULL,
  incarnation INTEGER NOT NULL DEFAULT 0, overflow INTEGER NOT NULL DEFAULT 0,
  moved BLOB NOT NULL DEFAULT x'', destination_life TEXT NOT NULL DEFAULT '',
  lost INTEGER NOT NULL DEFAULT 0, desired BLOB,
  finishing BLOB NOT NULL DEFAULT x'') STRICT;
CREATE TABLE policy_route (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, route BLOB NOT NULL) STRICT;
";

/// What version 2 has and version 1 had not.
const SINCE_1: &str = "CREATE TABLE removed_route (prefix TEXT PRIMARY KEY) STRICT;";
/// What version 3 has and version 2 had not. Shares that are over are found out at the data plane.
const SINCE_2: &str = "
ALTER TABLE answer ADD COLUMN goes_on INTEGER NOT NULL DEFAULT 0;
ALTER TABLE answer ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;
CREATE INDEX going_on ON answer (id) WHERE goes_on = 1;
UPDATE answer SET goes_on = 1 WHERE method = 'weir.v1.ShareRequest';
";
/// What version 4 has and version 3 had not. Who had no answer had no method.
const SINCE_3: &str = "
ALTER TABLE answer RENAME COLUMN cancelled TO ending;
ALTER TABLE answer ADD COLUMN operation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE answer ADD COLUMN answered INTEGER NOT NULL DEFAULT 1;
UPDATE answer SET answered = 0 WHERE method = '';
CREATE TABLE led_move (
  operation INTEGER PRIMARY KEY, request_id TEXT NOT NULL, source TEXT NOT NULL,
  destination TEXT NOT NULL, filter TEXT NOT NULL, scopes TEXT NOT NULL,
  guarantee INTEGER NOT NULL, step TEXT NOT NULL, held BLOB NOT NULL, led BLOB NOT NULL,
  back BLOB NOT NULL, added TEXT NOT NULL) STRICT;
CREATE TABLE policy_route (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, route BLOB NOT NULL) STRICT;
";
/// What version 5 has and version 4 had not.
const SINCE_4: &str = "
ALTER TABLE led_move ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE led_move ADD COLUMN overflow INTEGER NOT NULL DEFAULT 0;
ALTER TABLE led_move ADD COLUMN moved BLOB NOT NULL DEFAULT x'';
";
/// What version 6 has and version 5 had not.
const SINCE_5: &str = "ALTER TABLE led_move ADD COLUMN destination_life TEXT NOT NULL DEFAULT '';";
/// What version 7 has and version 6 had not.
const SINCE_6: &str = "
ALTER TABLE led_move ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE led_move ADD COLUMN desired BLOB;
ALTER TABLE led_move ADD COLUMN finishing BLOB NOT NULL DEFAULT x'';
";

/// What each version has that the one before it had not, from version 2 on.
const SINCE: [&str; VERSION as usize - 1] = [SINCE_1, SINCE_2, SINCE_3, SINCE_4, SINCE_5, SINCE_6];

/// Every column of every table, with its type.
const COLUMNS: &str = "SELECT t.name || '.' || c.name || ' ' || c.type FROM sqlite_master AS t, \
                       pragma_table_info(t.name) AS c WHERE t.type = 'table' \
                       AND t.name NOT LIKE 'sqlite_%'";

/// Pages of the log at which it is written back to the file.
const WAL_PAGES: u32 = 32;

/// The open file; its methods are what can be read and written.
#[derive(Debug)]
pub struct Database {
    pub(super) connection: Connection,
}

/// Takes the file for this process alone and returns its schema version.
fn take(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.busy_timeout(BUSY_LIMIT)?;
    // Two sidecars must not drive the same operation; the kernel drops the lock of a process
    // that was killed.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What an earlier sidecar left in the log goes into the file now, and the log stays short: on
    // a disk that was full it must not keep the room that the next write needs.
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", 0)?;
    // A disk that is still full does not keep it from being read.
    let _still_full = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// What a step comes to that makes no sense there.
fn ill_matched(error: rusqlite::Error, found: i64) -> StoreError {
    let what = match &error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        _ if error.sqlite_error_code() == Some(ErrorCode::Unknown) => error.to_string(),
        _ => return StoreError::Sqlite(error),
    };
    StoreError::Schema { found, what }
}

/// Sees that a file that says that it has a version has its schema: programs that were never released
/// have written others under the same number.
fn check(connection: &Connection, found: i64) -> Result<(), StoreError> {
    let columns = |connection: &Connection| -> Result<BTreeSet<String>, rusqlite::Error> {
        connection.prepare(COLUMNS)?.query_map([], |row| row.get(0))?.collect()
    };
    let fresh = Connection::open_in_memory()?;
    fresh.execute_batch(SCHEMA)?;
    let (has, wanted) = (columns(connection)?, columns(&fresh)?);
    let what = match (wanted.difference(&has).next(), has.difference(&wanted).next()) {
        (Some(missing), _) => format!("there is no {missing}"),
        (None, Some(other)) => format!("there is {other}"),
        (None, None) => return Ok(()),
    };
    Err(StoreError::Schema { found, what })
}

/// How much a write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The process may be killed.
    Process,
    /// The power may fail: the write is on the disk when it returns.
    Power,
}

impl Database {
    /// Opens the file, with its directory (mode 0700) and schema made when they are absent.
    ///
    /// # Errors
    /// When it cannot be opened, or has a newer schema or another than its version says.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
        {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut connection = Connection::open(path)?;
        let found = take(&connection).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse,
            _ => StoreError::Sqlite(error),
        })?;
        let steps = match found {
            0 => &[SCHEMA],
            1..=VERSION => &SINCE[found as usize - 1..],
            _ => return Err(StoreError::Version { found, known: VERSION }),
        };
        let transaction = connection.transaction()?;
        for step in steps {
            transaction.execute_batch(step).map_err(|error| ill_matched(error, found))?;
        }
        check(&transaction, found)?;
        if !steps.is_empty() {
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        Ok(Self { connection })
    }

    /// Does all of `job` or nothing of it.
    pub(super) fn write<T>(
        &mut self,
        durability: Durability,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let synchronous = match durability {
            Durability::Process => "NORMAL",
            Durability::Power => "FULL",
        };
        self.connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction = self.connection.transaction()?;
        let value = job(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

/// SQLite's integers are signed; identifiers and times keep their bits.
pub(super) fn to_sql(value: u64) -> i64 {
    value.cast_signed()
}

/// See [`to_sql`].
pub(super) fn from_sql(value: i64) -> u64 {
    value.cast_unsigned()
}
