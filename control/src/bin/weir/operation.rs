//! `weir operation`, and how operations on state are followed and shown.

use clap::{Subcommand, ValueEnum};
use prost::{Message, Name};
use tonic::Streaming;
use weir_api::{
    dataplane::v1::SharePhase,
    nf::v1 as nf,
    v1::{
        CancelStateOperationRequest, ListStateOperationsRequest, StateOperation,
        StateOperationKind, StateOperationState, WatchStateOperationRequest,
        state_operation::Selection, state_service_client::StateServiceClient,
    },
};

use super::{
    client::{Client, service},
    escape,
    failure::Failure,
    output::{Format, columns, show, show_next, span},
};

/// Why a piece stays at the source of a move.
const WHY_LEFT: &str = "it is named only in part, or has changed at the source since it was moved";

/// Which state an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// Of one flow each.
    PerFlow,
    /// Of several flows, such as those of a host.
    MultiFlow,
}

impl Scope {
    /// As messages have it.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::PerFlow => nf::Scope::PerFlow.into(),
            Self::MultiFlow => nf::Scope::MultiFlow.into(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Operations in progress and the last that ended or were left by an earlier sidecar, newest first
    List {
        /// Only those in progress
        #[arg(long)]
        running: bool,
    },
    /// Follow an operation until it ends
    Watch {
        /// Its number
        id: u64,
    },
    /// Tell an operation to end: a move is undone, or finishes if it is too late for that; instances
    /// that share keep a replica
    Cancel {
        /// Its number
        id: u64,
    },
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let mut service = service!(StateServiceClient, client);
    match verb {
        Verb::List { running } => {
            let ask = ListStateOperationsRequest { in_progress: running };
            let listed = client.call(service.list_operations(client.request(ask))).await?;
            show(client.format, &listed, |listed| table(&listed.operations))
        }
        Verb::Watch { id } => {
            let ask = WatchStateOperationRequest { id };
            let stream = client.call(service.watch_operation(client.request(ask))).await?;
            follow(client, stream, Until::Ended, |seen| seen.operation.as_ref()).await
        }
        Verb::Cancel { id } => {
            let ask = CancelStateOperationRequest { change: client.change()?, id };
            let told = client.call(service.cancel_operation(client.request(ask))).await?;
            if client.format == Format::Table {
                escape::tell(&format!("told to end; weir operation watch {id} follows it"));
            }
            show(client.format, &told, |told| table(told.operation.as_slice()))
        }
    }
}

/// How far an operation is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Begun,
    /// All instances of a share share.
    Shared,
    Ended,
}

impl Until {
    fn is_reached(self, operation: &StateOperation) -> bool {
        match self {
            Self::Begun => true,
            Self::Shared => {
                let share = operation.share.as_ref();
                share.is_some_and(|share| share.phase() == SharePhase::Steady)
            }
            Self::Ended => operation.state() == StateOperationState::Done,
        }
    }
}

/// Follows an operation until it ends, or only so far. As JSON each message is a line; else the way
/// goes to standard error, and the end to standard output.
pub(crate) async fn follow<T: Message + Name>(
    client: &Client,
    mut stream: Streaming<T>,
    until: Until,
    operation: impl Fn(&T) -> Option<&StateOperation>,
) -> Result<(), Failure> {
    let mut last = None;
    while let Some(seen) = client.follow(&mut stream).await? {
        match (client.format, operation(&seen)) {
            (Format::Json, _) => show_next(Format::Json, &seen, |_| String::new())?,
            (Format::Table, Some(operation)) => escape::tell(&line(operation)),
            (Format::Table, None) => {}
        }
        let enough = operation(&seen).is_some_and(|seen| until.is_reached(seen));
        last = Some(seen);
        if enough && until != Until::Ended {
            break;
        }
    }
    let Some(last) = last.as_ref().and_then(operation) else { return Err(Failure::NotReached) };
    if client.format == Format::Table {
        for id in &last.left_behind_ids {
            escape::tell(&format!("left behind, as {WHY_LEFT}: {id}"));
        }
        super::output::write_lines(&table(std::slice::from_ref(last)))?;
    }
    if until.is_reached(last) { Ok(()) } else { Err(Failure::NotReached) }
}

