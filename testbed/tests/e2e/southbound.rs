//! The state of instances over their southbound API: they keep its rules under traffic, a copy leaves
//! its source as it is, and a subscription that keeps packets and a move exclude each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tonic::Code;
use weir_api::dataplane::v1::MovePhase;
use weir_nf_api::client::{Client, Query, connect};
use weir_nf_api::conformance::{Line, Options, Outcome, run};
use weir_state_transfer::StateFilter;
use weir_state_transfer::southbound::{Action, SubscriptionId};
use weir_testbed::dataplane::Selection;
use weir_testbed::flow::{Flow, between_all_pairs};
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::packet_socket::{PacketSocket, arriving};
use weir_testbed::topology::Topology;
use weir_testbed::udp::{FRAME_MIN, Mark, TTL, write};
use weir_testbed::wait::{LIMIT, until};

use super::functions::{assert_each_flow_is_logged_once, logging};
use super::{Setup, let_flow};

/// A firewall that lets all begin and counts what each source has, and the logs of connections and of
/// hosts: of a host that begins two of them know something.
const FUNCTIONS: &str = "[[nf]]\nkind = \"firewall\"\nrules = [\"all: accept any\"]\n\
                         connections_max = 100000\n[[nf]]\nkind = \"ids\"\n\
                         [[nf]]\nkind = \"assets\"\n";
/// The first two, with the hosts behind the first port seen with an address of the second.
const FUNCTIONS_AND_NAT: &str = "[[nf]]\nkind = \"firewall\"\nrules = [\"all: accept any\"]\n\
                                 connections_max = 100000\n[[nf]]\nkind = \"ids\"\n\
                                 [[nf]]\nkind = \"nat\"\n[[nf.source]]\n\
                                 from = \"10.0.1.0/24\"\npool = [\"10.0.2.1\"]\n";
/// How long a call may take.
const CALL: Duration = Duration::from_secs(20);

/// Where functions are asked.
pub(super) fn asking() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// An instance of the node, as a network function; to be made where it is asked.
fn instance(setup: &Setup, id: u32) -> Client {
    let channel = connect(&setup.node.socket(), CALL, Arc::default());
    Client::instance(channel, id, None, CALL)
}

/// Copies what one instance knows of flows to another; how many chunks.
async fn copy(from: &Client, to: &Client) -> usize {
    let query = Query::new(StateFilter::default());
    let chunks = from.get_per_flow(&query).await.unwrap().all(100_000).await.unwrap();
    let encoded: Vec<_> = chunks.iter().map(|chunk| chunk.encode().unwrap()).collect();
    let put = to.put_per_flow(tokio_stream::iter(encoded)).await.unwrap();
    assert_eq!((put.taken, put.refusal), (chunks.len() as u64, None));
    chunks.len()
}

