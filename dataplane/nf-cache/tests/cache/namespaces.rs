//! Idle connections move between two hosts with the same address, and their clients notice nothing.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use weir_nf_api::client::{Deleted, Query};
use weir_nf_cache::Figure;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::southbound::{Action, SubscriptionId};

use crate::client::Client;
use crate::network::{CLIENT, Network};
use crate::origin::{Origin, Reply, answer};
use crate::process::Process;
use crate::running::Peer;

/// Moves all idle connections and what clients have fetched: requests wait meanwhile, so that none
/// is lost with its connection.
fn move_all(network: &Network, (from, to): (&Peer, &Peer), to_second: bool) -> Vec<Chunk> {
    let subscription = SubscriptionId(1);
    let any = Query::new(Default::default()).filter;
    let notes = from.wait(from.api.enable_events(subscription, &any, Action::Buffer, 0));
    let notes = notes.expect("room");
    to.put_all(Scope::MultiFlow, &from.get(Scope::MultiFlow, "any"));
    let chunks = from.get(Scope::PerFlow, "any");
    to.put_all(Scope::PerFlow, &chunks);
    let ids: Vec<FlowId> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
    for id in &ids {
        network.steer(id.key().expect("a flow").src_port(), to_second);
    }
    assert_eq!(
        from.del_connections(&ids),
        Deleted { count: ids.len() as u64, ..Deleted::default() }
    );
    from.wait(from.api.disable_events(subscription)).expect("it is there");
    drop(notes);
    chunks
}

#[test]
#[ignore = "needs root"]
fn idle_connections_move_between_hosts_and_one_in_use_finishes_where_it_is() {
    let network = Network::new();
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let origin = network.at_client(move || {
        Origin::on(TcpListener::bind((CLIENT, 0)).expect("a port"), move |asked| {
            if asked.path() == "/slow" {
                let _gone = gone.lock().expect("nobody panics here").recv();
            }
            let body = if asked.body.is_empty() { vec![b'x'; 300_000] } else { asked.body.clone() };
            Reply::Bytes(answer("Cache-Control: max-age=600\r\n", &body))
        })
    });
    let arguments = ["--listen", "10.9.9.1:3128", "--client", "10.9.0.0/24"];
    let hosts =
        [1, 2].map(|number| Process::start(number as u32, &arguments, Some(network.host(number))));
    let [one, two] = hosts.each_ref().map(|host| Peer::of(&host.place));
    let proxy: SocketAddr = hosts[0].address;
    let connect = move || (0..4).map(|_| Client::from([10, 9, 0, 2], proxy)).collect::<Vec<_>>();
    let mut clients = network.at_client(connect);
    let mut busy = clients.pop().expect("four");
    for client in &mut clients {
        let answer = client.get(&origin.url("/a"));
        assert_eq!((answer.header("via"), answer.body.len()), (Some("1.1 weir-cache-1"), 300_000));
    }
    busy.get(&origin.url("/a"));
    busy.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/slow")).as_bytes());
    one.reaches(Figure::Requests, 5);

    let chunks = move_all(&network, (&one, &two), true);
    assert_eq!((chunks.len(), one.figure(Figure::InUse)), (3, 1));
    for (number, client) in clients.iter_mut().enumerate() {
        let hit = client.get(&origin.url("/a"));
        let seen = (hit.how(), hit.header("via"), hit.body.len());
        assert_eq!(seen, ("hit", Some("1.1 weir-cache-2"), 300_000));
        let body = vec![b'0' + number as u8; 400_000];
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            origin.url("/post"),
            body.len()
        );
        client.write(&[head.as_bytes(), &body].concat());
        assert_eq!(client.answer(false).expect("an answer").body, body);
        // One whose body came behind its head is given only after one that came as a whole.
        assert_eq!(client.get(&origin.url("/a")).how(), "hit");
    }
    go.send(()).expect("it is waited for");
    let slow = busy.answer(false).expect("it finishes where it is");
    assert_eq!(slow.header("via"), Some("1.1 weir-cache-1"));

    // And back.
    assert_eq!(move_all(&network, (&two, &one), false).len(), 3);
    for client in clients.iter_mut().chain([&mut busy]) {
        let hit = client.get(&origin.url("/a"));
        assert_eq!((hit.how(), hit.header("via")), ("hit", Some("1.1 weir-cache-1")));
    }
    let figures = [&one, &two].map(|peer| peer.statistics().of(2, Figure::Misses));
    assert_eq!(figures, [0, 0], "the second has had all that was asked of it");
}
