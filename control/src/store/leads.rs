//! The journal of moves whose packets the data plane holds, and where they lead in the end: each step
//! is here before it has an effect, so that a sidecar that was killed ends what it had begun.

use std::collections::BTreeSet;

use prost::Message as _;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use weir_api::dataplane::v1::{Guarantee, PolicyRoute, PutPolicyRoutesRequest};
use weir_state_transfer::{
    FlowId, StateFilter,
    chunk::Scope,
    wire::{Reader, WireError, Writer},
};

use super::{
    Database, StoreError,
    database::{Durability, from_sql, to_sql},
    ongoing,
};
use crate::{
    southbound::{scope_message, scope_of},
    state_manager::{
        lead::{LeadStep, Plan},
        steps::{PIECES_MAX, Piece},
    },
};

/// A move in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct LedMove {
    /// The operation.
    pub operation: u64,
    /// Of its request.
    pub request_id: String,
    /// Names of the network functions: from, to.
    pub ends: (String, String),
    /// Which state moves.
    pub filter: StateFilter,
    /// Of which scopes.
    pub scopes: BTreeSet<Scope>,
    /// What is promised.
    pub guarantee: Guarantee,
    /// The data plane that was asked to hold; 0 where a version before 5 has written it.
    pub incarnation: u64,
    /// By what the process of the destination is recognised; empty where a version before 6 has written
    /// it.
    pub destination_life: String,
    /// Packets for which its policy routes had had no room before.
    pub overflow: u64,
    /// Packets that have found none since, as far as it was seen when they went back.
    pub lost: u64,
    /// How far it may have come.
    pub step: LeadStep,
    /// What is asked of the data plane.
    pub plan: Plan,
    /// What has moved, once it leads: nothing else is deleted at the source.
    pub moved: Vec<Piece>,
    /// Flows that the source does not delete, of which the destination yet has what was put.
    pub finishing: Vec<Piece>,
}

