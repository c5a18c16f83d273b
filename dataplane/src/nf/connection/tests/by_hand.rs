//! What becomes of single packets.

use std::time::Duration;

use super::Tracked::{Begins, Established, New};
use super::*;
use crate::packet::samples;

const NOW: Nanos = Nanos(1);
/// Near the end of the sequence numbers, so that every case goes over it.
const A: u32 = u32::MAX - 99;
const B: u32 = u32::MAX - 499;

fn invalid(reason: Invalid) -> Tracked {
    Tracked::Invalid(reason)
}

fn a(seq: u32, ack: u32) -> Tcp4 {
    Tcp4 { seq: A.wrapping_add(seq), ack: B.wrapping_add(ack), ..TCP }
}

fn b(seq: u32, ack: u32) -> Tcp4 {
    Tcp4 { from_a: false, seq: B.wrapping_add(seq), ack: A.wrapping_add(ack), ..TCP }
}

struct Script(Table);

impl Script {
    fn new() -> Self {
        Self(Table::new(Settings::default()))
    }

    /// A connection on which nothing has been said yet.
    fn connected() -> Self {
        let mut script = Self::new();
        script.expect(Tcp4 { flags: "S", ..a(0, 0) }, New);
        script.expect(Tcp4 { flags: "SA", ..b(0, 1) }, Established);
        script.expect(a(1, 1), Established);
        script
    }

    #[track_caller]
    fn expect(&mut self, segment: Tcp4, expected: Tracked) {
        assert_eq!(self.0.see(&segment.frame(), NOW), Some(expected), "{segment:?}");
    }

    fn left(&self) -> Duration {
        let connection = self.0.connections.values().next().expect("a connection");
        connection.deadline().since(NOW)
    }
}

#[test]
fn a_connection_opens_and_closes_and_each_state_has_its_time_out() {
    let mut script = Script::new();
    script.expect(Tcp4 { flags: "S", ..a(0, 0) }, New);
    assert_eq!(script.left(), Duration::from_secs(120));
    script.expect(Tcp4 { flags: "SA", ..b(0, 1) }, Established);
    assert_eq!(script.left(), Duration::from_secs(60));
    script.expect(a(1, 1), Established);
    assert_eq!(script.left(), Duration::from_secs(432_000));
    script.expect(Tcp4 { length: 10, ..a(1, 1) }, Established);
    assert_eq!(script.left(), Duration::from_secs(300), "not acknowledged yet");
    script.expect(b(1, 11), Established);
    assert_eq!(script.left(), Duration::from_secs(432_000));
    script.expect(Tcp4 { flags: "FA", ..a(11, 1) }, Established);
    assert_eq!(script.left(), Duration::from_secs(120));
    script.expect(b(1, 12), Established);
    assert_eq!(script.left(), Duration::from_secs(60));
    script.expect(Tcp4 { flags: "FA", ..b(1, 12) }, Established);
    assert_eq!(script.left(), Duration::from_secs(30));
    script.expect(a(12, 2), Established);
    assert_eq!(script.left(), Duration::from_secs(120));
    script.expect(Tcp4 { flags: "S", ..a(500_000, 0) }, Begins);
    script.expect(Tcp4 { flags: "SA", ..b(900_000, 500_001) }, Established);
}

#[test]
fn nothing_but_a_syn_begins_a_connection() {
    for (flags, reason) in [
        ("A", Invalid::NoConnection),
        ("SA", Invalid::NoConnection),
        ("FA", Invalid::NoConnection),
        ("R", Invalid::NoConnection),
        ("F", Invalid::BadFlags),
        ("SF", Invalid::BadFlags),
        ("SR", Invalid::BadFlags),
        ("", Invalid::BadFlags),
    ] {
        Script::new().expect(Tcp4 { flags, ..a(0, 0) }, invalid(reason));
    }
}

