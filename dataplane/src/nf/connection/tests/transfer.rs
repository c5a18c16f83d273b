//! A connection that is encoded and decoded goes on as if nothing had happened.

use std::time::Duration;

use weir_state_transfer::chunk::{BodyError, Schema};
use weir_state_transfer::wire::WireError;

use super::*;
use crate::nf::schema::CONNECTION;

const SCHEMA: Schema = CONNECTION.schema;

/// By how much the clock of the other process is ahead.
const AHEAD: Duration = Duration::from_secs(12_345);

/// A table whose connections are in another process behind every packet, on another clock.
struct Wanderer {
    table: Table,
    ahead: bool,
}

impl Wanderer {
    fn see(&mut self, frame: &[u8], now: Nanos) -> Option<Tracked> {
        let here = if self.ahead { now + AHEAD } else { now };
        let tracked = self.table.see(frame, here);
        self.ahead = !self.ahead;
        let there = if self.ahead { now + AHEAD } else { now };
        for connection in self.table.connections.values_mut() {
            let chunk = connection.to_chunk(here);
            assert!(chunk.body.len() <= BODY_MAX);
            if !connection.is_over(here) {
                assert_eq!(Connection::from_chunk(&chunk, here).as_ref(), Ok(&*connection));
            }
            *connection = Connection::from_chunk(&chunk, there).expect("its own chunk");
        }
        tracked
    }
}

/// What became of the packets; panics where the one that wanders differs.
fn compare(name: &str, frames: &[(Nanos, Vec<u8>)], settings: &Settings) -> [usize; 2] {
    let mut stays = Table::new(settings.clone());
    let mut wanders = Wanderer { table: Table::new(settings.clone()), ahead: false };
    let mut seen = [0; 2];
    for (number, (time, frame)) in frames.iter().enumerate() {
        let expected = stays.see(frame, *time);
        assert_eq!(wanders.see(frame, *time), expected, "{name}, packet {number}");
        if let Some(tracked) = expected {
            seen[usize::from(matches!(tracked, Tracked::Invalid(_)))] += 1;
        }
    }
    seen
}

fn short() -> Settings {
    let second = Duration::from_millis(1);
    let mut settings = Settings { pick_up: true, ..Settings::default() };
    settings.timeouts.udp_replied = 20 * second;
    settings.timeouts.icmp = 10 * second;
    settings.timeouts.tcp.established = 30 * second;
    settings
}

#[test]
fn captures_are_seen_alike_when_every_connection_moves_behind_every_packet() {
    for name in CAPTURES {
        let Some(mut frames) = capture(name) else { continue };
        // Every connection moves each time: that of many is the square of their number.
        frames.truncate(2_500);
        for settings in [Settings::default(), short()] {
            let [valid, invalid] = compare(name, &frames, &settings);
            println!("data test ran: connections of {name}: {valid} valid, {invalid} invalid");
            assert!(valid + invalid > 0);
        }
    }
}

#[test]
fn random_conversations_are_seen_alike_when_the_connection_moves_behind_every_packet() {
    let mut rng = weir_seed::rng();
    let mut seen = [0; 2];
    for _ in 0..400 {
        let frames = random_frames(&mut rng);
        for settings in [Settings::default(), short()] {
            let [valid, invalid] = compare("random frames", &frames, &settings);
            seen[0] += valid;
            seen[1] += invalid;
        }
    }
    assert!(seen.iter().all(|count| *count > 5_000), "{seen:?}");
}

