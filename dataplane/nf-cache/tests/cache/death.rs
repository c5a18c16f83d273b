//! A process that dies in the midst of something leaves the others consistent.

use std::process::{Command, Stdio};

use weir_nf_cache::Figure;
use weir_state_transfer::chunk::Scope;

use crate::client::LONG;
use crate::origin::Origin;
use crate::process::{LOCAL, Process};
use crate::running::{Peer, Running};

#[test]
fn a_source_that_is_killed_in_the_midst_of_a_copy_leaves_whole_objects() {
    let origin = Origin::plain();
    let path = |number: usize| format!("/{number}/200000");
    for after in [1, 7, 20] {
        let mut source = Process::start(1, &LOCAL, None);
        let mut client = crate::client::Client::connect(source.address);
        (0..40).for_each(|number| drop(client.get(&origin.url(&path(number)))));
        let (from, destination) = (Peer::of(&source.place), Running::plain(2));
        let copied = from.wait(async {
            let to = weir_nf_api::client::Client::unix(&destination.place.socket(), LONG);
            let query = weir_nf_api::client::Query::new(Default::default());
            let mut got = from.api.get_multi_flow(&query).await.expect("a get");
            let (mut copied, mut is_killed) = (0, false);
            let ended = loop {
                match got.next_encoded().await {
                    Ok(Some(chunks)) => {
                        let put = to.put_multi_flow(tokio_stream::iter(chunks)).await;
                        copied += put.expect("a put").taken as usize;
                        if copied >= after && !std::mem::replace(&mut is_killed, true) {
                            source.kill();
                        }
                    }
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(ended, "who copies is told that it is not all");
            copied
        });
        assert!((after..40).contains(&copied), "{copied}");
        let asked = origin.count();
        let mut client = destination.client();
        let answers: Vec<_> =
            (0..40).map(|number| (number, client.get(&origin.url(&path(number))))).collect();
        for (number, answer) in &answers {
            assert_eq!(
                (answer.body.len(), answer.text().starts_with(&path(*number))),
                (200_000, true)
            );
        }
        let hits = answers.iter().filter(|(_, answer)| answer.how() == "hit").count();
        assert_eq!((hits, origin.count() - asked), (copied, 40 - copied));
    }
}

/// Not a test of its own, and over at once where it is run as one: it is what the process does that
/// the one below starts.
#[test]
fn a_peer_that_puts_again_and_again() {
    let place = |name: &str| std::env::var(name).ok();
    let places = place("WEIR_CACHE_PUT_FROM").zip(place("WEIR_CACHE_PUT_TO"));
    let Some((from, to)) = places else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let api = |path: String| weir_nf_api::client::Client::unix(path.as_ref(), LONG);
        let (from, to) = (api(from), api(to));
        let query = weir_nf_api::client::Query::new(Default::default());
        let chunks = from.get_multi_flow(&query).await.expect("a get").all(1_000).await;
        let bytes: Vec<_> =
            chunks.expect("all").iter().map(|chunk| chunk.encode().expect("bytes")).collect();
        loop {
            to.put_multi_flow(tokio_stream::iter(bytes.clone())).await.expect("a put");
        }
    });
}

#[test]
fn a_peer_that_is_killed_in_the_midst_of_a_put_leaves_whole_objects() {
    let origin = Origin::plain();
    let (source, destination) = (Running::plain(1), Running::plain(2));
    let path = |number: usize| format!("/{number}/300000");
    let mut client = source.client();
    (0..40).for_each(|number| drop(client.get(&origin.url(&path(number)))));
    let mut peer = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "death::a_peer_that_puts_again_and_again"])
        .env("WEIR_CACHE_PUT_FROM", source.place.socket())
        .env("WEIR_CACHE_PUT_TO", destination.place.socket())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let to = destination.peer();
    to.until(&async |api: &weir_nf_api::client::Client| {
        let query = weir_nf_api::client::Query::new(Default::default());
        let got = api.get_multi_flow(&query).await.expect("a get");
        got.all(1_000).await.expect("all of it").len() >= 3
    });
    peer.kill().expect("it runs");
    peer.wait().expect("it ends");
    let chunks = to.get(Scope::MultiFlow, "any");
    let (all, count) = (source.peer().get(Scope::MultiFlow, "any"), origin.count());
    for chunk in &chunks {
        let same = all.iter().find(|other| other.id == chunk.id).expect("it was put");
        assert_eq!(same.body, chunk.body);
    }
    // The rest can be put by somebody else.
    to.put_all(Scope::MultiFlow, &all);
    let mut client = destination.client();
    for number in 0..40 {
        let answer = client.get(&origin.url(&path(number)));
        assert_eq!((answer.how(), answer.body.len()), ("hit", 300_000));
    }
    assert_eq!((origin.count(), to.figure(Figure::Misses)), (count, 0));
}
