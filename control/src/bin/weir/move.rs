//! `weir move`.

use clap::{Args, Subcommand, ValueEnum};
use weir_api::{
    dataplane::v1::{self as dataplane, Guarantee, MovePhase},
    v1::{
        ListMovesRequest, MoveRequest, UndoMoveRequest, WatchMoveRequest, move_request::Selection,
        move_service_client::MoveServiceClient, state_service_client::StateServiceClient,
    },
};
use weir_control::{config::Span, filters::Picks};

use super::{
    client::{Client, service},
    escape,
    failure::Failure,
    instance::Names,
    operation::{self, Scope, Until},
    output::{columns, show, show_next, span},
};

const EXAMPLES: &str = "\
Examples:
  weir move --from sw1 --to sw2 --filter src=10.0.1.0/24,proto=tcp,dport=80
  weir move --from sw1 --to sw2 --buckets 0-1023
  weir move --from sw1 --to sw2 --filter src=10.0.1.7 --scope per-flow,multi-flow
  weir move --from ids-a --to ids-b --filter any --guarantee none
  weir move --from ids-a --to edge-2/ids-b --filter src=10.0.1.0/24 --guarantee none

A move is an operation: weir operation list, watch and cancel it by its number. Those of the data
plane between instances, of scale operations too, have numbers of their own: weir move list, watch
and undo.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Move {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Args)]
struct Start {
    /// The end that has the state: an instance, by name or number, or a network function in a
    /// process of its own
    #[arg(long, value_name = "END", required = true)]
    from: Option<String>,
    /// The end that shall have it; PEER/END is one of another node, a [[control.peer]]
    #[arg(long, value_name = "END", required = true)]
    to: Option<String>,
    #[command(flatten)]
    which: Which,
    /// What is promised of the packets of these flows: nothing, that none is lost, or their order
    /// too
    #[arg(long, value_enum, default_value_t = Promise::Ordered)]
    guarantee: Promise,
    /// Which state goes: of each flow, and of several that the filter names as a whole. Without
    /// per-flow the flows stay where they are
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scope::PerFlow])]
    scope: Vec<Scope>,
    /// How long it may take before it is undone
    #[arg(
        long,
        alias = "limit",
        value_name = "SPAN",
        default_value = "60s",
        value_parser = Span::positive
    )]
    time_limit: Span,
    /// Return when it has begun
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    #[arg(long, help = Picks::State.help("Flows, as in src=10.0.0.0/8,dport=53; any for all"))]
    filter: Option<String>,
    /// Steering buckets, as in 0-1023,2048; between instances only
    #[arg(long)]
    buckets: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Promise {
    None,
    LossFree,
    Ordered,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Moves between instances, of scale operations too: in progress and the last that ended
    List,
    /// Follow such a move until it ends
    Watch {
        /// Its number in this list
        id: u64,
    },
    /// Undo such a move whose first flow has not left
    Undo {
        /// Its number in this list
        id: u64,
    },
}

