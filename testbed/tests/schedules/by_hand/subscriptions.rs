//! Subscriptions to the packets of instances, among packets and moves: each that matches is told, what
//! is kept goes on in order, and bytes stay as they are.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Builder, Runtime};
use tokio_stream::Stream as _;
use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as dataplane;
use weir_api::nf::v1::enable_events_response::Note as Told;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionService;
use weir_api::nf::v1::{self as api, Action};
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{Fault, FaultStage};
use weir_nf_api::Description;
use weir_nf_api::server::{Service, pair};
use weir_state_transfer::{InstanceId, Selection, WorkerId};

use super::{
    DESTINATION, IN, OUT, inject, node_of, packet, phase, rest, rest_of, start, start_any, step,
};
use crate::memory_node::{MemoryNode, Plan};

/// Packets that subscriptions may keep: more than an instance releases in one poll round.
const KEPT_MAX: usize = 160;
const ETHERNET: usize = 14;

/// The stream of a subscription.
type Notes = <Service as NetworkFunctionService>::EnableEventsStream;

/// An instance as a network function, and who asks it.
struct Asked {
    service: Service,
    runtime: Runtime,
}

impl Asked {
    fn new(node: &mut MemoryNode, id: InstanceId) -> Self {
        let as_nf = node.node.describe_instance(id).unwrap();
        let description = Description::new(&as_nf.name, "1", &as_nf.kinds);
        let (service, desk) = pair(description, || {});
        node.node.serve_instance(id, as_nf.life, desk).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { service, runtime }
    }

    /// Turns of everybody until a call is answered.
    fn call<T>(
        &self,
        node: &mut MemoryNode,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> T {
        let (_within, mut call) = (self.runtime.enter(), pin!(call));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
                return answer.unwrap().into_inner();
            }
            step(node, 1);
        }
        panic!("no answer")
    }

    fn subscribe(
        &self,
        node: &mut MemoryNode,
        subscription: u64,
        filter: &str,
        action: Action,
    ) -> Subscribed {
        let (filter, action) = (filter.to_owned(), action.into());
        let request = api::EnableEventsRequest { subscription, filter, action, snap: 2_000 };
        let mut notes = self.call(node, self.service.enable_events(Request::new(request)));
        let first = next(&mut notes);
        assert!(matches!(first, Some(Told::Enabled(_))), "{first:?}");
        Subscribed { notes, events: Vec::new() }
    }

    fn end(&self, node: &mut MemoryNode, subscription: u64) {
        let request = api::DisableEventsRequest { subscription };
        self.call(node, self.service.disable_events(Request::new(request)));
    }
}

/// A subscription, and what it was told.
struct Subscribed {
    notes: Notes,
    events: Vec<api::Event>,
}

impl Subscribed {
    fn read(&mut self) {
        while let Some(told) = next(&mut self.notes) {
            let Told::Event(event) = told else { panic!("nothing is missing: {told:?}") };
            self.events.push(event);
        }
    }

    /// The last byte of each packet that it was told of.
    fn payloads(&self) -> Vec<u8> {
        self.events.iter().map(|event| *event.packet.last().unwrap()).collect()
    }
}

/// What a subscriber can be told at once.
fn next(notes: &mut Notes) -> Option<Told> {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(notes).poll_next(&mut context) {
        Poll::Ready(Some(answer)) => answer.unwrap().note,
        Poll::Ready(None) | Poll::Pending => None,
    }
}

fn node() -> (MemoryNode, InstanceId) {
    let mut plan = Plan { port_ring: 1024, frames: 16_384, ..Plan::default() };
    plan.limits.events.buffer_max = KEPT_MAX;
    let (node, destinations) = node_of(&plan, 1, DESTINATION);
    (node, destinations[0])
}

/// Packets dropped, by reason, at rest.
fn drops(node: &mut MemoryNode) -> Vec<(String, u64)> {
    node.settle();
    let counters = node.node.counters();
    let balance = counters.balance.unwrap();
    assert_eq!((balance.unaccounted, balance.held, balance.in_rings), (0, 0, 0), "{balance:?}");
    counters.drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect()
}

