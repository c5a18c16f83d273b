//! The whole firewall against nftables: the same rules and the same packets, and packet by packet
//! the same verdict, seen at the wire: forwarded, dropped, or answered by the same ICMP error.
//!
//! Rules are random ones about the flows that come, default deny at their end. What differs, with
//! its reason, is in [`both::Class`]; what can not be compared is a
//! [`LeftOut`](crate::model::LeftOut).

mod both;
mod by_hand;
mod kernel;
mod limits;
mod ours;
mod rules;
mod verdict;

use fastrand::Rng;
use weir_dataplane::nf::firewall::Limits;
use weir_state_transfer::FlowKey;

use crate::conversation::Conversation;
use crate::model::fit_for_both;
use crate::source;
use both::{Both, Tally};
use kernel::Tracking;
use rules::RuleSet;

/// Sets of rules that random conversations meet, conversations of each, and packets of those.
const SETS: usize = 24;
/// Sets of rules that show a fault.
const SETS_WITH_FAULT: usize = 6;
const CONVERSATIONS: usize = 120;
const PACKETS: usize = 40;
/// Rules of a set.
const RULES: usize = 12;

fn flows_of(frames: &[Vec<u8>]) -> Vec<FlowKey> {
    let fit = frames.iter().filter_map(|frame| fit_for_both(frame).ok());
    fit.map(|(_, meta)| meta.key).collect()
}

/// Random conversations: one set of rules in three meets datagrams, the others TCP.
fn conversations(rng: &mut Rng, set: usize) -> Vec<Vec<u8>> {
    let talk = if set.is_multiple_of(3) { Conversation::datagrams } else { Conversation::tcp };
    let frames = (0..CONVERSATIONS).map(|number| talk(rng, number).frames(rng, PACKETS));
    frames.collect::<Vec<_>>().concat()
}

/// What is told instead of the rules.
type Told = fn(Vec<String>) -> Vec<String>;

/// What becomes of random conversations at both, where ours is told what is made of the rules.
fn judged(rng: &mut Rng, sets: usize, tracking: Tracking, ours: Told) -> Tally {
    let mut sum = Tally::default();
    for set in 0..sets {
        let frames = conversations(rng, set);
        let rules = RuleSet::draw(rng, &flows_of(&frames), RULES);
        let tracking = Tracking { pick_up: set.is_multiple_of(2), ..tracking };
        let told = ours(rules.ours());
        let mut both = Both::new(tracking, &rules.nft(), &told, Limits::default());
        frames.iter().for_each(|frame| both.judge(frame));
        if !both.tally.differences.is_empty() {
            println!("rules {:#?}", rules.nft());
        }
        sum.add(both.tally);
    }
    println!("{sum}");
    sum
}

#[test]
#[ignore = "needs root"]
fn random_conversations_are_judged_as_nftables_judges_them_by_the_same_rules() {
    let sum = judged(&mut weir_seed::rng(), SETS, Tracking::default(), |rules| rules);
    sum.assert_same(crate::allowed(SETS * CONVERSATIONS));
    let known: usize = sum.classes.values().sum();
    assert!(known < SETS * CONVERSATIONS / 20, "{sum}");
    assert!(sum.verdicts.len() == 3 && sum.verdicts.values().all(|n| *n > 1_000), "{sum}");
}

/// The comparison has to notice where the two are told different things.
#[test]
#[ignore = "needs root"]
fn a_default_accept_a_silent_reject_and_windows_that_are_not_checked_are_each_noticed() {
    let checked = Tracking::default();
    let not_checked = Tracking { liberal: true, ..checked };
    let faults: [(&str, Tracking, Told); 3] = [
        ("default accept", checked, |rules| [&rules[..], &["accept any".to_owned()]].concat()),
        ("silent reject", checked, |rules| {
            rules.iter().map(|rule| rule.replace("reject", "drop")).collect()
        }),
        ("windows that are not checked", not_checked, |rules| rules),
    ];
    for (what, tracking, ours) in faults {
        // As many in each run.
        let noticed = judged(&mut Rng::with_seed(1), SETS_WITH_FAULT, tracking, ours);
        assert!(noticed.differences.len() > 20, "{what}: {noticed}");
    }
}

#[test]
#[ignore = "needs root"]
fn captures_are_judged_as_nftables_judges_them_by_the_same_rules() {
    let Some(captures) = source::captures() else {
        println!("data test skipped: judged as nftables does: ../shared/data/traces is absent");
        return;
    };
    let mut sum = Tally::default();
    for (place, capture) in captures.into_iter().enumerate() {
        for pick_up in [false, true] {
            // The same rules in each run, so that as much is compared.
            let mut rng = Rng::with_seed(place as u64);
            let rules = RuleSet::draw(&mut rng, &flows_of(&capture.frames), RULES);
            let tracking = Tracking { pick_up, ..Tracking::default() };
            let mut both = Both::new(tracking, &rules.nft(), &rules.ours(), Limits::default());
            capture.frames.iter().for_each(|frame| both.judge(frame));
            let how = if pick_up { "picking up" } else { "strict" };
            println!(
                "data test ran: judged as nftables does: {} ({how}): {}, {} too long",
                capture.name, both.tally, capture.too_long
            );
            sum.add(both.tally);
        }
    }
    println!("{sum}");
    sum.assert_same(0);
    // To drop all would be to agree as well.
    for (verdict, least) in LEAST {
        assert!(sum.verdicts[verdict] >= least, "{verdict}: {least} are the least: {sum}");
    }
}

/// What is compared of the captures at the least, by what became of it.
const LEAST: [(&str, usize); 3] =
    [("forwarded", 120_000), ("dropped", 100_000), ("answered", 5_000)];
