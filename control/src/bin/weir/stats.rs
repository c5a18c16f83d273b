//! `weir stats`.

use clap::Args;
use weir_api::v1::{
    GetStatsRequest, Stats as Figures, WatchStatsRequest, stats_service_client::StatsServiceClient,
};
use weir_control::config::Span;

use super::{
    client::{Client, service},
    failure::Failure,
    instance,
    output::{show, show_next},
    port, worker,
};

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Show them again and again, at this interval, until interrupted
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s")]
    watch: Option<Span>,
    /// Stop after so many; 0 for never
    #[arg(long, requires = "watch", default_value_t = 0)]
    count: u64,
}

pub(crate) async fn run(client: &Client, stats: Stats) -> Result<(), Failure> {
    let mut service = service!(StatsServiceClient, client);
    let Some(interval) = stats.watch else {
        let figures = client.call(service.get_stats(client.request(GetStatsRequest {}))).await?;
        return show(client.format, &figures, |figures| table(figures.stats.as_ref()));
    };
    let ask = WatchStatsRequest { interval_ns: interval.nanos() };
    let mut stream = client.call(service.watch_stats(client.request(ask))).await?;
    let mut shown = 0;
    while let Some(figures) = client.next(&mut stream).await? {
        show_next(client.format, &figures, |figures| table(figures.stats.as_ref()) + "\n")?;
        shown += 1;
        if shown == stats.count {
            break;
        }
    }
    Ok(())
}

fn table(figures: Option<&Figures>) -> String {
    let Some(figures) = figures else { return String::new() };
    let balance = figures.counters.as_ref().and_then(|counters| counters.balance.as_ref());
    let balance = balance.map_or(String::new(), |balance| {
        format!(
            "received {}  transmitted {}  dropped {}  held {}  unaccounted {}\n",
            balance.received,
            balance.transmitted,
            balance.dropped,
            balance.held,
            balance.unaccounted
        )
    });
    [
        port::table(&figures.ports),
        worker::table(&figures.workers),
        instance::table(&figures.instances),
        balance,
    ]
    .join("\n")
}
