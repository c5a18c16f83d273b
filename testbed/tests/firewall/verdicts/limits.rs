//! The limit of a source beside `ct count` of nftables: as many open connections, and one that has
//! closed counts no more.

use std::collections::HashMap;

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};
use weir_dataplane::nf::firewall::Limits;
use weir_state_transfer::FlowKey;

use super::both::Both;
use super::kernel::Tracking;
use crate::conversation::Conversation;
use crate::model::fit_for_both;

/// Connections that a source may have open, and sources that begin most of them.
const OPEN_MAX: u32 = 4;
const SOURCES: u32 = 3;
/// Conversations that go on at the same time, rounds of them, and packets of each.
const AT_ONCE: usize = 20;
const ROUNDS: usize = 6;
const PACKETS: usize = 30;

/// Conversations of few sources, so many at a time.
fn frames(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for round in 0..ROUNDS {
        let talk = |number| Conversation::tcp(rng, number).begun_by_one_of(SOURCES);
        let talks = (round * AT_ONCE..(round + 1) * AT_ONCE).map(talk).collect::<Vec<_>>();
        let mut left: Vec<_> =
            talks.into_iter().map(|talk| talk.frames(rng, PACKETS).into_iter()).collect();
        while !left.is_empty() {
            let place = rng.usize(..left.len());
            match left[place].next() {
                Some(frame) => frames.push(frame),
                None => _ = left.swap_remove(place),
            }
        }
    }
    frames
}

/// The key of a frame that may begin a connection: of a SYN alone.
fn begins(frame: &[u8]) -> Option<FlowKey> {
    let (frame, meta) = fit_for_both(frame).ok()?;
    let flags = *meta.l4_bytes(&frame)?.get(13)?;
    (flags & 0x17 == 0x02).then_some(meta.key)
}

/// Lets so much time pass that the kernel looks through the connections of a source again: it does
/// so once a tick, and takes one that it does not find for one that another core is about to add
/// until two ticks have passed.
pub(super) fn let_ticks_pass() {
    let tick = || clock_gettime(ClockId::MonotonicCoarse);
    for _ in 0..3 {
        let now = tick();
        while tick() == now {
            std::thread::yield_now();
        }
    }
}

/// What becomes of them at both, and connections that ours has refused for the limit. Of a flow only
/// one end begins, and does so once: whether the kernel counts one that begins again depends on when
/// it last looked (see `by_hand`).
fn judged(rng: &mut Rng, ours: u32) -> (Both, u64) {
    let count = |family: &str| {
        let counted =
            format!("meter {family}-sources {{ {family} saddr ct count over {OPEN_MAX} }}");
        format!("ct state new tcp flags & (fin | syn | rst | ack) == syn {counted} drop")
    };
    let nft = [count("ip"), count("ip6"), "accept".to_owned()];
    let limits = Limits { connections_max: Some(ours), ..Limits::default() };
    let mut both = Both::new(Tracking::default(), &nft, &["accept any".to_owned()], limits);
    let mut flows = HashMap::new();
    for frame in frames(rng) {
        let Some(key) = begins(&frame) else {
            both.judge(&frame);
            continue;
        };
        let flow = flows.entry(key.both_ways()).or_insert((key, false));
        if *flow == (key, false) {
            let_ticks_pass();
            let before = both.forwarded();
            both.judge(&frame);
            flow.1 = both.forwarded() > before;
        }
    }
    println!("{}", both.tally);
    let refused = both.ours.counted()["dropped.source_connections"];
    (both, refused)
}

#[test]
#[ignore = "needs root"]
fn a_source_has_as_many_connections_open_as_nftables_lets_it_have() {
    let (both, refused) = judged(&mut weir_seed::rng(), OPEN_MAX);
    both.tally.assert_same(0);
    assert!(refused > 20, "{refused} refused");
}

/// The comparison has to notice one more.
#[test]
#[ignore = "needs root"]
fn a_limit_that_is_one_higher_is_noticed() {
    let (both, _) = judged(&mut Rng::with_seed(1), OPEN_MAX + 1);
    assert!(both.tally.differences.len() > 3, "{}", both.tally);
}
