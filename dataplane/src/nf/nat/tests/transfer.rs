//! A translation that is encoded and decoded goes on as if nothing had happened, and hostile bytes
//! are refused.

use std::time::Duration;

use weir_state_transfer::Chunk;
use weir_state_transfer::chunk::{BodyError, Schema};
use weir_state_transfer::southbound::PutError;
use weir_state_transfer::wire::WireError;

use super::*;
use crate::nf::connection::TIMEOUT_MAX;
use crate::nf::connection::tests::{CAPTURES, capture};
use crate::nf::schema::{NAT_TOTALS, NAT_TRANSLATION, NAT_USAGE};

/// By how much the clock of the other process is ahead.
const AHEAD: Duration = Duration::from_secs(12_345);

pub(super) fn translations() -> Vec<Translation> {
    let mut rng = Rng::with_seed(3);
    let hash = random_hash(&mut rng);
    let frames = [
        udp((INSIDE, 4000), (OUTSIDE, 53)),
        syn((INSIDE, 4000), (OUTSIDE, 80)),
        echo(INSIDE, OUTSIDE, true, 7),
        syn((OUTSIDE, 4000), (EXTERNAL, 80)),
        syn((OUTSIDE, 4000), (INSIDE, 80)),
    ];
    let begin = |frame: &Vec<u8>| {
        let config = config(vec![source_rule(&[EXTERNAL])], vec![web()]);
        let mut instance = Instance::new(config, &hash, 1);
        instance.sends(frame).expect("it goes on");
        instance.table.only().clone()
    };
    frames.iter().map(begin).collect()
}

/// All of every capture's hosts are inside: each flow is translated.
fn everybody() -> Config {
    let from = "0.0.0.0/0".parse().expect("a prefix");
    let mut config = config(vec![SourceRule { from, ..source_rule(&[EXTERNAL]) }], vec![]);
    config.tracking.pick_up = true;
    config
}

/// A NAT whose translations are in another process behind every packet, on another clock.
struct Wanderer {
    instance: Instance,
    ahead: bool,
}

impl Wanderer {
    fn translate(&mut self, frame: &mut [u8], now: Nanos) -> Verdict {
        let at = |ahead: bool| if ahead { now + AHEAD } else { now };
        let key = meta_of(frame).key.both_ways();
        // Only that of the packet's flow: all the others have moved when theirs came.
        if let Some(known) = self.instance.table.remove(&key) {
            let chunk = known.to_chunk(at(self.ahead));
            assert!(chunk.body.len() <= BODY_MAX);
            let there = Translation::from_chunk(&chunk, at(!self.ahead)).expect("its own");
            let again = there.to_chunk(at(!self.ahead));
            assert_eq!(again, chunk, "no clock is in it");
            let back = Translation::from_chunk(&again, at(self.ahead)).expect("its own");
            assert!(known.is_over(at(self.ahead)) || back == known);
            assert!(self.instance.table.insert(back));
        }
        self.instance.translate(frame, at(self.ahead))
    }
}

#[test]
fn captures_are_translated_alike_when_every_translation_moves_before_every_packet() {
    let mut rng = weir_seed::rng();
    for name in CAPTURES {
        let Some(frames) = capture(name) else { continue };
        let hash = random_hash(&mut rng);
        let mut stays = Instance::new(everybody(), &hash, 1);
        let mut wanders = Wanderer { instance: Instance::new(everybody(), &hash, 1), ahead: false };
        let mut counts = HashMap::<&str, usize>::new();
        for (time, frame) in frames {
            let Ok(Parsed::Ip(_)) = parse(&frame, ServiceId(0)) else { continue };
            let answer = stays.as_answered(&frame);
            let is_answer = answer != frame;
            let [mut one, mut other] = [answer.clone(), answer];
            let verdict = stays.translate(&mut one, time);
            assert_eq!(wanders.translate(&mut other, time), verdict);
            let dropped = matches!(verdict, Verdict::Drop(_));
            assert!(dropped || one == other);
            assert!(dropped || !is_answer || one == frame, "translating it back changes nothing");
            let what = match verdict {
                Verdict::Drop(reason) => reason.name(),
                Verdict::Pass => "passed",
                Verdict::Translate => "translated",
            };
            *counts.entry(what).or_default() += 1;
        }
        println!("data test ran: translations of {name}: {counts:?}");
        assert!(counts["translated"] > 0);
    }
}

