//! Connections that have closed: they are kept, and their sources do not have them open.

use super::*;
use crate::nf::connection::tests::{TCP, Tcp4};

/// At which host A may have one connection open.
fn with_one() -> Instance {
    let limits = Limits { connections_max: Some(1), ..Limits::default() };
    Instance::new(config(&["all: accept any"], limits), 1)
}

const SYN: Tcp4 = Tcp4 { flags: "S", seq: 99, ..TCP };
const SYN_ACK: Tcp4 = Tcp4 { from_a: false, flags: "SA", seq: 499, ack: 100, ..TCP };
const ACK: Tcp4 = Tcp4 { seq: 100, ack: 500, ..TCP };
/// Of both ends, and the acknowledgement of the second.
const FINS: [Tcp4; 3] = [
    Tcp4 { flags: "FA", ..ACK },
    Tcp4 { from_a: false, flags: "FA", seq: 500, ack: 101, ..TCP },
    Tcp4 { seq: 101, ack: 501, ..TCP },
];
const RESET_BY_B: Tcp4 = Tcp4 { from_a: false, flags: "R", seq: 500, ..TCP };
const RESET_BY_A: Tcp4 = Tcp4 { flags: "R", ..ACK };
const AGAIN: Tcp4 = Tcp4 { seq: 70_000, ..SYN };
const AGAIN_ANSWERED: Tcp4 = Tcp4 { seq: 9_000, ack: 70_001, ..SYN_ACK };
const FULL: Verdict = Verdict::Drop(Reason::SourceConnections);

impl Instance {
    #[track_caller]
    fn sees(&mut self, segments: &[Tcp4], verdict: Verdict) {
        for segment in segments {
            assert_eq!(self.judge(&segment.frame(), NOW), Some(verdict), "{segment:?}");
        }
    }

    /// Another connection of host A, of UDP.
    #[track_caller]
    fn begins_another(&mut self, port: u16, verdict: Verdict) {
        assert_eq!(self.judge(&udp(HOST_A, HOST_B, (port, 53)), NOW), Some(verdict));
    }

    fn ended(&self) -> u64 {
        self.firewall.totals().ended.value()
    }
}

#[test]
fn a_connection_that_both_ends_have_closed_makes_room_at_once_and_ends_once() {
    let mut instance = with_one();
    instance.sees(&[SYN, SYN_ACK, ACK], Verdict::Accept);
    for fin in FINS {
        instance.begins_another(1, FULL);
        instance.sees(&[fin], Verdict::Accept);
    }
    assert_eq!((instance.open(HOST_A), instance.ended()), (0, 0), "it is kept");
    instance.sees(&FINS, Verdict::Accept);
    assert_eq!(instance.open(HOST_A), 0, "what is late is counted no second time");
    instance.begins_another(1, Verdict::Accept);
    instance.begins_another(2, FULL);
    instance.pass_time(NOW + Duration::from_secs(121));
    assert_eq!((instance.open(HOST_A), instance.ended()), (0, 2));
}

#[test]
fn a_connection_that_was_reset_makes_room_at_once_whoever_has_done_it() {
    for reset in [RESET_BY_A, RESET_BY_B] {
        let mut instance = with_one();
        instance.sees(&[SYN, SYN_ACK, ACK, reset, reset], Verdict::Accept);
        assert_eq!((instance.open(HOST_A), instance.ended()), (0, 0), "{reset:?}");
        instance.pass_time(NOW + Duration::from_secs(121));
        assert_eq!((instance.open(HOST_A), instance.ended()), (0, 1), "{reset:?}");
    }
    // Where nobody has answered, nothing is kept.
    let mut instance = with_one();
    instance.sees(&[SYN, Tcp4 { flags: "RA", seq: 0, ack: 100, ..RESET_BY_B }], Verdict::Accept);
    assert_eq!((instance.open(HOST_A), instance.ended()), (0, 1));
}

/// As for nftables, to which `testbed/tests/firewall` compares it.
#[test]
fn a_reset_at_any_number_ends_the_count_of_a_closing_connection_and_of_no_other() {
    let far = Tcp4 { seq: RESET_BY_A.seq + 1_000_000_000, ..RESET_BY_A };
    let data = Tcp4 { from_a: false, flags: "A", seq: 500, ack: 101, ..TCP };
    for closing in 1..=FINS.len() {
        let mut instance = with_one();
        instance.sees(&[SYN, SYN_ACK, ACK], Verdict::Accept);
        assert!(matches!(instance.judge(&far.frame(), NOW), Some(Verdict::Drop(_))));
        instance.begins_another(1, FULL);
        instance.sees(&FINS[..closing], Verdict::Accept);
        instance.sees(&[far], Verdict::Accept);
        assert_eq!(instance.open(HOST_A), 0, "{closing} segments");
        instance.sees(&[data], Verdict::Accept);
        instance.begins_another(1, Verdict::Accept);
    }
}

