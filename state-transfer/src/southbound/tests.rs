//! What is done with packets that match subscriptions, and what their subscribers are told.

use super::*;
use crate::flow_key::FlowKey;
use crate::id::{PortId, ServiceId};
use crate::protocol;
use crate::state_filter::PacketFields;
use crate::time::Nanos;

const LIMITS: EventLimits = EventLimits { subscriptions_max: 4, buffer_max: 8, queue_max: 3 };
const NOW: Nanos = Nanos(5);
const PLAIN: Marks = Marks { do_not_buffer: false, do_not_drop: false };

type Packet = Vec<u8>;

fn key(sport: u16) -> FlowKey {
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    FlowKey::v4(src, dst, (sport, 80), protocol::TCP, ServiceId(0))
}

fn fields(key: &FlowKey) -> PacketFields<'_> {
    PacketFields { key, tcp_flags: Some(0x10), in_port: PortId(0) }
}

fn enable(events: &mut Events<Packet>, id: u64, filter: &str, action: Action) {
    let filter = filter.parse().expect("a filter");
    events.enable(SubscriptionId(id), filter, action, 4).expect("room");
}

fn arrive(events: &mut Events<Packet>, sport: u16, marks: Marks, byte: u8) -> Arrival<Packet> {
    events.arrive(&fields(&key(sport)), marks, vec![byte; 6], NOW)
}

/// The first byte of each event's packet; 1000 more for a gap.
fn notes(events: &mut Events<Packet>, id: u64) -> Vec<u64> {
    let notes = std::iter::from_fn(|| events.poll(SubscriptionId(id))).collect::<Vec<_>>();
    notes.into_iter().map(|note| number(events, note)).collect()
}

fn number(events: &mut Events<Packet>, note: Note) -> u64 {
    match note {
        Note::Gap(lost) => 1000 + lost,
        Note::Event(event) => {
            assert_eq!((event.packet.len(), event.length, event.at), (4, 6, NOW));
            let byte = u64::from(event.packet[0]);
            events.give_back(event);
            byte
        }
    }
}

#[test]
fn what_is_processed_raises_an_event_for_every_subscription_that_matches() {
    let mut events = Events::new(LIMITS);
    assert!(events.is_idle());
    enable(&mut events, 1, "dport=80", Action::Process);
    enable(&mut events, 2, "tcp_flags=ack", Action::Process);
    enable(&mut events, 3, "dport=443", Action::Process);
    let Arrival::Process(packet) = arrive(&mut events, 1, PLAIN, 7) else { panic!("processed") };
    assert!(events.poll(SubscriptionId(1)).is_none(), "it has not been processed yet");
    events.processed(&fields(&key(1)), &packet, 9, NOW);
    for id in [1, 2] {
        let Some(Note::Event(event)) = events.poll(SubscriptionId(id)) else { panic!("{id}") };
        assert_eq!((event.cause, event.version, event.key), (Cause::Processed, 9, key(1)));
    }
    assert!(events.poll(SubscriptionId(3)).is_none());
}

#[test]
fn what_is_dropped_is_left_in_its_event_only_and_marked_packets_pass() {
    let mut events = Events::new(LIMITS);
    enable(&mut events, 1, "any", Action::Drop);
    let dropped = Arrival::Drop(vec![7; 6]);
    assert_eq!(arrive(&mut events, 1, PLAIN, 7), dropped);
    let Some(Note::Event(event)) = events.poll(SubscriptionId(1)) else { panic!("an event") };
    assert_eq!(event.cause, Cause::Dropped);
    let marks = Marks { do_not_drop: true, ..PLAIN };
    assert_eq!(arrive(&mut events, 1, marks, 8), Arrival::Process(vec![8; 6]));
    let other = Marks { do_not_buffer: true, ..PLAIN };
    assert_eq!(arrive(&mut events, 1, other, 7), dropped);
}

