//! Copies and moves of what clients have fetched, as of the Squid of OpenNF (section 8.3).

use std::collections::BTreeMap;

use weir_nf_api::client::RefusalReason;
use weir_nf_cache::{Figure, Statistics};
use weir_state_transfer::chunk::{Chunk, Scope};

use crate::origin::{Origin, Reply, answer};
use crate::running::{Peer, Running};

/// What one client asks for: of so many URLs, in an order with repetitions, some again and again.
fn requests(client: u8, urls: usize) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(u64::from(client));
    let ask = |_| {
        // The smaller a number, the more often.
        let number = rng.usize(..urls).min(rng.usize(..urls));
        format!("/client-{client}/{number}/{}", 1_000 + 7_919 * number % 60_000)
    };
    (0..100).map(ask).collect()
}

/// How many of some requests of a client the proxy answers from its store.
fn hits(proxy: &Running, origin: &Origin, client: u8, requests: &[String]) -> usize {
    let mut connection = proxy.client_from(client);
    let hit = |path: &&String| connection.get(&origin.url(path)).how() == "hit";
    requests.iter().filter(hit).count()
}

fn bytes(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.encode().expect("bytes").len()).sum()
}

/// What the state is, but for versions and times.
fn digest(peer: &Peer, scope: Scope) -> BTreeMap<String, Vec<u8>> {
    let chunks = peer.get(scope, "any").into_iter();
    chunks.map(|chunk| (chunk.id.to_string(), chunk.body)).collect()
}

/// Clients 2 to 9 have asked the first instance for half of what they want; client 2 asks for the
/// rest at the second, once alone, once with a copy of what was its own, once with all.
#[test]
fn a_copy_of_what_a_client_has_fetched_turns_its_misses_into_hits() {
    let origin = Origin::plain();
    let first = Running::plain(1);
    let all: BTreeMap<u8, Vec<String>> =
        (2..10).map(|client| (client, requests(client, 60))).collect();
    for (client, requests) in &all {
        hits(&first, &origin, *client, &requests[..50]);
    }
    let peer = first.peer();
    let mut table = Vec::new();
    for (name, filter) in
        [("nothing", None), ("client 2", Some("src=127.0.0.2")), ("all", Some("any"))]
    {
        let second = Running::plain(2);
        let chunks = filter.map(|filter| peer.get(Scope::MultiFlow, filter)).unwrap_or_default();
        second.peer().put_all(Scope::MultiFlow, &chunks);
        let of_client_2 = hits(&second, &origin, 2, &all[&2][50..]);
        let of_others: usize =
            (3..10).map(|client| hits(&second, &origin, client, &all[&client][50..])).sum();
        let (count, size) = (chunks.len(), bytes(&chunks));
        println!(
            "{name}: {count} objects, {size} bytes; hits of 50 requests of client 2: {of_client_2}, \
             of 350 of others: {of_others}"
        );
        table.push((count, size, of_client_2, of_others));
    }
    let [nothing, one, every] = table[..] else { unreachable!("three rows") };
    assert!(nothing.2 < one.2 && one.2 == every.2, "{table:?}");
    assert!(nothing.3 == one.3 && one.3 < every.3, "{table:?}");
    assert!(one.0 * 4 < every.0 && one.1 * 4 < every.1, "{table:?}");
}

#[test]
fn filters_pick_objects_by_client_and_by_host() {
    let (one, two) = (Origin::plain(), Origin::plain());
    let proxy = Running::plain(1);
    let by_name =
        |origin: &Origin, path: &str| format!("http://localhost:{}{path}", origin.address.port());
    proxy.client_from(2).get(&one.url("/a/10"));
    proxy.client_from(2).get(&by_name(&two, "/b/10"));
    proxy.client_from(3).get(&one.url("/a/10"));
    proxy.client_from(3).get(&one.url("/c/10"));
    let peer = proxy.peer();
    let count = |filter: &str| peer.get(Scope::MultiFlow, filter).len();
    assert_eq!(count("any"), 4);
    assert_eq!(count("src=127.0.0.2"), 2);
    assert_eq!(count("src=127.0.0.2,http.host=localhost"), 1);
    assert_eq!(count("http.host=127.0.0.1"), 3);
    assert_eq!(count("src=127.0.0.0/24,dport=80"), 4);
    assert_eq!(count("src=127.0.0.4"), 0);
    // What one client has fetched is deleted for it alone.
    let ids: Vec<_> =
        peer.get(Scope::MultiFlow, "src=127.0.0.3").into_iter().map(|chunk| chunk.id).collect();
    assert_eq!((peer.del_objects(&ids), peer.del_objects(&ids)), (2, 0));
    assert_eq!(proxy.client_from(2).get(&one.url("/a/10")).how(), "hit");
    assert_eq!(proxy.client_from(2).get(&one.url("/c/10")).how(), "miss");
}

