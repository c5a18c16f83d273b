//! `weir copy`.

use clap::{Args, ValueEnum};
use weir_api::{
    nf::v1 as nf,
    v1::{CopyRequest, state_service_client::StateServiceClient},
};
use weir_control::{config::Span, filters::Picks};

use super::{
    client::{Client, service},
    failure::Failure,
    operation,
};

const EXAMPLES: &str = "\
Examples:
  weir copy --from sw1 --to sw2 --filter src=10.0.1.0/24
  weir copy --from ids-a --to ids-b --filter any --scope multi-flow,all-flows
  weir copy --from sw1 --to standby --filter any --every 60s

What is copied is merged at the destination, so copying twice is the same as once. Where the source
can tell, only what has changed since the last copy is sent. With --every the copy ends with this
command, if not before.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Copy {
    /// The end that has the state: an instance, by name or number, or a network function in a
    /// process of its own
    #[arg(long, value_name = "END")]
    from: String,
    /// The end that it is merged at
    #[arg(long, value_name = "END")]
    to: String,
    #[arg(long, help = Picks::State.help("What it is about, as in src=10.0.0.0/8; any for all"))]
    filter: String,
    /// Which state: of each flow, of several, of all
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Copied::MultiFlow])]
    scope: Vec<Copied>,
    /// Copy again and again, so long after the end of the last
    #[arg(long, value_name = "SPAN", value_parser = Span::positive)]
    every: Option<Span>,
    /// So many times only
    #[arg(long, value_name = "N", requires = "every")]
    rounds: Option<u64>,
    /// How long it lasts in all: after that no further copy begins. Without it, or --rounds, until it is
    /// cancelled or this command ends
    #[arg(long, value_name = "SPAN", requires = "every", value_parser = Span::positive)]
    time_limit: Option<Span>,
    /// How long each round may take
    #[arg(
        long,
        alias = "limit",
        value_name = "SPAN",
        default_value = "60s",
        value_parser = Span::positive
    )]
    round_time_limit: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Copied {
    PerFlow,
    MultiFlow,
    AllFlows,
}

pub(crate) async fn run(client: &Client, copy: Copy) -> Result<(), Failure> {
    let mut service = service!(StateServiceClient, client);
    let scope = |copied: Copied| match copied {
        Copied::PerFlow => nf::Scope::PerFlow.into(),
        Copied::MultiFlow => nf::Scope::MultiFlow.into(),
        Copied::AllFlows => nf::Scope::AllFlows.into(),
    };
    let ask = CopyRequest {
        change: client.change()?,
        from: copy.from,
        to: copy.to,
        filter: copy.filter,
        scopes: copy.scope.into_iter().map(scope).collect(),
        interval_ns: copy.every.map_or(0, |every| every.nanos()),
        rounds: copy.rounds.unwrap_or(0),
        limit_ns: copy.round_time_limit.nanos(),
        time_limit_ns: copy.time_limit.map_or(0, |limit| limit.nanos()),
    };
    let stream = client.call(service.copy(client.request(ask))).await?;
    operation::follow(client, stream, operation::Until::Ended, |seen| seen.operation.as_ref()).await
}
