//! What a node opens a transfer for, checked.

use std::{collections::BTreeSet, time::Duration};

use weir_api::{nf::v1::StateKind, v1::TransferOpen};
use weir_state_transfer::{
    StateFilter,
    chunk::{Schema, Scope},
};

use super::{begin, ends::END_MAX};
use crate::{
    config::is_word,
    fault::Fault,
    filters,
    southbound::scope_of,
    state_manager::end::{Called, End},
};

/// Kinds of state that a source may have.
const KINDS_MAX: usize = 64;
/// Bytes by which its process is recognised.
const PROCESS_MAX: usize = 128;

/// What a node opens a transfer for.
#[derive(Debug)]
pub(super) struct Opening {
    /// The number that it gives the transfer.
    pub(super) id: u64,
    /// The number of its operation; 0 when it does not say.
    pub(super) operation: u64,
    pub(super) from: End,
    /// What it calls the end that the state is put into.
    pub(super) to: String,
    pub(super) filter: StateFilter,
    pub(super) scopes: BTreeSet<Scope>,
    pub(super) kinds: Vec<(Scope, Schema)>,
    pub(super) limit: Duration,
    /// By what the process of the source is recognised; empty where that is not known.
    pub(super) process: String,
}

impl Opening {
    /// Checks what a node says. That may be large, and what is kept of it is not.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(peer: &str, open: TransferOpen) -> Result<Self, Fault> {
        if open.to.len() > END_MAX {
            let message = "the destination of a transfer is nf/NAME or instance/NAME";
            return Err(Fault::invalid("END_MISSING", message).object("to"));
        }
        Ok(Self {
            id: open.id,
            operation: open.operation,
            from: source(peer, &open.from)?,
            filter: filters::state(&open.filter)?,
            scopes: scopes(&open)?,
            kinds: kinds(&open.kinds)?,
            limit: begin::limit(open.limit_ns)?,
            process: process(open.process)?,
            to: open.to,
        })
    }
}

/// The end of another node that a transfer comes from.
fn source(peer: &str, called: &str) -> Result<End, Fault> {
    match Called::of(called) {
        // It is told to people and written to logs.
        Called::Nf(name) | Called::Instance(name) if is_word(name) => {
            Ok(End::Peer { peer: peer.to_owned(), end: called.to_owned() })
        }
        _ => {
            let message = "the source of a transfer is nf/NAME or instance/NAME";
            Err(Fault::invalid("END_MISSING", message).object("from"))
        }
    }
}

fn scopes(open: &TransferOpen) -> Result<BTreeSet<Scope>, Fault> {
    let scopes = begin::scopes(&open.scopes, Scope::PerFlow)?;
    if scopes.contains(&Scope::AllFlows) {
        let message = "state of all flows stays where it is: it applies everywhere";
        return Err(Fault::invalid("SCOPES", message).object("scopes"));
    }
    Ok(scopes)
}

fn process(said: String) -> Result<String, Fault> {
    if said.len() <= PROCESS_MAX {
        return Ok(said);
    }
    let message = format!("a process is recognised by {PROCESS_MAX} bytes at most");
    Err(Fault::invalid("PROCESS", message).object("process"))
}

/// The kinds of state of a source.
fn kinds(said: &[StateKind]) -> Result<Vec<(Scope, Schema)>, Fault> {
    let kind = |kind: &StateKind| {
        let scope = scope_of(kind.scope)?;
        let (number, revision) = (kind.schema.try_into().ok()?, kind.revision.try_into().ok()?);
        Some((scope, Schema { kind: number, revision }))
    };
    let kinds: Option<Vec<_>> = said.iter().take(KINDS_MAX + 1).map(kind).collect();
    kinds.filter(|kinds| kinds.len() <= KINDS_MAX).ok_or_else(|| {
        let message = format!("{KINDS_MAX} kinds of state at most, each with scope and schema");
        Fault::invalid("KINDS", message).object("kinds")
    })
}