#[test]
fn copies_both_ways_converge_and_count_nothing_twice() {
    // Both have fetched the same URLs, and some of them at different versions.
    let version = std::sync::atomic::AtomicU32::new(0);
    let origin = Origin::start(move |asked| {
        let version = version.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let body = if asked.path().starts_with("/changes") { version } else { 0 };
        Reply::Bytes(answer("Cache-Control: max-age=600\r\n", format!("v{body}").as_bytes()))
    });
    let (one, two) = (Running::plain(1), Running::plain(2));
    for (proxy, client) in [(&one, 2), (&two, 2), (&two, 3)] {
        for number in 0..20 {
            for path in ["changes", "stays"] {
                proxy.client_from(client).get(&origin.url(&format!("/{path}/{number}")));
            }
        }
    }
    let requests =
        |peer: &Peer| [1, 2].map(|instance| peer.statistics().of(instance, Figure::Requests));
    let peers = [one.peer(), two.peer()];
    for _ in 0..3 {
        for (from, to) in [(0, 1), (1, 0)] {
            for scope in [Scope::MultiFlow, Scope::AllFlows] {
                peers[to].put_all(scope, &peers[from].get(scope, "any"));
            }
        }
    }
    for scope in [Scope::MultiFlow, Scope::AllFlows] {
        let digests = [0, 1].map(|number| digest(&peers[number], scope));
        assert!(!digests[0].is_empty());
        assert_eq!(digests[0], digests[1]);
    }
    assert_eq!(peers.each_ref().map(requests), [[40, 80]; 2]);
    let url = origin.url("/changes/7");
    let bodies = [&one, &two].map(|proxy| proxy.client_from(2).get(&url));
    assert_eq!(bodies.each_ref().map(|answer| answer.how()), ["hit", "hit"]);
    assert_eq!(bodies[0].body, bodies[1].body);
}

#[test]
fn statistics_are_given_though_nothing_was_counted_yet() {
    assert_eq!(Running::plain(1).peer().get(Scope::AllFlows, "any").len(), 1);
}

#[test]
fn the_age_of_an_object_travels_and_what_is_stale_is_asked_about() {
    let origin = Origin::start(|asked| match asked.header("if-none-match") {
        Some(_) => Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n".to_vec()),
        None => {
            Reply::Bytes(answer("Cache-Control: max-age=600\r\nAge: 590\r\nETag: \"1\"\r\n", b"x"))
        }
    });
    let (one, two) = (Running::plain(1), Running::plain(2));
    one.client().get(&origin.url("/"));
    let mut chunks = one.peer().get(Scope::MultiFlow, "any");
    assert_eq!(chunks[0].age.as_secs() / 10, 59);
    assert!(chunks[0].time_left.is_some_and(|left| left.as_secs() <= 10));
    two.peer().put_all(Scope::MultiFlow, &chunks);
    let hit = two.client().get(&origin.url("/"));
    assert_eq!(hit.how(), "hit");
    let age: u32 = hit.header("age").expect("an age").parse().expect("a number");
    assert!((590..600).contains(&age));
    // Much later.
    chunks[0].age += std::time::Duration::from_secs(600);
    let three = Running::plain(3);
    three.peer().put_all(Scope::MultiFlow, &chunks);
    assert_eq!(three.client().get(&origin.url("/")).how(), "revalidated");
}

#[test]
fn an_object_larger_than_elsewhere_is_refused_by_name_and_what_came_before_is_there() {
    let origin = Origin::plain();
    let (one, two) =
        (Running::plain(1), Running::start(2, |settings| settings.limits.object = 1_000));
    for size in [10, 5_000, 20] {
        one.client().get(&origin.url(&format!("/a/{size}")));
    }
    let put = two.peer().put(Scope::MultiFlow, &one.peer().get(Scope::MultiFlow, "any"));
    let refusal = put.refusal.expect("one is too large");
    assert_eq!((put.taken, refusal.reason), (1, RefusalReason::Full));
    assert!(refusal.message.contains("1000 bytes of an object are the most"), "{refusal}");
    assert_eq!(two.client().get(&origin.url("/a/10")).how(), "hit");
}

#[test]
fn a_copy_goes_on_while_clients_are_answered() {
    let origin = Origin::plain();
    let (one, two) = (Running::plain(1), Running::plain(2));
    let mut client = one.client();
    for number in 0..40 {
        client.get(&origin.url(&format!("/{number}/300000")));
    }
    let (from, to) = (one.peer(), two.peer());
    let copy = std::thread::spawn(move || {
        to.put_all(Scope::MultiFlow, &from.get(Scope::MultiFlow, "any"));
    });
    let mut answered = 0;
    while !copy.is_finished() {
        assert_eq!(client.get(&origin.url("/7/300000")).how(), "hit");
        answered += 1;
    }
    copy.join().expect("a copy");
    println!("{answered} requests were answered during a copy of 12 MB");
    assert_eq!(two.client().get(&origin.url("/39/300000")).how(), "hit");
    let statistics: Statistics = two.peer().statistics();
    assert_eq!(statistics.value(Figure::Misses), 0);
}