#[test]
fn buffered_packets_are_released_in_order_and_new_ones_wait_behind_them() {
    let mut events = Events::new(LIMITS);
    enable(&mut events, 1, "sport=1", Action::Buffer);
    for byte in 1..=3 {
        assert_eq!(arrive(&mut events, 1, PLAIN, byte), Arrival::Kept);
    }
    assert_eq!(arrive(&mut events, 2, PLAIN, 9), Arrival::Process(vec![9; 6]), "another flow");
    let marks = Marks { do_not_buffer: true, ..PLAIN };
    assert_eq!(arrive(&mut events, 1, marks, 8), Arrival::Process(vec![8; 6]));
    assert_eq!(events.release(), None);

    events.disable(SubscriptionId(1)).expect("it is there");
    assert_eq!(events.release(), Some(vec![1; 6]));
    // One that comes meanwhile, and one of the other direction.
    assert_eq!(arrive(&mut events, 1, PLAIN, 4), Arrival::Kept);
    let back = key(1).reversed();
    assert_eq!(events.arrive(&fields(&back), PLAIN, vec![5; 6], NOW), Arrival::Kept);
    let left = std::iter::from_fn(|| events.release()).map(|packet| packet[0]);
    assert_eq!(left.collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(arrive(&mut events, 1, PLAIN, 6), Arrival::Process(vec![6; 6]));
    assert!(events.is_idle());
}

#[test]
fn a_packet_that_another_subscription_keeps_stays_and_so_do_those_of_its_flow_behind_it() {
    let mut events = Events::new(LIMITS);
    enable(&mut events, 1, "any", Action::Buffer);
    enable(&mut events, 2, "sport=1,symmetric=false", Action::Buffer);
    arrive(&mut events, 1, PLAIN, 1);
    arrive(&mut events, 2, PLAIN, 2);
    // Its flow waits, though only its other direction matches.
    let back = key(1).reversed();
    events.arrive(&fields(&back), PLAIN, vec![3; 6], NOW);
    events.disable(SubscriptionId(1)).expect("it is there");
    assert_eq!(events.release(), Some(vec![2; 6]));
    assert_eq!((events.release(), events.kept()), (None, 2));
    events.disable(SubscriptionId(2)).expect("it is there");
    assert_eq!((events.release(), events.release()), (Some(vec![1; 6]), Some(vec![3; 6])));
}

#[test]
fn everything_is_bounded_and_says_so() {
    let mut events = Events::new(LIMITS);
    for id in 1..=4 {
        enable(&mut events, id, "sport=1", Action::Process);
    }
    let any = StateFilter::default();
    let again = events.enable(SubscriptionId(1), any.clone(), Action::Drop, 0);
    assert_eq!(again, Err(EventsError::Exists(SubscriptionId(1))));
    let more = events.enable(SubscriptionId(9), any.clone(), Action::Drop, 0);
    assert_eq!(more, Err(EventsError::TooMany(4)));
    assert_eq!(events.disable(SubscriptionId(9)), Err(EventsError::Unknown(SubscriptionId(9))));

    for byte in 1..=5 {
        events.processed(&fields(&key(1)), &[byte; 6], 0, NOW);
    }
    assert_eq!(notes(&mut events, 1), [1, 2, 3, 1002]);
    events.processed(&fields(&key(1)), &[6; 6], 0, NOW);
    assert_eq!(notes(&mut events, 1), [6], "there is room again");
    events.processed(&fields(&key(1)), &[7; 6], 0, NOW);
    assert_eq!(notes(&mut events, 2), [1, 2, 3, 1004], "another subscriber has its own room");

    events.disable(SubscriptionId(4)).expect("it is there");
    events.enable(SubscriptionId(5), any, Action::Buffer, 0).expect("room");
    for byte in 0..8 {
        assert_eq!(arrive(&mut events, 2, PLAIN, byte), Arrival::Kept);
    }
    assert_eq!(arrive(&mut events, 2, PLAIN, 8), Arrival::Full(vec![8; 6]));
}

#[test]
fn a_gap_stands_where_the_events_are_missing() {
    let mut events = Events::new(LIMITS);
    enable(&mut events, 1, "any", Action::Process);
    let raise = |events: &mut Events<Packet>, byte| {
        events.processed(&fields(&key(1)), &[byte; 6], 0, NOW);
    };
    (1..=4).for_each(|byte| raise(&mut events, byte));
    let Some(first) = events.poll(SubscriptionId(1)) else { panic!("three wait") };
    assert_eq!(number(&mut events, first), 1);
    raise(&mut events, 5);
    assert_eq!(notes(&mut events, 1), [2, 3, 1001, 5]);
}

#[test]
fn what_stays_is_looked_at_once_until_a_subscription_ends() {
    let limits = EventLimits { buffer_max: 1_000, ..LIMITS };
    let mut events = Events::new(limits);
    enable(&mut events, 1, "sport=1", Action::Buffer);
    enable(&mut events, 2, "sport=2", Action::Buffer);
    for n in 0..900 {
        let sport = if n < 600 { 1 } else { 2 };
        assert_eq!(arrive(&mut events, sport, PLAIN, n as u8), Arrival::Kept);
    }
    events.disable(SubscriptionId(2)).expect("it is there");
    // Each call looks at 256: the first that goes is behind 600.
    assert_eq!([events.release(), events.release()], [None, None]);
    assert!(events.may_release());
    let released: Vec<_> = std::iter::from_fn(|| events.release()).collect();
    assert_eq!((released.len(), events.kept(), events.may_release()), (300, 600, false));
    assert_eq!(arrive(&mut events, 1, PLAIN, 0), Arrival::Kept);
    assert!(events.may_release(), "the new one was not looked at");
    assert_eq!((events.release(), events.may_release()), (None, false));
}

#[test]
fn what_a_subscription_leaves_is_freed_piece_by_piece() {
    let limits = EventLimits { queue_max: 1_000, ..LIMITS };
    let mut events = Events::new(limits);
    for id in [1, 2] {
        enable(&mut events, id, "any", Action::Process);
    }
    (0..200).for_each(|n| events.processed(&fields(&key(1)), &[n; 6], 0, NOW));
    assert!(!events.tidy(), "both are there");
    events.disable(SubscriptionId(1)).expect("it is there");
    // 200 buffers, 64 at a time.
    assert_eq!([(); 5].map(|()| events.tidy()), [true, true, true, false, false]);
    assert_eq!(notes(&mut events, 2).len(), 200, "the other has all of its own");
    events.disable_all();
    assert!(events.is_idle());
    assert_eq!([(); 4].map(|()| events.tidy()), [true, true, true, false]);
}

/// Whatever subscriptions come and go: no packet is lost, and none overtakes one of its flow.
#[test]
fn random_subscriptions_lose_and_reorder_nothing_that_is_kept() {
    let mut rng = weir_seed::rng();
    let limits = EventLimits { buffer_max: 64, ..LIMITS };
    for _ in 0..300 {
        let mut events: Events<Packet> = Events::new(limits);
        let (mut sent, mut seen) = (vec![0u8; 4], vec![0u8; 4]);
        let mut full = 0;
        let note = |packet: &Packet, seen: &mut Vec<u8>| {
            let flow = usize::from(packet[0]);
            assert!(packet[1] > seen[flow], "{packet:?} after {seen:?}");
            seen[flow] = packet[1];
        };
        for _ in 0..200 {
            let (id, flow) = (SubscriptionId(rng.u64(..3)), rng.u8(..4));
            match rng.u8(..10) {
                0 => {
                    let text = format!("sport={}-{}", flow, flow.max(rng.u8(..4)));
                    let filter = text.parse().expect("a filter");
                    let action = [Action::Process, Action::Buffer][rng.usize(..2)];
                    drop(events.enable(id, filter, action, 0));
                }
                1 => drop(events.disable(id)),
                2..5 => {
                    if let Some(packet) = events.release() {
                        note(&packet, &mut seen);
                    }
                }
                _ => {
                    sent[usize::from(flow)] += 1;
                    let packet = vec![flow, sent[usize::from(flow)]];
                    let mut key = key(flow.into());
                    if rng.bool() {
                        key = key.reversed();
                    }
                    match events.arrive(&fields(&key), PLAIN, packet, NOW) {
                        Arrival::Process(packet) => note(&packet, &mut seen),
                        Arrival::Kept => {}
                        Arrival::Full(_) => full += 1,
                        Arrival::Drop(packet) => panic!("{packet:?}"),
                    }
                }
            }
        }
        (0..3).for_each(|id| drop(events.disable(SubscriptionId(id))));
        while let Some(packet) = events.release() {
            note(&packet, &mut seen);
        }
        assert!(full > 0 || seen == sent, "{seen:?} of {sent:?}");
        assert!(events.is_idle());
    }
}