/// Segments, echoes and pauses, in any order: most near what a connection would be at.
fn random_frames(rng: &mut fastrand::Rng) -> Vec<(Nanos, Vec<u8>)> {
    let mut now = Nanos(1);
    let mut next = [rng.u32(..), rng.u32(..)];
    (0..40)
        .map(|place| {
            now = now + Duration::from_micros(rng.u64(..8_000));
            if rng.u8(..8) == 0 {
                return (now, echo4(rng.bool(), rng.bool(), rng.u8(..40)));
            }
            let from_a = if place < 3 { place != 1 } else { rng.bool() };
            let (own, peer) = if from_a { (0, 1) } else { (1, 0) };
            let flags = match place {
                0 => "S",
                1 => "SA",
                _ => *rng.choice(&["A", "A", "A", "PA", "FA", "RA", "R", "S", "SA"]).expect("one"),
            };
            let length = if flags == "PA" { rng.usize(1..700) } else { 0 };
            let off =
                |rng: &mut fastrand::Rng| if rng.u8(..6) == 0 { rng.u32(..) >> 14 } else { 0 };
            let seq = next[own].wrapping_add(off(rng));
            let ack = next[peer].wrapping_sub(off(rng));
            let counted = u32::from(flags.contains(['S', 'F']));
            next[own] = next[own].wrapping_add(length as u32 + counted);
            let options: &[u8] = if flags.contains('S') { &[1, 3, 3, 2, 1, 1, 4, 2] } else { &[] };
            let window = rng.u16(..3_000);
            (now, Tcp4 { from_a, seq, ack, flags, length, window, options }.frame())
        })
        .collect()
}

fn connections() -> Vec<Connection> {
    let mut connections = Vec::new();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..40 {
        let mut table = Table::new(short());
        for (now, frame) in random_frames(&mut rng) {
            table.see(&frame, now);
        }
        connections.extend(table.connections.into_values());
    }
    connections
}

#[test]
fn hostile_bytes_are_refused_and_never_a_panic_and_there_is_one_form_only() {
    let mut rng = weir_seed::rng();
    let (mut taken, mut refused) = (0, 0);
    let now = Nanos(u64::MAX / 2);
    for connection in connections() {
        for _ in 0..2_000 {
            let mut bytes = connection.encode();
            for _ in 0..rng.u8(1..4) {
                let place = rng.usize(..bytes.len());
                bytes[place] = rng.u8(..);
            }
            match Connection::decode(SCHEMA, &bytes, now) {
                Ok(mut decoded) => {
                    assert_eq!(decoded.encode(), bytes);
                    // Whatever it says, it can be gone on with.
                    let frame = Tcp4 { seq: rng.u32(..), ack: rng.u32(..), ..TCP }.frame();
                    if decoded.key().protocol() == protocol::TCP {
                        with_packet(&frame, |packet| decoded.track(packet, now, &short()));
                    }
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
    for _ in 0..50_000 {
        let length = rng.usize(..140);
        let bytes: Vec<u8> = (0..length).map(|_| rng.u8(..7)).collect();
        let _any_outcome = Connection::decode(SCHEMA, &bytes, now);
    }
}

#[test]
fn what_is_cut_off_too_long_or_of_another_schema_is_named() {
    let connection = &connections()[0];
    let bytes = connection.encode();
    for length in 0..bytes.len() {
        let error = Connection::decode(SCHEMA, &bytes[..length], Nanos(0));
        assert_eq!(error, Err(WireError::Cut.into()), "{length} bytes");
    }
    let longer = [&bytes[..], &[0, 0]].concat();
    let error = Connection::decode(SCHEMA, &longer, Nanos(0));
    assert_eq!(error, Err(WireError::TooLong { excess: 2 }.into()));
    let found = Schema { revision: SCHEMA.revision + 1, ..SCHEMA };
    let error = Connection::decode(found, &bytes, Nanos(0));
    assert_eq!(error, Err(BodyError::UnknownSchema { found, known: SCHEMA }));
}

#[test]
fn what_is_left_of_the_time_travels_and_not_when_it_ends() {
    let mut table = Table::new(Settings::default());
    table.see(&Tcp4 { flags: "S", ..TCP }.frame(), Nanos(5));
    let connection = table.connections.values().next().expect("one");
    let chunk = connection.to_chunk(Nanos(5) + Duration::from_secs(100));
    let there = Connection::from_chunk(&chunk, Nanos(0)).expect("its own chunk");
    assert_eq!(there.deadline(), Nanos(0) + Duration::from_secs(20));
}
