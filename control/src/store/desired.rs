//! What the node shall be: number of instances, scaling by itself, routes.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    Database, StoreError,
    database::{Durability, from_sql, to_sql},
};

/// Routes kept at most.
pub const DESIRED_ROUTES_MAX: u32 = 65_536;

/// What the node converges to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Desired {
    /// Number of instances; `None` until somebody has said.
    pub instances: Option<u32>,
    /// Whether the policy scales; `None` until somebody has said.
    pub auto: Option<bool>,
    /// Grows by one at each accepted change.
    pub generation: u64,
}

/// A route that callers added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredRoute {
    /// As in `10.1.0.0/16`.
    pub prefix: String,
    /// Next hop; empty for a directly connected network.
    pub via: String,
    /// Name of the port.
    pub port: String,
}

/// What callers have said of the route to a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptRoute {
    /// The route that they added.
    pub added: Option<DesiredRoute>,
    /// Whether they removed one.
    pub removed: bool,
}

impl Database {
    /// Reads the desired state.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn desired(&self) -> Result<Desired, StoreError> {
        let value = |key: &str| -> Result<Option<u64>, StoreError> {
            let sql = "SELECT value FROM desired WHERE key = ?1";
            let value = self.connection.query_row(sql, [key], |row| row.get(0)).optional()?;
            Ok(value.map(from_sql))
        };
        Ok(Desired {
            instances: value("instances")?.map(|count| count as u32),
            auto: value("auto")?.map(|auto| auto != 0),
            generation: value("generation")?.unwrap_or(0),
        })
    }

    /// Sets the number of instances.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_instances(&mut self, count: u32) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| set(transaction, "instances", u64::from(count)))
    }

    /// Sets whether the policy scales.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_auto(&mut self, auto: bool) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| set(transaction, "auto", u64::from(auto)))
    }

    /// The routes that callers added, by prefix.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn routes(&self) -> Result<Vec<DesiredRoute>, StoreError> {
        let sql = "SELECT prefix, via, port FROM route ORDER BY prefix";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(DesiredRoute { prefix: row.get(0)?, via: row.get(1)?, port: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What is kept of the route to a prefix.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn route(&self, prefix: &str) -> Result<KeptRoute, StoreError> {
        let sql = "SELECT prefix, via, port FROM route WHERE prefix = ?1";
        let added = self.connection.query_row(sql, [prefix], |row| {
            Ok(DesiredRoute { prefix: row.get(0)?, via: row.get(1)?, port: row.get(2)? })
        });
        let sql = "SELECT count(*) FROM removed_route WHERE prefix = ?1";
        let removed: u32 = self.connection.query_row(sql, [prefix], |row| row.get(0))?;
        Ok(KeptRoute { added: added.optional()?, removed: removed > 0 })
    }

    /// Keeps of the route to a prefix what was kept before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put_back(&mut self, prefix: &str, kept: &KeptRoute) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            transaction.execute("DELETE FROM route WHERE prefix = ?1", [prefix])?;
            transaction.execute("DELETE FROM removed_route WHERE prefix = ?1", [prefix])?;
            if let Some(DesiredRoute { prefix, via, port }) = &kept.added {
                let sql = "INSERT INTO route (prefix, via, port) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![prefix, via, port])?;
            }
            if kept.removed {
                transaction.execute("INSERT INTO removed_route (prefix) VALUES (?1)", [prefix])?;
            }
            Ok(())
        })
    }

    /// Adds or replaces a route.
    ///
    /// # Errors
    /// When there are too many, or the file cannot be written.
    pub fn add_route(&mut self, route: &DesiredRoute) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            let sql = "INSERT OR REPLACE INTO route (prefix, via, port) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![route.prefix, route.via, route.port])?;
            transaction.execute("DELETE FROM removed_route WHERE prefix = ?1", [&route.prefix])?;
            let count: u32 =
                transaction.query_row("SELECT count(*) FROM route", [], |row| row.get(0))?;
            if count > DESIRED_ROUTES_MAX {
                return Err(StoreError::Full { what: "routes", limit: DESIRED_ROUTES_MAX });
            }
            Ok(())
        })
    }

    /// Removes a route, and keeps that it is not wanted: the configuration of the data plane may
    /// have it too.
    ///
    /// # Errors
    /// When too many are kept, or the file cannot be written.
    pub fn remove_route(&mut self, prefix: &str) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            transaction.execute("DELETE FROM route WHERE prefix = ?1", [prefix])?;
            let sql = "INSERT OR IGNORE INTO removed_route (prefix) VALUES (?1)";
            transaction.execute(sql, [prefix])?;
            let sql = "SELECT count(*) FROM removed_route";
            let count: u32 = transaction.query_row(sql, [], |row| row.get(0))?;
            if count > DESIRED_ROUTES_MAX {
                return Err(StoreError::Full { what: "removed routes", limit: DESIRED_ROUTES_MAX });
            }
            Ok(())
        })
    }

    /// Prefixes whose routes callers removed, in their order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn removed_routes(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT prefix FROM removed_route ORDER BY prefix";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets that a route was removed which nothing brings back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget_removed(&mut self, prefix: &str) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            transaction.execute("DELETE FROM removed_route WHERE prefix = ?1", [prefix])?;
            Ok(())
        })
    }
}

pub(super) fn set(transaction: &Transaction<'_>, key: &str, value: u64) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO desired (key, value) VALUES (?1, ?2)";
    transaction.execute(sql, params![key, to_sql(value)])?;
    Ok(())
}

/// The next number of an operation on state; no other has it, nor had or will have.
pub(super) fn next_state_operation(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    let sql = "SELECT value FROM desired WHERE key = 'state_operation'";
    let last = transaction.query_row(sql, [], |row| row.get(0)).optional()?;
    let next = last.map_or(0, from_sql) + 1;
    set(transaction, "state_operation", next)?;
    Ok(next)
}

/// Notes that a change was accepted.
pub(super) fn bump_generation(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO desired (key, value) VALUES ('generation', 1) \
         ON CONFLICT (key) DO UPDATE SET value = value + 1",
        [],
    )?;
    Ok(())
}
