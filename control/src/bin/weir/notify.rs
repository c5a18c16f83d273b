//! `weir notify`.

use clap::Args;
use weir_api::v1::{
    NotifyRequest, StateOperation, StateOperationState, notify_response::Note,
    state_service_client::StateServiceClient,
};
use weir_control::{config::Span, filters::Picks};

use super::{
    client::{Client, service},
    escape,
    failure::Failure,
    output::{Format, show_next, write, write_lines},
};

const EXAMPLES: &str = "\
Examples:
  weir notify sw1 --filter proto=tcp,tcp_flags=syn/syn+ack
  weir notify sw1 --filter in_port=sap1,proto=icmp --time-limit 10s
  weir notify ids-a --filter dport=80 --snap 128 --count 10 -o json

Events are told after their packets were processed. When they are not read as fast as they come, a
gap says how many are missing. It ends with this command, if not before.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Notify {
    /// The end whose packets it is about: an instance, by name or number, or a network function in
    /// a process of its own
    end: String,
    #[arg(long, help = Picks::Packets.help("Which packets; any for all"))]
    filter: String,
    /// Bytes of each packet
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    snap: u32,
    /// End after so many events; 0 for never
    #[arg(long, value_name = "N", default_value_t = 0)]
    count: u64,
    /// How long it lasts
    #[arg(long, alias = "limit", value_name = "SPAN", value_parser = Span::positive)]
    time_limit: Option<Span>,
}

pub(crate) async fn run(client: &Client, notify: Notify) -> Result<(), Failure> {
    let mut service = service!(StateServiceClient, client);
    let Notify { end, filter, snap, count, time_limit } = notify;
    let limit_ns = time_limit.map_or(0, |limit| limit.nanos());
    let ask = NotifyRequest { end, filter, snap, limit_ns, count };
    let mut stream = client.call(service.notify(client.request(ask))).await?;
    loop {
        let Some(told) = client.follow(&mut stream).await? else { return Err(Failure::NotReached) };
        if client.format == Format::Json {
            show_next(client.format, &told, |_| String::new())?;
        }
        match told.note {
            Some(Note::Operation(seen)) if seen.state() == StateOperationState::Running => {
                escape::tell(&format!("operation {}: in force", seen.id));
            }
            Some(Note::Operation(ended)) => return end_of(&ended, count),
            Some(Note::Event(event)) => {
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
}

/// Says why a notification has ended of which `count` events were asked for.
fn end_of(ended: &StateOperation, count: u64) -> Result<(), Failure> {
    let is_done = ended.state() == StateOperationState::Done;
    let why = match is_done {
        true if count > 0 && ended.events >= count => format!("{count} events were told"),
        true => "its time is over".to_owned(),
        false => ended.reason.clone(),
    };
    escape::tell(&format!("operation {}: {why}", ended.id));
    let as_asked = is_done || ended.state() == StateOperationState::Cancelled;
    if as_asked { Ok(()) } else { Err(Failure::NotReached) }
}
