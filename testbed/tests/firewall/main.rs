//! The firewall against the kernel's: the same packets, packet by packet the same state of their
//! connection here, and by the same rules the same verdict in [`verdicts`], for captures and for
//! random conversations at the edges of their windows.
//!
//! Ours does what Linux 6.18 does. What can not be compared is a [`model::LeftOut`].
//!
//! All need root and fail without it. Each makes its own namespaces and removes them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and tell")]

mod conversation;
mod kernel;
mod model;
#[path = "../captures/source.rs"]
mod source;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_dataplane::packet::Flags;
use weir_state_transfer::FlowKey;

use conversation::Conversation;
use kernel::Kernel;
use model::{Model, fit_for_both};

/// The kernel that ours is like. What older ones take a reset or an old segment for differs.
const LIKE: (u32, u32) = (6, 18);
/// Conversations in a thousand that may differ with an older kernel.
const DIFFER_MAX: usize = 20;
/// Random conversations of a test, and packets of each.
const CONVERSATIONS: usize = 1_500;
const PACKETS: usize = 40;

/// How long a test takes at most, with the kernel's clock running: less than the shortest time-out.
const DRIFT_MAX: Duration = Duration::from_secs(100);

/// Connections with what is left of their time.
type Times = BTreeMap<FlowKey, Duration>;

/// How many packets were compared, by what both made of them.
type Tally = BTreeMap<String, usize>;

/// Lets both see frames one by one; the first difference with what led to it, if there is one.
fn difference(
    kernel: &mut Kernel,
    model: &mut Model,
    frames: &[Vec<u8>],
    tally: &mut Tally,
) -> Option<String> {
    let mut story = Vec::new();
    for frame in frames {
        let Ok((frame, meta)) = fit_for_both(frame) else { continue };
        if meta.flags.has(Flags::HAS_OPTIONS) {
            continue;
        }
        let (theirs, ours) = (kernel.see(&frame), model.see(&frame, &meta));
        story.push(format!("{} kernel {theirs:?}, here {ours:?}", model::shown(&frame, &meta)));
        if theirs != ours.seen() {
            let same_flow = story.iter().filter(|line| line.contains(&model::flow(&meta)));
            return Some(same_flow.cloned().collect::<Vec<_>>().join("\n"));
        }
        *tally.entry(format!("{theirs:?}")).or_default() += 1;
    }
    None
}

/// The differences in random conversations, and how many packets were compared.
fn differences(
    kernel: &mut Kernel,
    model: &mut Model,
    draw: impl Fn(&mut fastrand::Rng, usize) -> Conversation,
) -> (Vec<String>, Tally) {
    let mut rng = weir_seed::rng();
    let (mut tally, mut differences) = (Tally::new(), Vec::new());
    for number in 0..CONVERSATIONS {
        let frames = draw(&mut rng, number).frames(&mut rng, PACKETS);
        differences.extend(difference(kernel, model, &frames, &mut tally));
    }
    println!("{tally:?}");
    (differences, tally)
}

/// The TCP connections that only one of both knows, or that end at other times. The kernel's
/// clock runs and ours stands.
fn other_times(kernel: &Times, model: &Times) -> Vec<String> {
    let keys: BTreeSet<_> = kernel.keys().chain(model.keys()).collect();
    println!("{} TCP connections", keys.len());
    let differ = keys.into_iter().filter_map(|key| {
        let (theirs, ours) = (kernel.get(key), model.get(key));
        let agree = theirs
            .zip(ours)
            .is_some_and(|(theirs, ours)| (*theirs..=*theirs + DRIFT_MAX).contains(ours));
        (!agree).then(|| format!("{key}: kernel {theirs:?} left, here {ours:?}"))
    });
    differ.collect()
}

/// How many of so many random conversations may differ with the kernel that runs.
fn allowed(conversations: usize) -> usize {
    let release = kernel::release().unwrap();
    println!("Linux {release:?}");
    if release >= LIKE { 0 } else { conversations * DIFFER_MAX / 1_000 }
}

fn compare(pick_up: bool, draw: impl Fn(&mut fastrand::Rng, usize) -> Conversation) {
    let (mut kernel, mut model) = (Kernel::new(pick_up).unwrap(), Model::new(pick_up));
    let (mut differences, tally) = differences(&mut kernel, &mut model, draw);
    if differences.is_empty() {
        differences.extend(other_times(&kernel.tcp().unwrap(), &model.tcp()));
    }
    for difference in differences.iter().take(3) {
        println!("{difference}\n");
    }
    let allowed = allowed(CONVERSATIONS);
    assert!(differences.len() <= allowed, "{} differ, {allowed} may", differences.len());
    assert!(tally.values().all(|count| *count > 1_000) && tally.len() == 4, "{tally:?}");
}

#[test]
#[ignore = "needs root"]
fn random_tcp_conversations_are_tracked_as_the_kernel_does() {
    compare(false, Conversation::tcp);
}

#[test]
#[ignore = "needs root"]
fn random_tcp_conversations_that_are_picked_up_are_tracked_as_the_kernel_does() {
    compare(true, Conversation::tcp);
}

#[test]
#[ignore = "needs root"]
fn udp_echoes_and_errors_about_them_are_tracked_as_the_kernel_does() {
    compare(false, Conversation::datagrams);
}

/// The comparison has to notice where the two are told different things.
#[test]
#[ignore = "needs root"]
fn connections_that_only_one_of_both_picks_up_are_noticed() {
    let (mut kernel, mut model) = (Kernel::new(true).unwrap(), Model::new(false));
    let (differences, _) = differences(&mut kernel, &mut model, Conversation::tcp);
    assert!(differences.len() > CONVERSATIONS / 20, "{}", differences.len());
}

#[test]
#[ignore = "needs root"]
fn captures_are_tracked_as_the_kernel_does() {
    let Some(captures) = source::captures() else {
        println!("data test skipped: tracked as the kernel does: ../shared/data/traces is absent");
        return;
    };
    let (mut differences, mut sum) = (Vec::new(), Tally::new());
    for capture in captures {
        for pick_up in [false, true] {
            let (mut kernel, mut model) = (Kernel::new(pick_up).unwrap(), Model::new(pick_up));
            let mut tally = Tally::new();
            let found = difference(&mut kernel, &mut model, &capture.frames, &mut tally);
            let how = if pick_up { "picking up" } else { "strict" };
            println!(
                "data test ran: tracked as the kernel does: {} ({how}): {tally:?}, {} too long",
                capture.name, capture.too_long
            );
            assert!(!tally.is_empty(), "nothing of {} was compared", capture.name);
            differences.extend(found.map(|story| format!("{} ({how}):\n{story}", capture.name)));
            tally.into_iter().for_each(|(what, count)| *sum.entry(what).or_default() += count);
        }
    }
    println!("{sum:?}");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    // To find everything invalid would be to agree as well.
    for (what, least) in LEAST {
        assert!(sum[what] >= least, "{} of {what}, and {least} are the least", sum[what]);
    }
}

/// What is compared of the captures at the least, by what both made of it.
const LEAST: [(&str, usize); 4] =
    [("Established", 190_000), ("Invalid", 17_000), ("New", 10_000), ("Related", 48)];