/// Packets of some flows, sent whether they arrive or not, until this is dropped.
pub(super) struct Steady {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Steady {
    pub(super) fn start(topology: &Topology) -> Self {
        let sockets: Vec<PacketSocket> =
            topology.hosts.iter().map(|host| host.socket(&arriving()).unwrap()).collect();
        let flows = between_all_pairs(sockets.len(), 120, 1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || send(&sockets, &flows, &stopped));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn send(sockets: &[PacketSocket], flows: &[Flow], stop: &AtomicBool) {
    // Nobody sends: it is a pause that paces.
    let (_never, pause) = mpsc::channel::<()>();
    let mut frame = [0; FRAME_MIN];
    for sequence in 0.. {
        for (number, flow) in flows.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mark = Mark { flow: number as u64, sequence, sent_ns: 0 };
            let mut flow = flow.clone();
            if number % 10 == 0 {
                // One that begins.
                flow.source.set_port(40_000 + (sequence % 20_000) as u16);
            }
            write(&flow, &mark, TTL, &mut frame);
            sockets[flow.from].send([&frame[..]].into_iter()).unwrap();
            if number % 4 == 0 {
                let _paced = pause.recv_timeout(Duration::from_millis(1));
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn an_instance_keeps_every_rule_of_its_southbound_api_under_traffic() {
    assert_every_rule_is_kept(FUNCTIONS, false);
}

#[test]
#[ignore = "needs root"]
fn an_instance_whose_flows_have_two_names_keeps_every_rule_too() {
    assert_every_rule_is_kept(FUNCTIONS_AND_NAT, true);
}

/// All rules, those that disturb too.
fn all_rules() -> Options {
    Options { rules: String::new(), patience: Duration::from_secs(10), disturb: true }
}

fn assert_every_rule_is_kept(tables: &str, other_names: bool) {
    let setup = Setup::new(&Shape { tables: tables.to_owned(), ..Shape::default() });
    let first = setup.dataplane.instances().unwrap()[0].id;
    let steady = Steady::start(&setup.topology);
    let lines = asking().block_on(async {
        let client = instance(&setup, first);
        assert_eq!(client.describe().await.unwrap().other_names, other_names);
        run(&client, &all_rules(), |line| println!("{line}")).await.unwrap()
    });
    drop(steady);
    let others: Vec<_> = lines.iter().filter(|line| line.outcome != Outcome::Pass).collect();
    assert!(others.is_empty() && lines.len() >= 60, "{} rules, not kept: {others:?}", lines.len());
    setup.dataplane.balance_at_rest().unwrap();
}

/// Rules that a share is in the way of are skipped with its number, and none is broken.
pub(super) fn assert_a_share_breaks_no_rule(setup: &Setup) {
    let first = setup.dataplane.instances().unwrap()[0].id;
    let patience = Duration::from_millis(100);
    let options = Options { rules: "events-".to_owned(), patience, disturb: true };
    let judged = async { run(&instance(setup, first), &options, |line| println!("{line}")).await };
    let lines = asking().block_on(judged).unwrap();
    let waits =
        |line: &&Line| matches!(&line.outcome, Outcome::Skip(why) if why.starts_with("share "));
    let waiting: Vec<_> = lines.iter().filter(waits).map(|line| &*line.rule).collect();
    // The third rule that keeps packets first waits for some, and none come.
    assert_eq!(waiting, ["events-actions", "events-cancel"]);
    assert!(!lines.iter().any(|line| matches!(line.outcome, Outcome::Fail(_))), "{lines:?}");
}

#[test]
#[ignore = "needs root"]
fn copies_to_and_fro_change_nothing_at_either_end_whatever_is_moved_in_between() {
    let logs = Folder::new().unwrap();
    let setup = logging(&logs);
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let traffic = setup.traffic(400, 10_000);
    let_flow(&traffic, 5_000);
    let selections = [
        Selection::Buckets("0-2047".to_owned()),
        Selection::Filter("proto=udp,src=10.0.0.0/15".to_owned()),
    ];
    let mut copied = 0;
    for selection in selections.iter().cycle().take(4) {
        for (from, to) in [(first, second), (second, first)] {
            copied += asking().block_on(async {
                let [one, other] = [first, second].map(|id| instance(&setup, id));
                copy(&one, &other).await + copy(&other, &one).await
            });
            let_flow(&traffic, 500);
            let started = setup.dataplane.start_move(from, to, selection.clone()).unwrap();
            let ended = setup.dataplane.finish_move(started.id).unwrap();
            assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
            let_flow(&traffic, 500);
        }
    }
    let report = traffic.stop().unwrap();
    println!("{copied} chunks copied");
    assert!(copied > 400);
    setup.assert_exact(&report);
    setup.node.stop().unwrap();
    assert_each_flow_is_logged_once(&logs, &report);
}

#[test]
#[ignore = "needs root"]
fn packets_that_a_subscription_keeps_are_forwarded_in_order_and_are_in_the_way_of_a_move() {
    let tables = "[events]\nbuffer_max = 4096\n".to_owned();
    let setup = Setup::new(&Shape { tables, ..Shape::default() });
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let traffic = setup.traffic(200, 4_000);
    let_flow(&traffic, 2_000);
    let asking = asking();
    let client = asking.block_on(async { instance(&setup, first) });
    let filter: StateFilter = "proto=udp,src=10.0.1.0/24".parse().unwrap();
    let kept = client.enable_events(SubscriptionId(7), &filter, Action::Buffer, 0);
    let kept = asking.block_on(kept).unwrap();
    let held = |setup: &Setup| {
        let held = setup.dataplane.counters().unwrap().balance.unwrap().held;
        (held > 50).then_some(held)
    };
    let kept_packets = until("packets to be kept", LIMIT, || held(&setup)).unwrap();
    println!("{kept_packets} packets kept");
    let buckets = Selection::Buckets("0-2047".to_owned());
    let refused = setup.dataplane.start_move(first, second, buckets.clone()).unwrap_err();
    asking.block_on(client.disable_events(SubscriptionId(7))).unwrap();
    drop(kept);
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("subscription 7"), "{refused:?}");
    let_flow(&traffic, 1_000);
    let started = setup.dataplane.start_move(first, second, buckets);
    let ended = setup.dataplane.finish_move(started.unwrap().id).unwrap();
    assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
    let report = traffic.stop().unwrap();
    setup.assert_exact(&report);
}

#[test]
#[ignore = "needs root"]
fn an_instance_that_is_not_there_is_not_found_and_one_that_goes_takes_no_more_calls() {
    let setup = Setup::new(&Shape { tables: FUNCTIONS.to_owned(), ..Shape::default() });
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let asking = asking();
    let [unknown, client] = asking.block_on(async { [77, second].map(|id| instance(&setup, id)) });
    let refused = asking.block_on(unknown.describe()).unwrap_err();
    assert!(refused.to_string().contains("there is no instance 77"), "{refused}");
    let judged = asking.block_on(run(&unknown, &all_rules(), |line| panic!("{line}")));
    assert_eq!(judged.unwrap_err(), refused);
    let described = asking.block_on(client.describe()).unwrap();
    assert_eq!((&*described.name, described.kinds.len()), ("second", 10));
    setup.dataplane.remove_instance(second).unwrap();
    let gone = asking.block_on(client.describe()).unwrap_err();
    assert!(gone.to_string().contains("there is no instance"), "{gone}");
}
