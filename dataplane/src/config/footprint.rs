//! How many bytes the bounds of the configuration ask for.

use std::ops::Range;

use weir_state_transfer::bucket::BUCKETS;

use super::Nf;
use super::forwarding::{FlowTable, Moves};
use super::machine::Machine;
use super::process::Memory;
use super::quota::Quota;
use super::report::{Finding, Findings};
use crate::instance::Part;
use crate::moves::Group;
use crate::nf::FunctionConfig;
use crate::worker::{Held, Packet};

/// What one packet of a hold takes beside its frame, at both ends together: a slot and a group at
/// the destination, which are hashed and so up to twice as many, and a place in each of the two
/// queues of the source. Rounded up for what stands beside them.
const HELD_BYTES: u64 = (3 * size_of::<Held>() + 2 * size_of::<Group>() + 64) as u64;
/// The same of one that is held for a policy route: a slot, and a group, which is hashed.
const HELD_FOR_POLICY_BYTES: u64 = (size_of::<Packet>() + 64) as u64;

/// What network functions may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct States {
    /// The tables of what they know of flows, and what they keep of streams.
    bounds: u64,
    /// What they know of flows, as many as the tables have room for, and copies of others with their
    /// tables, which are made as these come.
    flows: u64,
}

impl States {
    /// What functions take in so many instances.
    pub(super) fn new(nfs: &[Nf], table: &FlowTable, instances: u8) -> Self {
        if nfs.is_empty() {
            return Self::default();
        }
        let (instances, buckets) = (u64::from(instances), BUCKETS as u64);
        let own = usize::try_from(table.own_flows).unwrap_or(usize::MAX);
        let bucket = usize::try_from(table.flows_per_bucket).unwrap_or(usize::MAX);
        let is_nat = |nf: &Nf| matches!(nf.function, FunctionConfig::Nat(_));
        let are_translated = nfs.last().is_some_and(is_nat);
        // Of flows moved one by one, and of as many copies.
        let own_table = instances * Part::bytes_of_states(own, are_translated) as u64;
        let tables = buckets * Part::bytes_of_states(bucket, are_translated) as u64 + own_table;
        // There is one function of a kind, and one kind that keeps streams.
        let kept = nfs.iter().map(|nf| nf.function.memory_max() as u64).max().unwrap_or(0);
        let flow: usize = nfs.iter().map(|nf| nf.function.bytes_of_flow()).sum();
        let flows = buckets * u64::from(table.flows_per_bucket.next_power_of_two())
            + 2 * instances * u64::from(table.own_flows.next_power_of_two());
        Self {
            bounds: tables.saturating_add(instances.saturating_mul(kept)),
            flows: flows * flow as u64 + own_table,
        }
    }
}

/// Refuses bounds that need more memory than the machine has, and warns when it is not free:
/// frames are taken at the start, the ends of moves as moves come, and what network functions know
/// as instances and flows do. `place` is where what can be lowered stands.
pub(super) fn check(
    (memory, quota): (&Memory, &Quota),
    (moves, workers, place): (&Moves, u8, Range<usize>),
    (states, place_of_states): (States, Range<usize>),
    machine: &Machine,
    findings: &Findings,
) {
    let frames = u64::from(memory.frames) * memory.frame_size.bytes() as u64;
    let each = u64::from(moves.moves_max) * HELD_BYTES + u64::from(workers) * HELD_FOR_POLICY_BYTES;
    let ends = u64::from(moves.hold) * each;
    let asked = (frames + ends).saturating_add(states.bounds);
    let used = asked.saturating_add(states.flows);
    let most_of_states = states.bounds > frames + ends;
    let place = if most_of_states { place_of_states } else { place };
    let (finding, what_to_do) = if let Some(has) = machine.memory.filter(|has| asked > *has) {
        let title = format!("{} of memory are asked for, the machine has {}", mib(asked), mib(has));
        (Finding::error(place, title, "too much"), "lower")
    } else if let Some(free) = machine.available.filter(|free| used > *free) {
        let title = format!("{} of memory may be used, {} are free", mib(used), mib(free));
        (Finding::warning(place, title, "much"), "free memory, or lower")
    } else {
        return;
    };
    let bounds = if most_of_states {
        "memory_max in [[nf]], own_flows in [flow_table] or instances_max in [dataplane]"
    } else if memory.frames > quota.frames() {
        "frames in [memory]"
    } else {
        "hold or moves_max in [moves], or rings"
    };
    let of_functions = match states.bounds {
        0 => String::new(),
        bounds => format!(
            "{} for the tables and streams of network functions and up to {} for what they know \
             of flows, ",
            mib(bounds),
            mib(states.flows)
        ),
    };
    let help = format!(
        "{what_to_do} {bounds}: {} are for {} frames, {of_functions}{} for the \
         ends of {} moves and for policy routes beside their frames; frames that can be in use:\n{quota}",
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