#[test]
fn a_panic_while_an_instance_is_asked_ends_neither_its_service_nor_subscriptions() {
    let (mut node, other) = node();
    let asked = Asked::new(&mut node, FIRST);
    let mut told = asked.subscribe(&mut node, 1, "any", Action::Process);
    let _keeps = asked.subscribe(&mut node, 2, "any", Action::Buffer);
    inject(&mut node, 0, 1000, 1);
    step(&mut node, 5);
    let restarts = |node: &MemoryNode| -> u64 {
        node.node.list_workers().iter().map(|worker| worker.restarts).sum()
    };
    for worker in 0..node.node.list_workers().len() as u8 {
        let fault = Fault { stage: FaultStage::Served, packets: 1 };
        node.node.panic_worker(WorkerId(worker), fault).unwrap();
    }
    asked.end(&mut node, 2);
    assert_eq!(restarts(&node), 1);
    rest(&mut node);
    told.read();
    assert_eq!(told.payloads(), [1], "what was kept goes on, and is told of");
    asked.end(&mut node, 1);
    // Nothing is kept any more that would be in the way of a move.
    start(&mut node, other, "0-4095");
}

#[test]
fn a_move_and_two_subscriptions_of_the_same_flows_do_not_hide_each_other() {
    let (mut node, other) = node();
    let [source, destination] = [FIRST, other].map(|id| Asked::new(&mut node, id));
    let mut all = source.subscribe(&mut node, 1, "any", Action::Process);
    let mut some = source.subscribe(&mut node, 2, "proto=udp,dport=53", Action::Process);
    let mut ipv6 = source.subscribe(&mut node, 3, "src=::/0", Action::Process);
    let mut there = destination.subscribe(&mut node, 1, "src=0.0.0.0/0", Action::Process);
    (1..=10).for_each(|payload| inject(&mut node, 0, 1000, payload));
    step(&mut node, 5);
    let id = start(&mut node, other, "0-4095");
    step(&mut node, 20);
    assert_eq!(phase(&node, id), dataplane::MovePhase::Draining, "packets lie on the wire");
    (11..=20).for_each(|payload| inject(&mut node, 1, 1000, payload));
    assert_eq!(rest(&mut node), Vec::from_iter(1..=20));
    assert_eq!(phase(&node, id), dataplane::MovePhase::Done);
    for told in [&mut all, &mut some, &mut ipv6, &mut there] {
        told.read();
    }
    let here = Vec::from_iter(1..=10);
    assert_eq!((all.payloads(), some.payloads()), (here.clone(), here));
    assert_eq!(ipv6.payloads(), [0; 0], "a prefix of length 0 is of one family");
    assert_eq!(there.payloads(), Vec::from_iter(11..=20));
    // One that has ended leaves the other as it is.
    let back = start_any(&mut node, other, FIRST, Selection::Buckets("0-4095".parse().unwrap()));
    node.settle();
    assert_eq!(phase(&node, back), dataplane::MovePhase::Done);
    source.end(&mut node, 1);
    inject(&mut node, 0, 1000, 21);
    assert_eq!(rest(&mut node), [21]);
    some.read();
    assert_eq!(some.payloads().last(), Some(&21));
    assert_eq!(drops(&mut node), Vec::new());
}

