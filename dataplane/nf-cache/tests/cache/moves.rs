//! Moves that a sidecar makes: objects of a client, and its idle connections.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, mpsc};

use weir_client::Scope;
use weir_nf_api::client::Deleted;
use weir_nf_cache::Figure;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::Scope as Of;

use crate::client::Client;
use crate::network::{CLIENT, Network};
use crate::origin::{Origin, Reply, answer};
use crate::process::{LOCAL, Process};
use crate::running::{Peer, Running};
use crate::sidecar::Controlled;

/// How a proxy answers what a client asks for.
fn how(proxy: &Process, client: u8, origin: &Origin, paths: &[&str]) -> Vec<String> {
    let mut connection = Client::from([127, 0, 0, client], proxy.address);
    let ask = |path: &&str| connection.get(&origin.url(path)).how().to_owned();
    paths.iter().map(ask).collect()
}

#[test]
fn a_move_of_what_a_client_has_fetched_takes_its_hits_along() {
    let origin = Origin::plain();
    let proxies = [1, 2].map(|number| Process::start(number, &LOCAL, None));
    let [one, two] = &proxies;
    let (own, shared, other) = (["/a/10", "/b/300000"], ["/both/10"], ["/c/10"]);
    how(one, 2, &origin, &[&own[..], &shared].concat());
    how(one, 3, &origin, &[&shared[..], &other].concat());
    let sidecar = Controlled::of(&proxies);
    let moved = sidecar.moves("one", "two", "src=127.0.0.2", &[Scope::MultiFlow]);
    assert_eq!((moved.chunks, moved.left_behind, moved.in_use), (3, 0, 0), "{moved:?}");
    let asked = origin.count();
    assert_eq!(how(two, 2, &origin, &[&own[..], &shared].concat()), ["hit"; 3]);
    assert_eq!(how(one, 3, &origin, &[&shared[..], &other].concat()), ["hit"; 2]);
    assert_eq!(origin.count(), asked, "the origin is not asked for what has moved, or stays");
    // What the other client has fetched too is there for both.
    assert_eq!(how(one, 2, &origin, &[&own[..], &shared].concat()), ["miss", "miss", "hit"]);
    assert_eq!(how(two, 3, &origin, &other), ["miss"]);
}

/// A client with three idle connections and one whose request is being answered.
struct Clients {
    idle: Vec<Client>,
    busy: Client,
}

impl Clients {
    fn connect(network: &Network, proxy: SocketAddr) -> Self {
        let connect = move || (0..4).map(|_| Client::from([10, 9, 0, 2], proxy)).collect();
        let mut idle: Vec<Client> = network.at_client(connect);
        let busy = idle.pop().expect("four");
        Self { idle, busy }
    }

    fn ports(&self) -> Vec<u16> {
        let port = |client: &Client| client.0.get_ref().local_addr().expect("it has one").port();
        self.idle.iter().map(port).collect()
    }
}

/// Waits until so many connections are idle: what was sent last is acknowledged a little later.
fn settles(peer: &Peer, connections: usize) {
    peer.until(&async |api| {
        let got = api.get_per_flow(&Peer::query("any")).await.expect("a get");
        got.all(9).await.expect("all of it").len() == connections
    });
}

#[test]
#[ignore = "needs root"]
fn a_sidecar_moves_idle_connections_and_tells_of_the_one_that_finishes_where_it_is() {
    let network = Network::new();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let origin = network.at_client(move || {
        Origin::on(TcpListener::bind((CLIENT, 0)).expect("a port"), move |asked| {
            if asked.path() == "/slow" {
                let _gone = gone.lock().expect("nobody panics here").recv();
            }
            Reply::Bytes(answer("Cache-Control: max-age=600\r\n", asked.path().as_bytes()))
        })
    });
    let arguments = ["--listen", "10.9.9.1:3128", "--client", "10.9.0.0/24"];
    let hosts =
        [1, 2].map(|number| Process::start(number as u32, &arguments, Some(network.host(number))));
    let [one, two] = hosts.each_ref().map(|host| Peer::of(&host.place));
    let mut clients = Clients::connect(&network, hosts[0].address);
    for client in clients.idle.iter_mut().chain([&mut clients.busy]) {
        assert_eq!(client.get(&origin.url("/a")).header("via"), Some("1.1 weir-cache-1"));
    }
    let slow = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/slow"));
    clients.busy.write(slow.as_bytes());
    one.reaches(Figure::Requests, 5);
    settles(&one, 3);

    let sidecar = Controlled::of(&hosts);
    let scopes = [Scope::PerFlow, Scope::MultiFlow];
    let moved = sidecar.moves("one", "two", "src=10.9.0.2", &scopes);
    // Three connections and an object.
    assert_eq!((moved.chunks, moved.in_use, moved.left_behind), (4, 1, 0), "{moved:?}");
    clients.ports().into_iter().for_each(|port| network.steer(port, true));
    for client in &mut clients.idle {
        let hit = client.get(&origin.url("/a"));
        assert_eq!((hit.how(), hit.header("via")), ("hit", Some("1.1 weir-cache-2")));
    }
    go.send(()).expect("it is waited for");
    let slow = clients.busy.answer(false).expect("it finishes where it is");
    assert_eq!((slow.header("via"), slow.text().as_str()), (Some("1.1 weir-cache-1"), "/slow"));
    let missed = clients.busy.get(&origin.url("/a"));
    assert_eq!((missed.how(), missed.header("via")), ("miss", Some("1.1 weir-cache-1")));
    settles(&one, 1);
    settles(&two, 3);
}

#[test]
#[ignore = "needs root"]
fn a_connection_that_is_used_once_it_was_given_stays_and_a_deletion_says_so() {
    let origin = Origin::plain();
    let proxy = Running::plain(1);
    let peer = proxy.peer();
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| drop(client.get(&origin.url("/a/10"))));
    settles(&peer, 3);
    let chunks = peer.get(Of::PerFlow, "any");
    let ids: Vec<FlowId> = chunks.into_iter().map(|chunk| chunk.id).collect();
    clients[0].get(&origin.url("/a/10"));
    let port = clients[0].0.get_ref().local_addr().unwrap().port();
    let used = ids.iter().filter(|id| id.key().is_some_and(|key| key.src_port() == port));
    let used = used.cloned().collect();
    assert_eq!(peer.del_connections(&ids), Deleted { count: 2, in_use: 1, in_use_ids: used });
    assert_eq!(clients[0].get(&origin.url("/a/10")).how(), "hit");
}
