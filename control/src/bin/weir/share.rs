//! `weir share`.

use clap::{Args, Subcommand, ValueEnum};
use weir_api::{
    dataplane::v1::ShareMode,
    nf::v1 as nf,
    v1::{ChangeShareRequest, ShareRequest, state_service_client::StateServiceClient},
};
use weir_control::{config::Span, filters::Picks};

use super::{
    client::{Client, service},
    failure::Failure,
    operation::{self, Until},
    output::show,
};

const EXAMPLES: &str = "\
Examples:
  weir share --instances sw1,sw2 --filter src=10.0.0.0/8
  weir share --instances sw1,sw2,sw3 --filter any --mode strict --time-limit 10m
  weir share change 7 --instances sw1,sw2,sw3,sw4
  weir operation cancel 7

Limits of a source hold for all these instances together, and a scan is one whichever of them it
passes. A share goes on when this command is interrupted, and until it is cancelled or its time is
over. Then each instance keeps a replica. Meanwhile flows that it may be about are not moved, and
the node is not scaled.";

const WHOSE: &str =
    "Whose state: sources that it names as a whole, as src=10.0.0.0/8 does; any for all";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Share {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Args)]
struct Start {
    /// The instances, by names or numbers
    #[arg(long, value_name = "INSTANCE", value_delimiter = ',', num_args = 1.., required = true)]
    instances: Vec<String>,
    #[arg(long, required = true, help = Picks::Flows.help(WHOSE))]
    filter: Option<String>,
    /// Which state: that of several flows; that of all flows is copied, by weir copy --scope all-flows
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Shared::MultiFlow])]
    scope: Vec<Shared>,
    /// The order of updates: one that keeps that of each instance, or that in which each worker
    /// received the packets
    #[arg(long, value_enum, default_value_t = Mode::Strong)]
    mode: Mode,
    /// How long it lasts; until it is cancelled, if this is not said
    #[arg(long, alias = "limit", value_name = "SPAN", value_parser = Span::positive)]
    time_limit: Option<Span>,
    /// Return when all of them share
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let instances join a share, and leave it
    Change {
        /// The number of the operation
        id: u64,
        /// All that share from here on
        #[arg(long, value_name = "INSTANCE", value_delimiter = ',', required = true)]
        instances: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shared {
    MultiFlow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Strong,
    Strict,
}

pub(crate) async fn run(client: &Client, share: Share) -> Result<(), Failure> {
    let mut service = service!(StateServiceClient, client);
    if let Some(Verb::Change { id, instances }) = share.verb {
        let ask = ChangeShareRequest { change: client.change()?, id, instances };
        let changed = client.call(service.change_share(client.request(ask))).await?;
        return show(client.format, &changed, |changed| {
            operation::table(changed.operation.as_slice())
        });
    }
    let Start { instances, filter, scope, mode, time_limit, no_wait } = share.start;
    let number = |shared: Shared| match shared {
        Shared::MultiFlow => nf::Scope::MultiFlow.into(),
    };
    let mode = match mode {
        Mode::Strong => ShareMode::Strong,
        Mode::Strict => ShareMode::Strict,
    };
    let ask = ShareRequest {
        change: client.change()?,
        instances,
        filter: filter.unwrap_or_default(),
        scopes: scope.into_iter().map(number).collect(),
        mode: mode.into(),
        limit_ns: time_limit.map_or(0, |limit| limit.nanos()),
    };
    let until = if no_wait { Until::Shared } else { Until::Ended };
    let stream = client.call(service.share(client.request(ask))).await?;
    operation::follow(client, stream, until, |seen| seen.operation.as_ref()).await
}
