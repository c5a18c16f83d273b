//! State moves from one process to another over the API as it does in one.

use std::sync::atomic::Ordering;

use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use weir_nf_api::client::{Deleted, Put, Query, RefusalReason};
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::southbound::{Action, Note, SubscriptionId};
use weir_state_transfer::state_filter::StateFilter;
use weir_state_transfer::{FlowId, FlowKey, ServiceId};

use crate::counting::{Counting, FLOWS_MAX, Packet};
use crate::running::{LONG, Running, Traffic, packet};

fn any() -> Query {
    Query::new(StateFilter::default())
}

/// A function that has counted some packets.
fn counted(instance: u32, packets: usize) -> Counting {
    // Each counts packets of its own.
    let mut rng = fastrand::Rng::with_seed(weir_seed::seed() ^ u64::from(instance));
    let mut function = Counting::new(instance);
    (0..packets).for_each(|_| function.packet(packet(&mut rng), Default::default()));
    function
}

/// A function with so many flows of one packet.
fn wide(flows: usize) -> Counting {
    let mut function = Counting::new(1);
    for number in 0..flows {
        let [_, first, second, third] = (number as u32).to_be_bytes();
        let src = [10, first, second, third].into();
        let key = FlowKey::v4(src, [10, 255, 0, 1].into(), (7, 80), 6, ServiceId(0));
        function.packet(Packet { key, bytes: vec![0; 60] }, Default::default());
    }
    function
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_move_takes_every_flow_along_and_leaves_none() {
    let (mut from, mut to) = (
        Running::plain(counted(1, 5_000), Traffic::None),
        Running::plain(counted(2, 0), Traffic::None),
    );
    let (source, destination) = (from.client(), to.client());
    let mut got = source.get_per_flow(&any()).await.expect("a get");
    let (chunks, stream) = tokio::sync::mpsc::channel(4);
    let mut ids = Vec::new();
    // Who carries chunks does not look into them, but for whose they are.
    let carried = async {
        while let Some(encoded) = got.next_encoded().await.expect("some of it") {
            for bytes in encoded {
                ids.push(Chunk::decode(&bytes).expect("a chunk").id);
                chunks.send(bytes).await.expect("it is put");
            }
        }
        drop(chunks);
    };
    let put = destination.put_per_flow(ReceiverStream::new(stream));
    let (put, ()) = tokio::join!(put, carried);
    assert_eq!(put, Ok(Put { taken: ids.len() as u64, refusal: None }));
    let all = Deleted { count: ids.len() as u64, ..Deleted::default() };
    assert_eq!(source.del_per_flow(&ids).await, Ok(all));
    assert_eq!((from.stop_thread().packets(), to.stop_thread().packets()), (0, 5_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn copies_in_both_directions_converge() {
    let one = Running::plain(counted(1, 700), Traffic::None);
    let two = Running::plain(counted(2, 300), Traffic::None);
    let (one, two) = (one.client(), two.client());
    for _ in 0..2 {
        for (from, to) in [(&one, &two), (&two, &one)] {
            let hosts = from.get_multi_flow(&any()).await.expect("a get").all(1_000).await;
            let hosts = hosts.expect("all").into_iter().map(|chunk| chunk.encode().expect("bytes"));
            let hosts: Vec<_> = hosts.collect();
            let put = to.put_multi_flow(tokio_stream::iter(hosts)).await.expect("a put");
            assert_eq!(put.refusal, None);
        }
    }
    let mut states = Vec::new();
    for client in [&one, &two] {
        let hosts = client.get_multi_flow(&any()).await.expect("a get").all(1_000).await;
        let hosts = hosts.expect("all").into_iter().map(|chunk| (chunk.id, chunk.body));
        states.push(hosts.collect::<Vec<_>>());
    }
    assert_eq!(states[0], states[1]);
    assert!(!states[0].is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_function_says_how_far_it_came() {
    let from = Running::plain(wide(FLOWS_MAX), Traffic::None);
    let chunks = from.client().get_per_flow(&any()).await.expect("a get").all(FLOWS_MAX).await;
    let chunks: Vec<_> = chunks.expect("all").iter().map(|c| c.encode().expect("bytes")).collect();
    assert_eq!(chunks.len(), FLOWS_MAX);
    let mut function = Counting::new(2);
    let key = FlowKey::v4([1, 1, 1, 1].into(), [2, 2, 2, 2].into(), (1, 2), 6, ServiceId(0));
    function.packet(Packet { key, bytes: vec![0; 60] }, Default::default());
    let to = Running::plain(function, Traffic::None);
    let put = to.client().put_per_flow(tokio_stream::iter(chunks.clone())).await.expect("a put");
    assert_eq!(put.taken, FLOWS_MAX as u64 - 1);
    let refusal = put.refusal.expect("one flow too many");
    assert_eq!(refusal.reason, RefusalReason::Full);
    assert!(refusal.message.contains("20000 flows are the most"), "{refusal}");
    // What is there may be put again.
    let put = to.client().put_per_flow(tokio_stream::iter(chunks[..100].to_vec())).await;
    assert_eq!(put, Ok(Put { taken: 100, refusal: None }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_are_deleted_in_several_requests() {
    let running = Running::plain(wide(1_000), Traffic::None);
    let client = running.client();
    let chunks = client.get_per_flow(&any()).await.expect("a get").all(1_000).await.expect("all");
    let mut ids: Vec<FlowId> = chunks.into_iter().map(|chunk| chunk.id).collect();
    ids.push(FlowId::default());
    assert_eq!(client.del_per_flow(&ids).await, Ok(Deleted { count: 1_000, ..Deleted::default() }));
    let left = client.get_per_flow(&any()).await.expect("a get").all(1).await.expect("all");
    assert_eq!(left, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn events_come_in_order_and_what_is_lost_is_told() {
    let running = Running::plain(counted(1, 0), Traffic::Always);
    let client = running.client();
    let (id, filter) = (SubscriptionId(7), "dport=80".parse().expect("a filter"));
    let mut notes = client.enable_events(id, &filter, Action::Process, 1_400).await.expect("room");
    let (mut version, mut lost, mut seen) = (0, 0, 0);
    let told = async {
        while lost == 0 || seen < 2_000 {
            // Slower than they come, until some are lost.
            let before = running.turns.load(Ordering::Relaxed);
            let is_slow = lost == 0 && seen % 64 == 0;
            while is_slow && running.turns.load(Ordering::Relaxed) < before + 50 {
                client.describe().await.expect("described");
            }
            match notes.next().await.expect("told").expect("it goes on") {
                Note::Gap(count) => lost += count,
                Note::Event(event) => {
                    assert!(event.version > version, "{} after {version}", event.version);
                    version = event.version;
                    seen += 1;
                }
            }
        }
    };
    timeout(LONG, told).await.expect("events come");
    client.disable_events(id).await.expect("it is there");
    while notes.next().await.expect("told").is_some() {}
    let kinds = client.describe().await.expect("described").kinds;
    assert_eq!(kinds.iter().map(|kind| kind.scope).collect::<Vec<_>>(), Scope::ALL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn flows_in_use_are_passed_over_and_stay_and_how_many_is_told() {
    const FLOWS: usize = 200;
    let mut function = wide(FLOWS);
    // Of several pieces.
    let chosen = function.flows().step_by(50).collect();
    function.in_use = chosen;
    let mut running = Running::plain(function, Traffic::None);
    let client = running.client();
    let mut got = client.get_per_flow(&any()).await.expect("it begins");
    let mut ids = Vec::new();
    while let Some(chunks) = got.next().await.expect("more of it") {
        ids.extend(chunks.into_iter().map(|chunk| chunk.id));
    }
    assert_eq!((ids.len(), got.in_use()), (FLOWS - 4, 4));
    let mut hosts = client.get_multi_flow(&any()).await.expect("it begins");
    while hosts.next().await.expect("more of it").is_some() {}
    assert_eq!(hosts.in_use(), 0, "it is told once");
    let all: Vec<FlowId> = wide(FLOWS).flows().map(|key| FlowId::flow(&key)).collect();
    let in_use_ids: Vec<FlowId> = all.iter().step_by(50).cloned().collect();
    let again = Deleted { count: 0, in_use: 4, in_use_ids };
    let deleted = Deleted { count: FLOWS as u64 - 4, ..again.clone() };
    assert_eq!(client.del_per_flow(&all).await, Ok(deleted));
    assert_eq!(client.del_per_flow(&all).await, Ok(again));
    assert_eq!(running.stop_thread().packets(), 4);
}