pub(crate) async fn run(client: &Client, command: Move) -> Result<(), Failure> {
    let mut service = service!(MoveServiceClient, client);
    match command.verb {
        None => start(client, command.start).await,
        Some(Verb::List) => {
            let listed = service.list_moves(client.request(ListMovesRequest {}));
            let (listed, names) = (client.call(listed).await?, Names::read(client).await);
            show(client.format, &listed, |listed| table(&listed.moves, &names))
        }
        Some(Verb::Watch { id }) => watch(client, id).await,
        Some(Verb::Undo { id }) => {
            let ask = UndoMoveRequest { change: client.change()?, id };
            let undone = client.call(service.undo_move(client.request(ask))).await?;
            let names = Names::read(client).await;
            show(client.format, &undone, |undone| table(undone.r#move.as_slice(), &names))
        }
    }
}

async fn start(client: &Client, start: Start) -> Result<(), Failure> {
    let mut service = service!(StateServiceClient, client);
    let Which { filter, buckets } = start.which;
    let ask = MoveRequest {
        change: client.change()?,
        from: start.from.unwrap_or_default(),
        to: start.to.unwrap_or_default(),
        selection: filter.map(Selection::Filter).or(buckets.map(Selection::Buckets)),
        guarantee: match start.guarantee {
            Promise::None => Guarantee::None,
            Promise::LossFree => Guarantee::LossFree,
            Promise::Ordered => Guarantee::Ordered,
        }
        .into(),
        scopes: start.scope.into_iter().map(|scope| scope.number()).collect(),
        limit_ns: start.time_limit.nanos(),
    };
    let stream = client.call(service.r#move(client.request(ask))).await?;
    let until = if start.no_wait { Until::Begun } else { Until::Ended };
    operation::follow(client, stream, until, |seen| seen.operation.as_ref()).await
}

/// Shows each phase on the way to standard error and the end to standard output.
async fn watch(client: &Client, id: u64) -> Result<(), Failure> {
    let mut service = service!(MoveServiceClient, client);
    let ask = WatchMoveRequest { id };
    let mut stream = client.call(service.watch_move(client.request(ask))).await?;
    let mut last = None;
    while let Some(seen) = client.next(&mut stream).await? {
        if let Some(seen) = &seen.r#move {
            escape::tell(&format!("move {id}: {}", phase(seen)));
        }
        last = Some(seen);
    }
    let Some(last) = last else { return Err(Failure::NotReached) };
    let names = Names::read(client).await;
    for id in last.r#move.iter().flat_map(|last| &last.left_behind_ids) {
        escape::tell(&format!("left behind, as the filter names it only in part: {id}"));
    }
    show_next(client.format, &last, |last| table(last.r#move.as_slice(), &names))?;
    let is_done = |last: dataplane::Move| last.phase() == MovePhase::Done && last.reason.is_empty();
    let done = last.r#move.is_some_and(is_done);
    if done { Ok(()) } else { Err(Failure::NotReached) }
}

/// Pieces of state of several flows that have arrived, and what became of others.
fn multi_flow(seen: &dataplane::Move) -> String {
    let others = [
        (seen.multi_flow_refused, "refused"),
        (seen.multi_flow_lost, "lost"),
        (seen.left_behind, "left behind"),
    ];
    let others = others.iter().filter(|(count, _)| *count > 0);
    let others: String = others.map(|(count, what)| format!(", {count} {what}")).collect();
    format!("{}{others}", seen.multi_flow)
}

fn phase(seen: &dataplane::Move) -> String {
    seen.phase().as_str_name().trim_start_matches("MOVE_PHASE_").to_lowercase()
}

fn table(moves: &[dataplane::Move], names: &Names) -> String {
    use dataplane::r#move::Selection;
    let header = [
        "MOVE",
        "FROM",
        "TO",
        "WHAT",
        "PHASE",
        "FLOWS",
        "MULTI-FLOW",
        "HELD",
        "DROPPED",
        "HOLD P99",
        "TOOK",
        "REASON",
    ];
    let row = |seen: &dataplane::Move| {
        let what = match &seen.selection {
            Some(Selection::Filter(filter)) => filter.clone(),
            Some(Selection::Buckets(buckets)) => format!("buckets {buckets}"),
            None => String::new(),
        };
        vec![
            seen.id.to_string(),
            names.show(seen.from),
            names.show(seen.to),
            what,
            phase(seen),
            seen.flows.to_string(),
            multi_flow(seen),
            seen.held.to_string(),
            (seen.hold_full_drops + seen.in_transit_drops).to_string(),
            span(seen.hold_p99_ns),
            span(seen.ended_ns.saturating_sub(seen.started_ns)),
            seen.reason.clone(),
        ]
    };
    columns(&header, moves.iter().map(row).collect())
}