#[test]
fn one_that_begins_in_the_place_of_a_closed_one_counts_and_is_refused_at_the_limit() {
    let mut instance = with_one();
    instance.sees(&[SYN, SYN_ACK, ACK], Verdict::Accept);
    instance.sees(&FINS, Verdict::Accept);
    instance.begins_another(1, Verdict::Accept);
    instance.sees(&[AGAIN], FULL);
    assert_eq!(instance.open(HOST_A), 1);
    // By host B it is one of host B.
    instance.sees(&[Tcp4 { from_a: false, seq: 80_000, ..SYN }], Verdict::Accept);
    assert_eq!((instance.open(HOST_A), instance.open(HOST_B)), (1, 1));

    let mut instance = with_one();
    instance.sees(&[SYN, SYN_ACK, ACK], Verdict::Accept);
    instance.sees(&FINS, Verdict::Accept);
    instance.sees(&[AGAIN], Verdict::Accept);
    assert_eq!(instance.open(HOST_A), 1);
    instance.begins_another(1, FULL);
}

/// The SYN may be about a connection that is not known, so it passes; its answer shows that it is.
#[test]
fn one_that_was_reset_and_opens_again_by_the_answer_to_a_syn_counts_and_is_refused_at_the_limit() {
    let opens = [SYN, SYN_ACK, ACK, RESET_BY_B, AGAIN];
    let mut instance = with_one();
    instance.sees(&opens, Verdict::Accept);
    assert_eq!(instance.open(HOST_A), 0);
    instance.begins_another(1, Verdict::Accept);
    instance.sees(&[AGAIN_ANSWERED], FULL);
    assert_eq!(instance.open(HOST_A), 1);
    instance.pass_time(NOW + Duration::from_secs(31));
    assert_eq!((instance.open(HOST_A), instance.ended()), (0, 2), "it stays closed");

    let mut instance = with_one();
    instance.sees(&opens, Verdict::Accept);
    instance.sees(&[AGAIN_ANSWERED, Tcp4 { seq: 70_001, ack: 9_001, ..ACK }], Verdict::Accept);
    assert_eq!(instance.open(HOST_A), 1);
    instance.begins_another(1, FULL);
}

/// What the ends of a connection say: they close it, or one resets it; then they begin anew.
const SCRIPTS: [&[Tcp4]; 3] = [
    &[SYN, SYN_ACK, ACK, FINS[0], FINS[1], FINS[2], AGAIN, AGAIN_ANSWERED, RESET_BY_B],
    &[SYN, SYN_ACK, ACK, RESET_BY_B, AGAIN, AGAIN_ANSWERED, RESET_BY_B],
    &[SYN, SYN_ACK, ACK, RESET_BY_A, AGAIN, AGAIN_ANSWERED, RESET_BY_A],
];

/// A segment of a conversation by some port of host A: most come in their order.
fn segment(rng: &mut fastrand::Rng, places: &mut [(usize, usize); 4]) -> Vec<u8> {
    let port = rng.usize(..places.len());
    let (script, place) = &mut places[port];
    if rng.u8(..8) == 0 || *place == SCRIPTS[*script].len() {
        (*script, *place) = (rng.usize(..SCRIPTS.len()), rng.usize(..6));
    }
    let segment = SCRIPTS[*script][*place];
    *place += 1;
    let mut frame = segment.frame();
    frame[14 + 20 + if segment.from_a { 1 } else { 3 }] = port as u8;
    frame
}

/// What host A and host B have open, by the connections themselves.
fn naively(instances: &[Instance]) -> [i128; 2] {
    let connections = instances.iter().flat_map(|one| one.connections.values().flatten());
    let open: Vec<_> = connections.filter(|one| !one.is_closed()).map(|one| *one.key()).collect();
    let of = |host: Ipv4Addr| open.iter().filter(|key| key.src() == host).count() as i128;
    [HOST_A, HOST_B].map(of)
}

/// The connections move from instance to instance, and what the instances have counted is joined.
#[test]
fn what_is_counted_is_what_is_open_wherever_connections_close_open_again_and_end() {
    let mut rng = weir_seed::rng();
    let (mut closed, mut again, mut refused) = (0, 0, 0);
    for _ in 0..50 {
        let limits = Limits { connections_max: Some(rng.u32(1..4)), ..Limits::default() };
        let mut all = [1, 2].map(|n| Instance::new(config(&["all: accept any"], limits), n));
        let mut now = NOW;
        let mut places = [(0, 0); 4];
        for _ in 0..200 {
            let frame = segment(&mut rng, &mut places);
            let [one, two] = &mut all;
            let (here, there) = if rng.bool() { (one, two) } else { (two, one) };
            let key = with_packet(&frame, |packet| packet.key().both_ways()).expect("a packet");
            hand_over(there, here, &key, now);
            let is_closed = |at: &Instance| Some(at.connections.get(&key)?.as_ref()?.is_closed());
            let before = is_closed(here);
            let verdict = here.judge(&frame, now);
            match (before, is_closed(here)) {
                (Some(false), Some(true)) => closed += 1,
                (Some(true), Some(false)) => again += 1,
                _ => refused += u32::from(before == Some(true) && verdict == Some(FULL)),
            }
            now = now + Duration::from_millis(rng.u64(..100) * rng.u64(..100));
            all.iter_mut().for_each(|one| one.pass_time(now));
            let [one, two] = &mut all;
            hand_over(one, two, &FlowKey::v4(HOST_A, HOST_A, (0, 0), 0, Default::default()), now);
            let counted = [HOST_A, HOST_B].map(|host| two.open(host));
            assert_eq!(counted, naively(&all));
        }
    }
    assert!(closed.min(again) > 100 && refused > 10, "{closed} {again} {refused}");
}
