//! `weir drops`.

use clap::Args;
use weir_api::v1::{
    GetCountersRequest, GetCountersResponse, counter_service_client::CounterServiceClient,
};

use super::{
    client::{Client, service},
    failure::Failure,
    output::{columns, show},
};

#[derive(Debug, Args)]
pub(crate) struct Drops {
    /// Show the balance of packets; exit with 9 when it is off
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(client: &Client, drops: Drops) -> Result<(), Failure> {
    let mut service = service!(CounterServiceClient, client);
    let counters = client.call(service.get_counters(client.request(GetCountersRequest {}))).await?;
    show(client.format, &counters, |counters| {
        let mut text = reasons(counters);
        if drops.check {
            text.push_str(&balance(counters));
        }
        text
    })?;
    if drops.check && !counters.balanced { Err(Failure::Problems) } else { Ok(()) }
}

fn reasons(response: &GetCountersResponse) -> String {
    let counters = response.counters.clone().unwrap_or_default();
    let rows = counters.drops.into_iter();
    let rows = rows.map(|drop| vec![drop.packets.to_string(), drop.reason, drop.meaning]);
    columns(&["PACKETS", "REASON", "MEANING"], rows.collect())
}

fn balance(response: &GetCountersResponse) -> String {
    let counters = response.counters.clone().unwrap_or_default();
    let balance = counters.balance.unwrap_or_default();
    let mut text = "\n".to_owned();
    for (sign, term, packets) in [
        (' ', "received", balance.received),
        ('+', "generated", balance.generated),
        ('-', "transmitted", balance.transmitted),
        ('-', "punted", balance.punted),
        ('-', "consumed", balance.consumed),
        ('-', "dropped", balance.dropped),
        ('-', "held", balance.held),
        ('-', "in rings", balance.in_rings),
    ] {
        text.push_str(&format!("{sign} {term:<12} {packets:>16}\n"));
    }
    text.push_str(&format!("= unaccounted  {:>16}\n\n", balance.unaccounted));
    text.push_str(&format!("kernel overload, part of dropped: {}\n", balance.overload));
    let verdict = match (response.balanced, balance.unaccounted) {
        (true, 0) => "the packets balance".to_owned(),
        (true, _) => format!("the packets balance within the {} in flight", response.tolerance),
        (false, _) => {
            format!("the packets do not balance: at most {} may differ", response.tolerance)
        }
    };
    text.push_str(&format!("{verdict}\n\n"));
    let rows = counters.frames.into_iter().map(|at| vec![at.frames.to_string(), at.place]);
    text.push_str(&columns(&["FRAMES", "PLACE"], rows.collect()));
    text
}
