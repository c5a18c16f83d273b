//! How many bytes the bounds of the configuration ask for.

use std::ops::Range;

use super::forwarding::Moves;
use super::machine::Machine;
use super::process::Memory;
use super::quota::Quota;
use super::report::{Finding, Findings};
use crate::moves::Group;
use crate::worker::Held;

/// What one packet of a hold takes beside its frame, at both ends together: a slot and a group at
/// the destination, which are hashed and so up to twice as many, and a place in each of the two
/// queues of the source. Rounded up for what stands beside them.
const HELD_BYTES: u64 = (3 * size_of::<Held>() + 2 * size_of::<Group>() + 64) as u64;

/// Refuses bounds that need more memory than the machine has, and warns when it is not free:
/// frames are taken at the start, the ends of moves as moves come. `place` is where what can be
/// lowered stands.
pub(super) fn check(
    (memory, quota): (&Memory, &Quota),
    (moves, place): (&Moves, Range<usize>),
    machine: &Machine,
    findings: &Findings,
) {
    let frames = u64::from(memory.frames) * memory.frame_size.bytes() as u64;
    let ends = u64::from(moves.moves_max) * u64::from(moves.hold) * HELD_BYTES;
    let (asked, has, free) = (frames + ends, machine.memory, machine.available);
    let (finding, what_to_do) = if let Some(has) = has.filter(|has| asked > *has) {
        let title = format!("{} of memory are asked for, the machine has {}", mib(asked), mib(has));
        (Finding::error(place, title, "too much"), "lower")
    } else if let Some(free) = free.filter(|free| asked > *free) {
        let title = format!("{} of memory may be used, {} are free", mib(asked), mib(free));
        (Finding::warning(place, title, "much"), "free memory, or lower")
    } else {
        return;
    };
    let bounds = match memory.frames > quota.frames() {
        true => "frames in [memory]",
        false => "hold or moves_max in [moves], or rings",
    };
    let help = format!(
        "{what_to_do} {bounds}: {} are for {} frames, {} for the \
         ends of {} moves beside their frames; frames that can be in use:\n{quota}",
        mib(frames),
        memory.frames,
        mib(ends),
        moves.moves_max,
    );
    findings.push(finding.over_the_whole().help(help));
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