#[test]
fn a_connection_is_taken_up_in_the_middle_only_if_that_is_asked_for() {
    let settings = Settings { pick_up: true, ..Settings::default() };
    let mut script = Script(Table::new(settings));
    script.expect(Tcp4 { length: 5, ..a(0, 0) }, New);
    assert_eq!(script.left(), Duration::from_secs(300), "until somebody answers");
    script.expect(Tcp4 { length: 60_000, window: 5, ..b(0, 5) }, Established);
    script.expect(a(5, 60_000), Established);
    script.expect(Tcp4 { flags: "R", ..b(0, 0) }, invalid(Invalid::BadReset));
}

#[test]
fn data_up_to_the_window_passes_and_beyond_it_does_not() {
    // B lets A send 1,000 bytes from 1 on.
    let mut script = Script::connected();
    script.expect(Tcp4 { length: 100, ..a(1_001, 1) }, Established);
    let mut script = Script::connected();
    script.expect(Tcp4 { length: 0, ..a(1_001, 1) }, Established);
    // One byte too far passes, since some senders do that; as much as a window does not.
    let mut script = Script::connected();
    script.expect(Tcp4 { length: 1, ..a(1_002, 1) }, Established);
    let mut script = Script::connected();
    script.expect(Tcp4 { length: 1_000, ..a(1_002, 1) }, invalid(Invalid::BeyondWindow));
    script.expect(Tcp4 { length: 1, ..a(1 << 30, 1) }, invalid(Invalid::BeyondWindow));
    script.expect(Tcp4 { length: 1, ..a(1, 1) }, Established);
}

#[test]
fn what_is_old_passes_and_changes_nothing() {
    let mut script = Script::connected();
    for n in 0..4 {
        script.expect(Tcp4 { length: 1_000, ..a(1 + 1_000 * n, 1) }, Established);
        script.expect(b(1, 1_001 + 1_000 * n), Established);
    }
    let before = script.0.connections.clone();
    script.expect(Tcp4 { length: 1_000, ..a(1, 1) }, Established);
    assert_eq!(script.0.connections, before);
}

#[test]
fn an_acknowledgement_of_what_was_not_seen_does_not_pass() {
    let mut script = Script::connected();
    script.expect(Tcp4 { length: 10, ..a(1, 1) }, Established);
    script.expect(b(1, 12), invalid(Invalid::AckOfUnsent));
    script.expect(b(1, 11), Established);
}

#[test]
fn windows_are_scaled_only_if_both_syns_say_so() {
    const SCALED: &[u8] = &[1, 3, 3, 4];
    let beyond = invalid(Invalid::BeyondWindow);
    for (asks, answers, expected) in
        [(SCALED, SCALED, Established), (SCALED, &[][..], beyond), (&[][..], SCALED, beyond)]
    {
        let mut script = Script::new();
        script.expect(Tcp4 { flags: "S", options: asks, ..a(0, 0) }, New);
        script.expect(Tcp4 { flags: "SA", options: answers, ..b(0, 1) }, Established);
        script.expect(a(1, 1), Established);
        script.expect(b(1, 1), Established);
        script.expect(Tcp4 { length: 1_000, ..a(10_000, 1) }, expected);
        script.expect(Tcp4 { length: 1_000, ..b(10_000, 1) }, expected);
    }
}

#[test]
fn a_selective_acknowledgement_counts_as_one() {
    const OFFER: &[u8] = &[1, 1, 4, 2];
    // B has seen A's bytes from 1,001 to 2,001 while those from 1 on are missing.
    const BLOCK: &[u8] = &[1, 1, 5, 10, 0, 0, 3, 133, 0, 0, 7, 109];
    assert_eq!(A.wrapping_add(2_001).to_be_bytes(), [0, 0, 7, 109]);
    for (offer, allowed) in [(OFFER, 5_001), (&[][..], 3_001)] {
        let mut script = Script::new();
        let wide = |segment: Tcp4| Tcp4 { window: 3_000, ..segment };
        script.expect(wide(Tcp4 { flags: "S", options: offer, ..a(0, 0) }), New);
        script.expect(wide(Tcp4 { flags: "SA", options: offer, ..b(0, 1) }), Established);
        script.expect(wide(a(1, 1)), Established);
        script.expect(wide(Tcp4 { length: 2_000, ..a(1, 1) }), Established);
        script.expect(wide(Tcp4 { options: BLOCK, ..b(1, 1) }), Established);
        let connection = script.0.connections.values().next().expect("one");
        let Protocol::Tcp(tcp) = &connection.protocol else { panic!("{connection:?}") };
        assert_eq!(tcp.ends.of(Direction::Original).allowed.wrapping_sub(A), allowed);
    }
}

