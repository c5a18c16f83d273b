//! Load-balanced network monitoring (OpenNF, SIGCOMM 2014, figure 8): a prefix goes from one monitor
//! to another, and counters of hosts are copied both ways again and again, so that a scan that is
//! spread over both is seen by both.
//!
//! ```sh
//! cargo run -p weir-client --example move_prefix -- /run/weir/control.sock sw1 sw2 10.0.1.0/24
//! ```

use std::{path::Path, time::Duration};

use weir_client::{Client, Copy, Error, Guarantee, Move, Outcome, Scope};

/// Copies what the new monitor needs of hosts, then moves the flows of the prefix.
///
/// Counters of hosts are copied and not moved: the old monitor goes on with other flows of the same
/// hosts. They are there before the first packet of a flow is.
pub(crate) async fn move_prefix(
    client: &Client,
    prefix: &str,
    (old, new): (&str, &str),
    guarantee: Guarantee,
) -> Result<Outcome, Error> {
    let filter = format!("src={prefix}");
    client.copy(&Copy::new(old, new, &filter)).await?;
    client.move_state(&Move { guarantee, ..Move::new(old, new, &filter) }).await
}

/// Copies the counters of hosts both ways, at an interval, until one copy fails or this is dropped.
pub(crate) async fn keep_in_step(
    client: &Client,
    (one, two): (&str, &str),
    every: Duration,
) -> Result<(), Error> {
    let copy = |from, to| {
        let scopes = vec![Scope::MultiFlow];
        Copy { scopes, every: Some(every), ..Copy::new(from, to, "any") }
    };
    let (there, back) = (copy(one, two), copy(two, one));
    let (there, back) = tokio::try_join!(client.begin_copy(&there), client.begin_copy(&back))?;
    tokio::try_join!(there.outcome(), back.outcome()).map(drop)
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, clippy::allow_attributes, reason = "tests use what is above, and not this")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, old, new, prefix] = arguments.as_slice() else {
        anyhow::bail!("usage: move_prefix SOCKET OLD NEW PREFIX");
    };
    let client = Client::unix(Path::new(socket)).await?;
    // Between instances of the data plane no packet is lost, nor overtakes another.
    let moved = move_prefix(&client, prefix, (old, new), Guarantee::Ordered).await?;
    eprintln!("{} flows of {prefix} in {:?}", moved.flows, moved.took);
    keep_in_step(&client, (old, new), Duration::from_secs(60)).await?;
    Ok(())
}