#[test]
fn what_is_left_of_the_time_travels_and_not_when_it_ends() {
    let [known, ..] = &translations()[..] else { panic!() };
    let chunk = known.to_chunk(NOW + Duration::from_secs(100));
    let there = Translation::from_chunk(&chunk, Nanos(0)).expect("its own");
    assert_eq!(there.deadline(), Nanos(0) + Duration::from_secs(200));
    let body = known.to_chunk(NOW).body;
    assert_eq!(chunk.body, body, "it stands in the head of the chunk");
    let none = Chunk { time_left: None, ..chunk.clone() };
    let too_long = Chunk { time_left: Some(TIMEOUT_MAX + Duration::from_nanos(1)), ..chunk };
    for bad in [none, too_long] {
        let error = Translation::from_chunk(&bad, NOW);
        assert!(matches!(error, Err(PutError::BadBody { .. })), "{error:?}");
    }
}

#[test]
fn what_is_cut_off_too_long_or_of_another_schema_is_named() {
    for known in translations() {
        let bytes = known.encode();
        for length in 0..bytes.len() {
            assert!(Translation::decode(NAT_TRANSLATION.schema, &bytes[..length], NOW).is_err());
        }
        let longer = [&bytes[..], &[0, 0]].concat();
        let error = Translation::decode(NAT_TRANSLATION.schema, &longer, NOW);
        assert_eq!(error, Err(BodyError::Wire(WireError::TooLong { excess: 2 })));
        let found =
            Schema { revision: NAT_TRANSLATION.schema.revision + 1, ..NAT_TRANSLATION.schema };
        let error = Translation::decode(found, &bytes, NOW);
        assert_eq!(error, Err(BodyError::UnknownSchema { found, known: NAT_TRANSLATION.schema }));
    }
}

#[test]
fn hostile_bytes_are_refused_and_never_a_panic_and_there_is_one_form_only() {
    let mut rng = weir_seed::rng();
    let (mut taken, mut refused) = (0, 0);
    let hash = random_hash(&mut rng);
    for known in translations() {
        for _ in 0..4_000 {
            let mut bytes = known.encode();
            for _ in 0..rng.u8(1..4) {
                let place = rng.usize(..bytes.len());
                bytes[place] = if rng.bool() { rng.u8(..) } else { bytes[place] ^ 1 };
            }
            let Ok(decoded) = Translation::decode(NAT_TRANSLATION.schema, &bytes, NOW) else {
                refused += 1;
                continue;
            };
            taken += 1;
            assert_eq!(decoded.encode(), bytes);
            // Whatever it says, it can be gone on with.
            let config = config(vec![source_rule(&[EXTERNAL])], vec![web()]);
            let mut nat = Nat::new(config, &hash, replica(1)).expect("time-outs");
            for mut frame in [udp((INSIDE, 4000), (OUTSIDE, 53)), echo(INSIDE, OUTSIDE, true, 7)] {
                let (mut state, mut meta) = (Some(decoded.clone()), meta_of(&frame));
                nat.translate(&mut frame, &mut meta, &mut state, |_| false, NOW);
            }
        }
    }
    assert!(taken > 500 && refused > 1_000, "{taken} taken, {refused} refused");
    for _ in 0..50_000 {
        let bytes: Vec<u8> = (0..rng.usize(..160)).map(|_| rng.u8(..7)).collect();
        let _any_outcome = Translation::decode(NAT_TRANSLATION.schema, &bytes, NOW);
        let _any_outcome = Usage::decode(NAT_USAGE.schema, &bytes);
        let _any_outcome = Totals::decode(NAT_TOTALS.schema, &bytes);
    }
}

/// Frames of strangers: whatever they are, nothing panics, and what goes on can be read again.
#[test]
fn strange_frames_are_translated_or_dropped() {
    let Some(frames) = samples::strange_frames() else { return };
    let mut instance = Instance::new(everybody(), &random_hash(&mut weir_seed::rng()), 1);
    let mut counts = [0; 3];
    for mut frame in frames {
        let Ok(Parsed::Ip(_)) = parse(&frame, ServiceId(0)) else { continue };
        let place = match instance.translate(&mut frame, NOW) {
            Verdict::Pass => 0,
            Verdict::Translate => 1,
            Verdict::Drop(_) => 2,
        };
        counts[place] += 1;
    }
    println!("data test ran: translations of strange frames: {counts:?}");
    assert!(counts[1] > 0 && counts[2] > 0);
}