/// A packet whose type of service is as given, as it comes in.
fn with_tos(tos: u8, payload: u8) -> Vec<u8> {
    let mut packet = packet((IN, OUT), 1000, payload);
    packet[ETHERNET + 1] = tos;
    // What is added to the header is taken off its checksum (RFC 1624).
    let sum = u16::from_be_bytes([packet[ETHERNET + 10], packet[ETHERNET + 11]]);
    let (less, borrow) = sum.overflowing_sub(tos.into());
    let sum = less - u16::from(borrow);
    packet[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn what_a_subscription_keeps_leaves_in_order_with_the_bytes_that_it_had_while_more_comes() {
    let (mut node, _) = node();
    let asked = Asked::new(&mut node, FIRST);
    let wide = asked.subscribe(&mut node, 7, "any", Action::Buffer);
    let narrow = asked.subscribe(&mut node, 8, "dport=53", Action::Buffer);
    let tos = |payload: u8| payload.wrapping_mul(13);
    let come = |node: &mut MemoryNode, payload: u8| {
        let packet = with_tos(tos(payload), payload);
        assert!(node.wires.get_mut(&(IN, 0)).unwrap().inject(&packet));
    };
    let kept = 150;
    (0..kept).for_each(|payload| come(&mut node, payload));
    step(&mut node, 10);
    assert_eq!(node.node.counters().balance.unwrap().held, u64::from(kept));
    asked.end(&mut node, 7);
    assert_eq!(rest(&mut node), [0; 0], "another subscription keeps them");
    // From here on packets come between any two rounds of its end.
    let request = api::DisableEventsRequest { subscription: 8 };
    let mut call = pin!(asked.service.disable_events(Request::new(request)));
    let mut context = Context::from_waker(Waker::noop());
    let (_within, mut out) = (asked.runtime.enter(), Vec::new());
    let mut ended = false;
    for payload in kept..250 {
        ended = ended || call.as_mut().poll(&mut context).is_ready();
        come(&mut node, payload);
        step(&mut node, 1);
        out.extend(std::iter::from_fn(|| (0..2).find_map(|queue| node.take(OUT, queue))));
    }
    out.extend(rest_of(&mut node));
    assert!(ended);
    let payloads: Vec<u8> = out.iter().map(|packet| *packet.last().unwrap()).collect();
    assert_eq!(payloads, Vec::from_iter(0..250));
    for packet in &out {
        let payload = *packet.last().unwrap();
        let mut came = with_tos(tos(payload), payload);
        // A router changes link addresses, TTL and checksum, and nothing else.
        came[ETHERNET + 8] -= 1;
        came[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&packet[24..26]);
        assert_eq!(packet[12..], came[12..], "{payload}");
    }
    assert_eq!(drops(&mut node), Vec::new());
    drop((wide, narrow));
}

#[test]
fn a_subscription_keeps_so_many_packets_and_every_further_one_is_dropped_and_counted() {
    for come in [KEPT_MAX - 1, KEPT_MAX, KEPT_MAX + 1, KEPT_MAX + 90] {
        let (mut node, _) = node();
        let asked = Asked::new(&mut node, FIRST);
        let _keeps = asked.subscribe(&mut node, 7, "any", Action::Buffer);
        (0..come as u8).for_each(|payload| inject(&mut node, 0, 1000, payload));
        assert_eq!(rest(&mut node), [0; 0], "they are kept");
        asked.end(&mut node, 7);
        assert_eq!(rest(&mut node), Vec::from_iter(0..come.min(KEPT_MAX) as u8));
        let lost = come.saturating_sub(KEPT_MAX) as u64;
        let counted = Vec::from_iter((lost > 0).then(|| ("keep_full".to_owned(), lost)));
        assert_eq!(drops(&mut node), counted, "of {come}");
    }
}

#[test]
fn what_a_subscription_drops_is_counted_and_each_of_equal_packets_has_its_event() {
    let (mut node, _) = node();
    let asked = Asked::new(&mut node, FIRST);
    let mut dropping = asked.subscribe(&mut node, 1, "sport=1000", Action::Drop);
    let mut looking = asked.subscribe(&mut node, 2, "any", Action::Process);
    let alike = with_tos(0xb9, 0xff);
    (0..6).for_each(|_| assert!(node.wires.get_mut(&(IN, 0)).unwrap().inject(&alike)));
    inject(&mut node, 0, 1001, 1);
    assert_eq!(rest(&mut node), [1], "another flow");
    for (told, events) in [(&mut dropping, 6), (&mut looking, 7)] {
        told.read();
        let bytes = told.events.iter().filter(|event| event.packet == alike);
        assert_eq!((bytes.count(), told.events.len()), (6, events));
    }
    let numbers: Vec<_> = dropping.events.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, Vec::from_iter(0..6));
    asked.end(&mut node, 1);
    assert!(node.wires.get_mut(&(IN, 0)).unwrap().inject(&alike));
    assert_eq!(rest(&mut node), [0xff]);
    assert_eq!(drops(&mut node), [("subscriber_drop".to_owned(), 6)]);
}