#[test]
fn a_reset_closes_at_the_number_that_is_waited_for_and_nowhere_below() {
    let mut script = Script::connected();
    script.expect(Tcp4 { length: 10, ..b(1, 1) }, Established);
    script.expect(a(1, 11), Established);
    script.expect(Tcp4 { flags: "R", ..b(5, 0) }, invalid(Invalid::BadReset));
    // Within the window the receiver will ask the sender (RFC 5961): the connection stays.
    script.expect(Tcp4 { flags: "R", ..b(300, 0) }, Established);
    assert!(script.left() <= Duration::from_secs(10), "but not for long");
    script.expect(a(1, 11), Established);
    assert_eq!(script.left(), Duration::from_secs(300), "up to the reset not acknowledged");
    script.expect(Tcp4 { flags: "R", ..b(11, 0) }, Established);
    assert_eq!(script.left(), Duration::from_secs(10));
    script.expect(Tcp4 { flags: "S", ..b(9_000, 0) }, invalid(Invalid::UnexpectedSegment));
}

#[test]
fn a_reset_in_answer_to_a_syn_ends_the_connection_at_once() {
    let mut script = Script::new();
    script.expect(Tcp4 { flags: "S", ..a(0, 0) }, New);
    let reset = Tcp4 { seq: 0, flags: "RA", ..b(0, 1) };
    assert_eq!(script.0.see(&reset.frame(), NOW), Some(Established));
    assert!(script.0.connections.values().all(|connection| connection.is_over(NOW)));
    script.expect(Tcp4 { flags: "S", ..a(7, 0) }, New);
}

#[test]
fn both_ends_may_open_at_once() {
    let mut script = Script::new();
    script.expect(Tcp4 { flags: "S", ..a(0, 0) }, New);
    script.expect(Tcp4 { flags: "S", ..b(0, 0) }, Established);
    script.expect(Tcp4 { flags: "SA", ..a(0, 1) }, Established);
    script.expect(Tcp4 { flags: "SA", ..b(0, 1) }, Established);
    script.expect(Tcp4 { length: 5, ..a(1, 1) }, Established);
    script.expect(Tcp4 { length: 5, ..b(1, 6) }, Established);
}

#[test]
fn a_syn_on_a_connection_that_its_sender_has_forgotten_is_followed() {
    let mut script = Script::connected();
    script.expect(Tcp4 { flags: "S", ..a(700_000, 0) }, Established);
    script.expect(Tcp4 { flags: "SA", ..b(800_000, 700_001) }, Established);
    script.expect(Tcp4 { length: 5, ..a(700_001, 800_001) }, Established);
    script.expect(b(800_001, 700_006), Established);
    script.expect(Tcp4 { length: 5, ..b(1 << 30, 700_006) }, invalid(Invalid::BeyondWindow));
}

#[test]
fn a_syn_that_nobody_answers_does_not_keep_itself_alive() {
    let mut table = Table::new(Settings::default());
    let syn = Tcp4 { flags: "S", ..a(0, 0) }.frame();
    for second in [0, 40, 80, 119] {
        assert_eq!(table.see(&syn, NOW + Duration::from_secs(second)), Some(New));
    }
    let deadline = table.connections.values().next().expect("one").deadline();
    assert_eq!(deadline, NOW + Duration::from_secs(120));
}

#[test]
fn udp_lives_longer_once_it_is_answered_and_is_gone_at_its_time_to_the_nanosecond() {
    let mut table = Table::new(Settings::default());
    let (ask, answer) = (
        samples::udp4(HOST_A, HOST_B, (4000, 53), b"?"),
        samples::udp4(HOST_B, HOST_A, (53, 4000), b"!"),
    );
    assert_eq!(table.see(&ask, NOW), Some(New));
    let almost = NOW + Duration::from_secs(30) - Duration::from_nanos(1);
    assert_eq!(table.see(&ask, almost), Some(New));
    assert_eq!(table.see(&answer, almost + Duration::from_secs(29)), Some(Established));
    let later = almost + Duration::from_secs(29 + 119);
    assert_eq!(table.see(&ask, later), Some(Established));
    assert_eq!(table.see(&ask, later + Duration::from_secs(120)), Some(New), "the next one");
}

