//! The caching proxy on two hosts with one address: cached objects and idle client connections.

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};
use weir_nf_api::client::Client;
use weir_state_transfer::chunk::Scope;

use super::Plan;
use super::origin::{BODY, Origin, head};
use super::pair::{Pair, Wanted};
use super::served::Served;
use super::table::Row;
use crate::command::ip;
use crate::namespace::Namespace;
use crate::veth::{End, Veth};
use crate::wait::LIMIT;

/// The address of the proxy, on both hosts, and that of its clients.
const PROXY: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PORT: u16 = 3128;
/// Where the origin is: on the first host, which is also that of the clients.
const ORIGIN: SocketAddr = SocketAddr::new(IpAddr::V4(PROXY), 8000);

/// Measures objects, for each number of them, and connections.
///
/// # Errors
/// As [`super::run`].
pub(super) fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let hosts = [host()?, host()?];
    let [first, second] = &hosts;
    ip(&format!("-n {} address add {CLIENT}/32 dev lo", first.name()))?;
    // Clients are not there: what is sent to them would go nowhere.
    let _way = way_to_nobody(second)?;
    let _origin = Origin::start(first, ORIGIN)?;
    let proxies = [start(first, "1")?, start(second, "2")?];
    let pair = Pair::new(|| proxies.each_ref().map(|proxy| Client::unix(&proxy.socket(), LIMIT)))?;
    let wanted = |scope, filter, flows| Wanted { function: "cache", scope, filter, flows };

    let mut rows = Vec::new();
    let mut client = connect(first)?;
    let mut fetched = 0;
    for objects in &plan.flows {
        (fetched..*objects).try_for_each(|number| fetch(&mut client, number))?;
        fetched = fetched.max(*objects);
        rows.push(pair.measure(&wanted(Scope::MultiFlow, "any", fetched), plan)?);
    }
    drop(client);
    let mut clients = Vec::new();
    for _ in 0..plan.connections {
        let mut client = connect(first)?;
        fetch(&mut client, 0)?;
        clients.push(client);
    }
    let connections = wanted(Scope::PerFlow, "any", clients.len());
    rows.push(pair.measure(&connections, plan)?);
    Ok(rows)
}

/// A host with the address of the proxy.
fn host() -> Result<Namespace> {
    let host = Namespace::new()?;
    ip(&format!("-n {} address add {PROXY}/32 dev lo", host.name()))?;
    Ok(host)
}

/// A device behind which clients could be, for a host where there are none.
fn way_to_nobody(host: &Namespace) -> Result<Veth> {
    let end = |device, mac| End { namespace: host, device, mac, addresses: &[] };
    let ends = (end("clients", "02:00:00:00:0e:01"), end("nobody", "02:00:00:00:0e:02"));
    let cable = Veth::new(ends.0, ends.1, 1)?;
    ip(&format!("-n {} route add {CLIENT}/32 dev clients src {PROXY}", host.name()))?;
    Ok(cable)
}

fn start(host: &Namespace, instance: &str) -> Result<Served> {
    let (listen, clients) = (format!("{PROXY}:{PORT}"), format!("{CLIENT}/32"));
    let arguments = [
        ["--listen", listen.as_str()],
        ["--client", clients.as_str()],
        ["--instance", instance],
        ["--connections", "16384"],
        ["--idle-timeout", "3600"],
    ];
    Served::start(host, "weir-nf-cache", "--southbound", arguments.as_flattened())
}

/// A connection of a client to the proxy on the first host.
fn connect(host: &Namespace) -> Result<BufReader<TcpStream>> {
    let stream = host.enter(|| -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((CLIENT, 0)).into())?;
        socket.connect_timeout(&SocketAddr::from((PROXY, PORT)).into(), LIMIT)?;
        Ok(socket.into())
    })??;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// A client asks for an object, and reads it.
fn fetch(client: &mut BufReader<TcpStream>, number: usize) -> Result<()> {
    let request = format!("GET http://{ORIGIN}/{number} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
    client.get_mut().write_all(request.as_bytes())?;
    let head = head(client)?.context("the proxy has closed the connection")?;
    ensure!(head[0].contains(" 200 "), "object {number}: {head:?}");
    client.read_exact(&mut [0; BODY])?;
    Ok(())
}
