//! The journal of moves whose packets the data plane holds, and where they lead in the end: each step
//! is here before it has an effect, so that a sidecar that was killed ends what it had begun.

use prost::Message as _;
use rusqlite::{Row, Transaction, params};
use weir_api::dataplane::v1::{PolicyRoute, PutPolicyRoutesRequest};

use super::{
    Database, StoreError,
    database::{Durability, from_sql, to_sql},
};
use crate::state_manager::lead::Plan;

/// How far such a move may have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadStep {
    /// Packets may be held, and no state has been put.
    Hold,
    /// State may have been put at the destination, and none was deleted.
    Carry,
    /// The destination has all state, and packets may be led there.
    Lead,
}

impl LeadStep {
    const ALL: [(Self, &str); 3] =
        [(Self::Hold, "hold"), (Self::Carry, "carry"), (Self::Lead, "lead")];

    fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(step, _)| *step == self);
        found.expect("the table has a word for each step").1
    }
}

/// A move in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct LedMove {
    /// The operation.
    pub operation: u64,
    /// Of its request.
    pub request_id: String,
    /// Names of the network functions: from, to.
    pub ends: (String, String),
    /// As a filter is written.
    pub filter: String,
    /// The numbers of its scopes in the API, apart by commas.
    pub scopes: String,
    /// The number of its guarantee in the API.
    pub guarantee: i32,
    /// How far it may have come.
    pub step: LeadStep,
    /// What is asked of the data plane.
    pub plan: Plan,
}

impl Database {
    /// Writes a move down whose packets are to be held.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin_lead(&mut self, lead: &LedMove) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let Plan { held, led, back, added } = &lead.plan;
            transaction.execute(
                "INSERT INTO led_move (operation, request_id, source, destination, filter, scopes, \
                 guarantee, step, held, led, back, added) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                params![
                    to_sql(lead.operation),
                    lead.request_id,
                    lead.ends.0,
                    lead.ends.1,
                    lead.filter,
                    lead.scopes,
                    lead.guarantee,
                    lead.step.word(),
                    bytes(held),
                    bytes(led),
                    bytes(back),
                    added.join(","),
                ],
            )?;
            Ok(())
        })
    }

    /// Notes that a move comes further. When it leads, its policy routes are desired from here on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn step_lead(&mut self, lead: &LedMove, step: LeadStep) -> Result<(), StoreError> {
        let durability = match step {
            LeadStep::Hold | LeadStep::Carry => Durability::Process,
            // Functions outlive a power cut of the data plane's machine only if they are elsewhere.
            LeadStep::Lead => Durability::Power,
        };
        self.write(durability, |transaction| {
            let sql = "UPDATE led_move SET step = ?2 WHERE operation = ?1";
            transaction.execute(sql, params![to_sql(lead.operation), step.word()])?;
            if step == LeadStep::Lead {
                lead.plan.led.iter().try_for_each(|route| desire(transaction, route))?;
            }
            Ok(())
        })
    }

    /// Forgets a move that has ended.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end_lead(&mut self, operation: u64) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "DELETE FROM led_move WHERE operation = ?1";
            transaction.execute(sql, [to_sql(operation)])?;
            Ok(())
        })
    }

    /// Moves that have not ended, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn led_moves(&self) -> Result<Vec<LedMove>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT operation, request_id, source, destination, filter, scopes, guarantee, step, \
             held, led, back, added FROM led_move ORDER BY operation",
        )?;
        let mut rows = statement.query([])?;
        let mut moves = Vec::new();
        while let Some(row) = rows.next()? {
            moves.push(read(row)?);
        }
        Ok(moves)
    }

    /// The policy routes that the data plane shall have beside those of its configuration, or with
    /// another next hop: in the order in which they came.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn policy_routes(&self) -> Result<Vec<PolicyRoute>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT route FROM policy_route ORDER BY id")?;
        let routes = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        routes.map(|bytes| route(&bytes?)).collect()
    }
}

/// One that is there keeps its place, and who it was put in front of.
fn desire(transaction: &Transaction<'_>, route: &PolicyRoute) -> Result<(), StoreError> {
    let sql = "SELECT route FROM policy_route WHERE name = ?1";
    let mut statement = transaction.prepare(sql)?;
    let mut found = statement.query_map([&route.name], |row| row.get::<_, Vec<u8>>(0))?;
    let before = match found.next() {
        Some(bytes) => self::route(&bytes?)?.before,
        None => route.before.clone(),
    };
    let kept = PolicyRoute { before, ..route.clone() }.encode_to_vec();
    transaction.execute(
        "INSERT INTO policy_route (name, route) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET route = ?2",
        params![route.name, kept],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<LedMove, StoreError> {
    let step: String = row.get(7)?;
    let added: String = row.get(11)?;
    let names = added.split(',').filter(|name| !name.is_empty());
    Ok(LedMove {
        operation: from_sql(row.get(0)?),
        request_id: row.get(1)?,
        ends: (row.get(2)?, row.get(3)?),
        filter: row.get(4)?,
        scopes: row.get(5)?,
        guarantee: row.get(6)?,
        step: LeadStep::ALL
            .into_iter()
            .find(|(_, word)| *word == step)
            .map(|(step, _)| step)
            .ok_or(StoreError::Unreadable { what: "step of a move", value: step })?,
        plan: Plan {
            held: routes(&row.get::<_, Vec<u8>>(8)?)?,
            led: routes(&row.get::<_, Vec<u8>>(9)?)?,
            back: routes(&row.get::<_, Vec<u8>>(10)?)?,
            added: names.map(str::to_owned).collect(),
        },
    })
}

fn bytes(routes: &[PolicyRoute]) -> Vec<u8> {
    PutPolicyRoutesRequest { change: None, routes: routes.to_vec() }.encode_to_vec()
}

fn routes(bytes: &[u8]) -> Result<Vec<PolicyRoute>, StoreError> {
    let decoded = PutPolicyRoutesRequest::decode(bytes);
    decoded.map(|request| request.routes).map_err(|error| unreadable(&error))
}

fn route(bytes: &[u8]) -> Result<PolicyRoute, StoreError> {
    PolicyRoute::decode(bytes).map_err(|error| unreadable(&error))
}

fn unreadable(error: &prost::DecodeError) -> StoreError {
    StoreError::Unreadable { what: "policy routes", value: error.to_string() }
}