impl Database {
    /// Writes a move down whose packets are to be held.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin_lead(&mut self, lead: &LedMove) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let Plan { held, led, back, added } = &lead.plan;
            let number = |scope: &Scope| i32::from(scope_message(*scope)).to_string();
            let scopes: Vec<_> = lead.scopes.iter().map(number).collect();
            transaction.execute(
                "INSERT INTO led_move (operation, request_id, source, destination, filter, scopes, \
                 guarantee, step, held, led, back, added, incarnation, overflow, destination_life) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                params![
                    to_sql(lead.operation),
                    lead.request_id,
                    lead.ends.0,
                    lead.ends.1,
                    lead.filter.to_string(),
                    scopes.join(","),
                    i32::from(lead.guarantee),
                    lead.step.word(),
                    bytes(held),
                    bytes(led),
                    bytes(back),
                    added.join(","),
                    to_sql(lead.incarnation),
                    to_sql(lead.overflow),
                    lead.destination_life,
                ],
            )?;
            Ok(())
        })
    }

    /// Notes that a move comes to the step that it has. When it is to lead, its policy routes are desired
    /// from here on, and what has moved is kept.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn step_lead(&mut self, lead: &LedMove) -> Result<(), StoreError> {
        let durability = match lead.step {
            LeadStep::Hold | LeadStep::Carry | LeadStep::Led => Durability::Process,
            // Functions outlive a power cut of the data plane's machine only if they are elsewhere.
            LeadStep::Lead => Durability::Power,
        };
        self.write(durability, |transaction| {
            let operation = to_sql(lead.operation);
            let sql = "UPDATE led_move SET step = ?2 WHERE operation = ?1";
            transaction.execute(sql, params![operation, lead.step.word()])?;
            if lead.step == LeadStep::Lead {
                let mut before = Vec::new();
                for route in &lead.plan.led {
                    before.extend(desired(transaction, &route.name)?);
                }
                let sql = "UPDATE led_move SET moved = ?2, desired = ?3 WHERE operation = ?1";
                let moved = pieces_to(&lead.moved);
                transaction.execute(sql, params![operation, moved, bytes(&before)])?;
                lead.plan.led.iter().try_for_each(|route| desire(transaction, route))?;
            }
            Ok(())
        })
    }

    /// Notes what of that which has moved may be deleted at the source, and which flows finish there.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_moved(&mut self, lead: &LedMove) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            let sql = "UPDATE led_move SET moved = ?2, finishing = ?3 WHERE operation = ?1";
            let (operation, moved) = (to_sql(lead.operation), pieces_to(&lead.moved));
            transaction.execute(sql, params![operation, moved, pieces_to(&lead.finishing)])?;
            Ok(())
        })
    }

    /// Notes that a move that was to lead goes back: of its policy routes that is desired which was
    /// before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn unlead(&mut self, lead: &LedMove) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            let operation = to_sql(lead.operation);
            let sql = "UPDATE led_move SET step = ?2, moved = x'' WHERE operation = ?1";
            transaction.execute(sql, params![operation, LeadStep::Carry.word()])?;
            let sql = "SELECT desired FROM led_move WHERE operation = ?1";
            let before: Option<Vec<u8>> =
                transaction.query_row(sql, [operation], |row| row.get(0))?;
            let before = match before {
                Some(before) => routes(&before)?,
                // A version before 7 has written the row: those that it has changed led to the source.
                None => {
                    let is_added = |route: &&PolicyRoute| lead.plan.added.contains(&route.name);
                    lead.plan.back.iter().filter(|route| !is_added(route)).cloned().collect()
                }
            };
            let is_desired = |name: &str| before.iter().any(|route| route.name == name);
            for route in lead.plan.led.iter().filter(|route| !is_desired(&route.name)) {
                transaction.execute("DELETE FROM policy_route WHERE name = ?1", [&route.name])?;
            }
            before.iter().try_for_each(|route| desire(transaction, route))
        })
    }

    /// Notes that packets of a move have found no room: what tells it is removed then.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_lost(&mut self, operation: u64, packets: u64) -> Result<(), StoreError> {
        self.write(Durability::Process, |transaction| {
            let sql = "UPDATE led_move SET lost = ?2 WHERE operation = ?1";
            transaction.execute(sql, [to_sql(operation), to_sql(packets)])?;
            Ok(())
        })
    }

    /// Forgets a move that has ended, and writes down how, in the place of what its request was
    /// answered: both or neither. Without an answer that stays as it is. A row that came back with a
    /// power cut would have what is at the source by then compared with what moved long ago.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end_lead(
        &mut self,
        operation: u64,
        answer: Option<(&str, &[u8])>,
    ) -> Result<(), StoreError> {
        self.write(Durability::Power, |transaction| {
            let sql = "DELETE FROM led_move WHERE operation = ?1";
            transaction.execute(sql, [to_sql(operation)])?;
            answer.map_or(Ok(()), |answer| ongoing::amend(transaction, answer, false))
        })
    }

    /// Forgets policy routes that decide nothing any more, each given with the one that stands behind
    /// it: what was put in front of it is in front of that.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget_policies(&mut self, idle: &[(String, String)]) -> Result<(), StoreError> {
        let routes = self.policy_routes()?;
        self.write(Durability::Process, |transaction| {
            for (name, _) in idle {
                transaction.execute("DELETE FROM policy_route WHERE name = ?1", [name])?;
            }
            for mut route in routes {
                let before = route.before.clone();
                // The next may be idle too: each stands behind the one before it.
                while let Some((_, next)) = idle.iter().find(|(name, _)| *name == route.before) {
                    route.before.clone_from(next);
                }
                if route.before != before {
                    let sql = "UPDATE policy_route SET route = ?2 WHERE name = ?1";
                    transaction.execute(sql, params![route.name, route.encode_to_vec()])?;
                }
            }
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
             held, led, back, added, incarnation, overflow, moved, destination_life, lost, \
             finishing FROM led_move ORDER BY operation",
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

/// The one of this name that is desired.
fn desired(transaction: &Transaction<'_>, name: &str) -> Result<Option<PolicyRoute>, StoreError> {
    let sql = "SELECT route FROM policy_route WHERE name = ?1";
    let found = transaction.query_row(sql, [name], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    found.map(|bytes| route(&bytes)).transpose()
}

/// One that is there keeps its place, and who it was put in front of.
fn desire(transaction: &Transaction<'_>, route: &PolicyRoute) -> Result<(), StoreError> {
    let found = desired(transaction, &route.name)?;
    let before = found.map_or_else(|| route.before.clone(), |found| found.before);
    let kept = PolicyRoute { before, ..route.clone() }.encode_to_vec();
    transaction.execute(
        "INSERT INTO policy_route (name, route) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET route = ?2",
        params![route.name, kept],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<LedMove, StoreError> {
    let text = |column| row.get::<_, String>(column);
    let blob = |column| row.get::<_, Vec<u8>>(column);
    let bad = |what, value: &str| StoreError::Unreadable { what, value: value.to_owned() };
    let (filter, scopes, step, added) = (text(4)?, text(5)?, text(7)?, text(11)?);
    let scope = |number: &str| scope_of(number.parse().ok()?);
    let found: Option<BTreeSet<Scope>> = scopes.split(',').map(scope).collect();
    let guarantee: i32 = row.get(6)?;
    let names = added.split(',').filter(|name| !name.is_empty());
    let pieces = |column| {
        pieces_of(&blob(column)?).map_err(|error| bad("what has moved", &error.to_string()))
    };
    Ok(LedMove {
        operation: from_sql(row.get(0)?),
        request_id: row.get(1)?,
        ends: (row.get(2)?, row.get(3)?),
        filter: filter.parse().map_err(|_| bad("filter of a move", &filter))?,
        scopes: found.ok_or_else(|| bad("scopes of a move", &scopes))?,
        guarantee: Guarantee::try_from(guarantee)
            .map_err(|_| bad("guarantee of a move", &guarantee.to_string()))?,
        incarnation: from_sql(row.get(12)?),
        destination_life: row.get(15)?,
        overflow: from_sql(row.get(13)?),
        lost: from_sql(row.get(16)?),
        step: LeadStep::of_word(&step).ok_or_else(|| bad("step of a move", &step))?,
        plan: Plan {
            held: routes(&blob(8)?)?,
            led: routes(&blob(9)?)?,
            back: routes(&blob(10)?)?,
            added: names.map(str::to_owned).collect(),
        },
        moved: pieces(14)?,
        finishing: pieces(17)?,
    })
}

/// Pieces one behind the other; none as no byte.
fn pieces_to(pieces: &[Piece]) -> Vec<u8> {
    if pieces.is_empty() {
        return Vec::new();
    }
    Writer::bytes_of(|out| {
        out.list(pieces.iter(), |out, piece| {
            out.u8(i32::from(scope_message(piece.scope)) as u8);
            out.u64(piece.version);
            piece.id.put(out);
        });
    })
}

fn pieces_of(bytes: &[u8]) -> Result<Vec<Piece>, WireError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Reader::whole(bytes, |reader| {
        reader.list("pieces", PIECES_MAX, |reader| {
            let scope = scope_of(reader.u8()?.into());
            let scope = scope.ok_or(WireError::BadField { what: "scope" })?;
            let (version, id) = (reader.u64()?, FlowId::take(reader)?);
            Ok(Piece { scope, id, version })
        })
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
