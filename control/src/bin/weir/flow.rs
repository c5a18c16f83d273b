//! `weir flow`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::Flow,
    v1::{ListFlowsRequest, flow_service_client::FlowServiceClient},
};
use weir_control::filters::Picks;

use super::{
    client::{Client, service},
    failure::Failure,
    instance::Names,
    output::Listing,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Flows as they come, without waiting for all
    List {
        #[arg(
            long,
            default_value = "",
            help = Picks::Flows.help("Only flows that match, as in src=10.0.0.0/8,dport=53")
        )]
        filter: String,
        /// Only this instance's, by name or number
        #[arg(long, default_value = "")]
        instance: String,
        /// At most so many; 0 for all
        #[arg(long, default_value_t = 0)]
        limit: u64,
    },
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let Verb::List { filter, instance, limit } = verb;
    let mut service = service!(FlowServiceClient, client);
    let names = Names::read(client).await;
    let ask = ListFlowsRequest { filter, instance, limit };
    let mut stream = client.call(service.list_flows(client.request(ask))).await?;
    let header = ["SOURCE", "DESTINATION", "PROTO", "INSTANCE", "BUCKET", "PACKETS", "BYTES"];
    let mut listing = Listing::begin(client.format, "flows", &row(header.map(str::to_owned)))?;
    while let Some(part) = client.next(&mut stream).await? {
        listing.part(&part, |part| part.flows.iter().map(|flow| line(flow, &names)).collect())?;
    }
    listing.end()
}

fn line(flow: &Flow, names: &Names) -> String {
    row([
        end(&flow.src, flow.src_port),
        end(&flow.dst, flow.dst_port),
        protocol(flow.protocol),
        names.show(flow.instance),
        flow.bucket.to_string(),
        flow.packets.to_string(),
        flow.bytes.to_string(),
    ])
}

fn row(cells: [String; 7]) -> String {
    let [source, destination, protocol, instance, bucket, packets, bytes] = cells;
    format!(
        "{source:<24} {destination:<24} {protocol:<8} {instance:>8} {bucket:>6} {packets:>12} \
         {bytes:>14}\n"
    )
}

fn end(address: &str, port: u32) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn protocol(number: u32) -> String {
    let name = match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        _ => return number.to_string(),
    };
    name.to_owned()
}
