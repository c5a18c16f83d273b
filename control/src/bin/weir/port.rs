//! `weir port`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::Port,
    v1::{GetPortRequest, ListPortsRequest, port_service_client::PortServiceClient},
};

use super::{
    client::{Client, service},
    failure::Failure,
    output::{columns, pairs, show},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// All ports
    List,
    /// One port with its queues
    Show {
        /// Its name
        name: String,
    },
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let mut service = service!(PortServiceClient, client);
    match verb {
        Verb::List => {
            let listed = service.list_ports(client.request(ListPortsRequest {}));
            show(client.format, &client.call(listed).await?, |listed| table(&listed.ports))
        }
        Verb::Show { name } => {
            let found = service.get_port(client.request(GetPortRequest { name }));
            show(client.format, &client.call(found).await?, |found| {
                found.port.as_ref().map(details).unwrap_or_default()
            })
        }
    }
}

pub(crate) fn table(ports: &[Port]) -> String {
    let header = [
        "PORT",
        "LINK",
        "BACKEND",
        "MODE",
        "DEVICE",
        "ADDRESSES",
        "RX",
        "TX",
        "PUNTED",
        "KERNEL DROPS",
    ];
    let row = |port: &Port| {
        vec![
            port.name.clone(),
            link(port),
            port.backend.clone(),
            port.mode.clone(),
            port.device.clone(),
            port.addresses.join(" "),
            port.rx_packets.to_string(),
            port.tx_packets.to_string(),
            port.punted.to_string(),
            port.kernel_drops.to_string(),
        ]
    };
    columns(&header, ports.iter().map(row).collect())
}

/// Up, down or gone; a port without a device has no link.
fn link(port: &Port) -> String {
    if port.link.is_empty() { "-".to_owned() } else { port.link.clone() }
}

/// The way by which packets leave, and how many have left as live frames.
fn way_out(port: &Port) -> String {
    let Port { transmit, transmit_note, tx_live, .. } = port;
    match (transmit.as_str(), transmit_note.as_str()) {
        ("", _) => "-".to_owned(),
        ("frames", "") => format!("frames: {tx_live} packets"),
        ("frames", note) => format!("frames: {tx_live} packets; {note}"),
        (way, _) => way.to_owned(),
    }
}

fn details(port: &Port) -> String {
    let mut text = pairs(&[
        ("port", format!("{} ({})", port.name, port.id)),
        ("link", link(port)),
        ("backend", format!("{} {}", port.backend, port.device)),
        ("mode", port.mode.clone()),
        ("mac", port.mac.clone()),
        ("addresses", port.addresses.join(" ")),
        ("mtu", port.mtu.to_string()),
        ("owner", format!("worker {}", port.owner_worker)),
        ("received", format!("{} packets, {} bytes", port.rx_packets, port.rx_bytes)),
        ("transmitted", format!("{} packets, {} bytes", port.tx_packets, port.tx_bytes)),
        ("leaves by", way_out(port)),
        ("punted", port.punted.to_string()),
        ("kernel drops", port.kernel_drops.to_string()),
    ]);
    for note in &port.mode_notes {
        text.push_str(&format!("  {note}\n"));
    }
    let rows = port.queues.iter().map(|queue| {
        [
            u64::from(queue.id),
            u64::from(queue.rx_worker),
            u64::from(queue.tx_worker),
            queue.rx_packets,
            queue.tx_packets,
        ]
        .map(|figure| figure.to_string())
        .to_vec()
    });
    text.push('\n');
    text.push_str(&columns(&["QUEUE", "RX WORKER", "TX WORKER", "RX", "TX"], rows.collect()));
    text
}
