//! `weir notify`.

use clap::Args;
use weir_api::v1::{
    NotifyRequest, StateOperationState, notify_response::Note,
    state_service_client::StateServiceClient,
};
use weir_control::config::Span;

use super::{
    client::{Client, service},
    escape,
    failure::Failure,
    output::{Format, show_next, write, write_lines},
};

const EXAMPLES: &str = "\
Examples:
  weir notify sw1 --filter proto=tcp,tcp_flags=syn/syn+ack
  weir notify ids-a --filter dport=80 --snap 128 --count 10 -o json

Events are told after their packets were processed. When they are not read as fast as they come, a
gap says how many are missing. It ends with this command, if not before.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Notify {
    /// The end whose packets it is about: an instance, by name or number, or a network function in
    /// a process of its own
    end: String,
    /// Which packets; any for all
    #[arg(long)]
    filter: String,
    /// Bytes of each packet
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    snap: u32,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// How long it lasts
    #[arg(long, value_name = "SPAN", value_parser = Span::positive)]
    limit: Option<Span>,
}

pub(crate) async fn run(client: &Client, notify: Notify) -> Result<(), Failure> {
    let mut service = service!(StateServiceClient, client);
    let Notify { end, filter, snap, count, limit } = notify;
    let ask = NotifyRequest { end, filter, snap, limit_ns: limit.map_or(0, |limit| limit.nanos()) };
    let mut stream = client.call(service.notify(client.request(ask))).await?;
    let mut left = count;
    while left != Some(0) {
        let Some(told) = client.follow(&mut stream).await? else { return Err(Failure::NotReached) };
        if client.format == Format::Json {
            show_next(client.format, &told, |_| String::new())?;
        }
        match told.note {
            Some(Note::Operation(seen)) if seen.state() == StateOperationState::Running => {
                eprintln!("operation {}: in force", seen.id);
            }
            Some(Note::Operation(seen)) => {
                let is_over = seen.state() == StateOperationState::Done;
                let why = if is_over { "its time is over" } else { &seen.reason };
                escape::tell(&format!("operation {}: {why}", seen.id));
                let as_asked = is_over || seen.state() == StateOperationState::Cancelled;
                return if as_asked { Ok(()) } else { Err(Failure::NotReached) };
            }
            Some(Note::Event(event)) => {
                left = left.map(|left| left - 1);
                if client.format == Format::Table {
                    let bytes: String =
                        event.packet.iter().map(|byte| format!("{byte:02x}")).collect();
                    let line = format!(
                        "{} {} {} bytes, version {} {bytes}",
                        event.sequence, event.flow, event.length, event.version
                    );
                    write_lines(&format!("{}\n", line.trim_end()))?;
                }
            }
            Some(Note::Gap(gap)) if client.format == Format::Table => {
                write(&format!("{} events are missing here\n", gap.lost))?;
            }
            Some(Note::Gap(_)) | None => {}
        }
    }
    Ok(())
}
