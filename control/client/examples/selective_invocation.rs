//! Selective invocation of advanced processing (OpenNF, SIGCOMM 2014, section 6): all traffic passes
//! a light function; flows that look suspicious are moved to one that does the heavier work.
//!
//! ```sh
//! cargo run -p weir-client --example selective_invocation -- \
//!     /run/weir/control.sock sw1 sw2 proto=tcp,dport=80,tcp_flags=syn
//! ```

use std::{collections::BTreeSet, path::Path};

use weir_client::{Client, Error, Events, Guarantee, Move, Notify, Told};

/// Moves the flow of each packet that is told of, as long as `goes_on` says so.
///
/// A flow is moved once, however many of its packets are told of, in either direction. What a gap has
/// hidden is found when another packet of its flow comes.
///
/// Where Weir leads the packets of functions in processes of their own, each flow that is moved takes
/// a policy route for each leg of its family, of which there are 64 with all others: a move that finds
/// no room is undone, and ends this.
pub(crate) async fn invoke(
    client: &Client,
    events: &mut Events,
    (light, heavy): (&str, &str),
    guarantee: Guarantee,
    mut goes_on: impl FnMut(&str) -> bool,
) -> Result<(), Error> {
    let mut moved = BTreeSet::new();
    while let Some(told) = events.next().await? {
        let Told::Event(event) = told else { continue };
        if moved.contains(&both_ways(&event.flow)) {
            continue;
        }
        let flow = Move { guarantee, ..Move::new(light, heavy, &event.flow) };
        client.move_state(&flow).await?;
        let enough = !goes_on(&event.flow);
        moved.insert(both_ways(&event.flow));
        if enough {
            break;
        }
        if moved.len() >= REMEMBERED_MAX {
            moved.pop_first();
        }
    }
    Ok(())
}

/// Flows that are known to have been moved; one that is forgotten is moved again, which does nothing
/// between instances.
const REMEMBERED_MAX: usize = 4_096;

/// One name for both directions of a flow: its two ends in any order, its protocol, and its service.
fn both_ways(flow: &str) -> BTreeSet<String> {
    let value =
        |name: &str| flow.split(',').find_map(|field| field.strip_prefix(name)).unwrap_or("");
    let end = |host, port| format!("{} {}", value(host), value(port));
    [
        end("src=", "sport="),
        end("dst=", "dport="),
        format!("{} {}", value("proto="), value("service=")),
    ]
    .into()
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, clippy::allow_attributes, reason = "tests use what is above, and not this")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, light, heavy, suspicious] = arguments.as_slice() else {
        anyhow::bail!("usage: selective_invocation SOCKET LIGHT HEAVY FILTER");
    };
    let client = Client::unix(Path::new(socket)).await?;
    let mut events = client.notify(&Notify::new(light, suspicious)).await?;
    let tell = |flow: &str| {
        eprintln!("{flow} is looked at more closely");
        true
    };
    invoke(&client, &mut events, (light, heavy), Guarantee::Ordered, tell).await?;
    Ok(())
}