/// How far an operation has come, on one line.
fn line(operation: &StateOperation) -> String {
    format!("operation {}: {}", operation.id, progress(operation))
}

/// The same of one in progress behind its number, with what it is about.
pub(crate) fn running_line(operation: &StateOperation) -> String {
    let ends = match operation.to.as_str() {
        "" => who(operation),
        to => format!("{} to {to}", who(operation)),
    };
    format!("{} {}, {ends}, {}", operation.id, progress(operation), what(operation))
}

fn progress(operation: &StateOperation) -> String {
    let (kind, state) = (kind(operation), state(operation));
    let moved = operation.r#move.as_ref().map(|seen| seen.phase().as_str_name());
    let shared = operation.share.as_ref().map(|seen| seen.phase().as_str_name());
    let phase = moved.or(shared).and_then(|name| name.split_once("_PHASE_"));
    let phase = phase.map(|(_, phase)| format!(", {}", phase.to_lowercase())).unwrap_or_default();
    format!("{kind} {state}{phase}, {}", carried(operation))
}

/// What it has carried.
fn carried(operation: &StateOperation) -> String {
    let StateOperation { flows, chunks, bytes, rounds, events, events_lost, .. } = operation;
    let carried = match operation.kind() {
        StateOperationKind::Notify => format!("{events} events, {events_lost} lost"),
        StateOperationKind::Copy => format!("{rounds} rounds, {chunks} chunks, {bytes} bytes"),
        StateOperationKind::Share => format!("{} instances", operation.instances.len()),
        _ => match &operation.r#move {
            Some(seen) if seen.multi_flow > 0 => {
                format!("{flows} flows, {} of several, {} packets held", seen.multi_flow, seen.held)
            }
            Some(seen) => format!("{flows} flows, {} packets held", seen.held),
            None => format!("{chunks} chunks, {bytes} bytes"),
        },
    };
    match operation.in_use {
        0 => carried,
        in_use => format!("{carried}, {in_use} in use at the source"),
    }
}

fn kind(operation: &StateOperation) -> String {
    let name = operation.kind().as_str_name();
    name.trim_start_matches("STATE_OPERATION_KIND_").to_lowercase()
}

fn state(operation: &StateOperation) -> String {
    let name = operation.state().as_str_name();
    name.trim_start_matches("STATE_OPERATION_STATE_").to_lowercase()
}

/// The end that it is about, or where its state comes from; of a share, who shares.
fn who(operation: &StateOperation) -> String {
    if operation.from.is_empty() { operation.instances.join(",") } else { operation.from.clone() }
}

/// Which state, or which packets.
fn what(operation: &StateOperation) -> String {
    match &operation.selection {
        Some(Selection::Filter(filter)) => filter.clone(),
        Some(Selection::Buckets(buckets)) => format!("buckets {buckets}"),
        None => String::new(),
    }
}

/// Operations as rows.
pub(crate) fn table(operations: &[StateOperation]) -> String {
    let header = [
        "OPERATION",
        "KIND",
        "FROM",
        "TO",
        "WHAT",
        "STATE",
        "CARRIED",
        "LEFT BEHIND",
        "TOOK",
        "REASON",
    ];
    let row = |operation: &StateOperation| {
        vec![
            operation.id.to_string(),
            kind(operation),
            who(operation),
            operation.to.clone(),
            what(operation),
            state(operation),
            carried(operation),
            operation.left_behind.to_string(),
            span(operation.elapsed_ns),
            operation.reason.clone(),
        ]
    };
    columns(&header, operations.iter().map(row).collect())
}