#[test]
fn an_echo_is_answered_by_its_own_reply_and_every_other_is_judged_anew() {
    let mut table = Table::new(Settings::default());
    assert_eq!(table.see(&echo4(true, false, 1), NOW), Some(invalid(Invalid::UnaskedReply)));
    assert_eq!(table.see(&echo4(true, true, 1), NOW), Some(New));
    assert_eq!(table.see(&echo4(false, false, 2), NOW), Some(invalid(Invalid::UnaskedReply)));
    assert_eq!(table.see(&echo4(true, false, 1), NOW), Some(invalid(Invalid::UnaskedReply)));
    assert_eq!(table.see(&echo4(false, false, 1), NOW), Some(Established));
    assert_eq!(table.see(&echo4(false, true, 1), NOW), Some(Begins), "the other host asks");
    for id in 2..40 {
        assert_eq!(table.see(&echo4(true, true, id), NOW), Some(Begins), "{id}");
    }
    assert_eq!(table.see(&echo4(false, false, 39), NOW), Some(Established));
    assert_eq!(table.see(&echo4(false, false, 3), NOW), Some(invalid(Invalid::UnaskedReply)));
}

#[test]
fn an_icmp_error_belongs_to_the_connection_that_it_quotes() {
    let mut table = Table::new(Settings::default());
    let ask = samples::udp4(HOST_A, HOST_B, (4000, 53), b"?");
    let router = [10, 9, 9, 9].into();
    let error = samples::icmp4(router, HOST_A, 3, &ask[14..]);
    assert_eq!(table.see(&error, NOW), Some(invalid(Invalid::UnrelatedError)));
    assert_eq!(table.see(&ask, NOW), Some(New));
    let before = table.connections.clone();
    assert_eq!(table.see(&error, NOW), Some(Tracked::Related));
    assert_eq!(table.connections, before, "an error keeps nothing alive");
    let echo = echo4(true, true, 7);
    assert_eq!(table.see(&echo, NOW), Some(New));
    let of = |echo: &[u8]| samples::icmp4(router, HOST_A, 11, &echo[14..]);
    assert_eq!(table.see(&of(&echo), NOW), Some(Tracked::Related));
    let other = of(&echo4(true, true, 8));
    assert_eq!(table.see(&other, NOW), Some(invalid(Invalid::UnrelatedError)));
}

#[test]
fn fragments_and_headers_that_are_cut_off_are_invalid() {
    let mut fragment = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
    fragment[20] = 0x20;
    samples::mend_ipv4(&mut fragment);
    let mut wrong_length = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
    wrong_length[39] += 1;
    let mut short_offset = Tcp4 { flags: "S", ..TCP }.frame();
    short_offset[46] = 0x40;
    let mut long_offset = Tcp4 { flags: "S", ..TCP }.frame();
    long_offset[46] = 0x60;
    for (frame, reason) in [
        (fragment, Invalid::Fragment),
        (wrong_length, Invalid::BadHeader),
        (short_offset, Invalid::BadHeader),
        (long_offset, Invalid::BadHeader),
        (samples::icmp4(HOST_A, HOST_B, 13, &[0; 12]), Invalid::UnsupportedIcmp),
    ] {
        assert_eq!(Table::new(Settings::default()).see(&frame, NOW), Some(invalid(reason)));
    }
}

#[test]
fn time_outs_out_of_bounds_are_refused_by_name() {
    let mut timeouts = Timeouts::default();
    assert_eq!(timeouts.check(), Ok(()));
    timeouts.tcp.last_ack = Duration::ZERO;
    assert_eq!(timeouts.check().map_err(|error| error.name), Err("tcp.last_ack"));
    timeouts.tcp.last_ack = TIMEOUT_MAX + Duration::from_secs(1);
    assert!(timeouts.check().is_err());
}
