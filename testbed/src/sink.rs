//! The receiving end: exact about what was lost, duplicated and reordered, flow by flow.

use std::collections::BTreeMap;

use crate::udp::Mark;

/// A rolling hash: the hash so far and the packet, from its IP header on, give the next.
pub type Digest = fn(u64, &[u8]) -> u64;

/// What arrived, for each flow.
///
/// Exact, without a window: of each flow it keeps the numbers that have not arrived below the
/// highest that has, as ranges. These are what is lost at the end; none in the usual case.
#[derive(Clone, Debug)]
pub struct Sink {
    flows: Vec<Arrivals>,
    digest: Digest,
    tally: Tally,
}

/// Packets by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Arrived, duplicates included.
    pub received: u64,
    /// Arrived with a number that had arrived before.
    pub duplicated: u64,
    /// Arrived for the first time, but behind a packet of its flow with a higher number.
    pub reordered: u64,
    /// Arrived at another host than the flow's destination, or of a flow that does not exist.
    pub stray: u64,
}

/// What a packet was, as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Its number was seen for the first time.
    First,
    /// Its number had been seen.
    Duplicate,
    /// It belongs to no flow of this sink.
    Stray,
}

impl Sink {
    /// A sink for flows numbered from 0 to `flows - 1`.
    pub fn new(flows: usize, digest: Digest) -> Self {
        Self { flows: vec![Arrivals::default(); flows], digest, tally: Tally::default() }
    }

    /// Takes a packet that arrived, `packet` from its IP header on.
    pub fn arrive(&mut self, mark: &Mark, packet: &[u8]) -> Arrival {
        self.tally.received += 1;
        let index = usize::try_from(mark.flow).unwrap_or(usize::MAX);
        let Some(flow) = self.flows.get_mut(index) else {
            self.tally.stray += 1;
            return Arrival::Stray;
        };
        flow.digest = (self.digest)(flow.digest, packet);
        let next = flow.next;
        if mark.sequence >= next {
            if mark.sequence > next {
                flow.missing.insert(next, mark.sequence);
            }
            flow.next = mark.sequence + 1;
            return Arrival::First;
        }
        if flow.fill(mark.sequence) {
            self.tally.reordered += 1;
            Arrival::First
        } else {
            self.tally.duplicated += 1;
            Arrival::Duplicate
        }
    }

    /// Notes a packet that arrived where it should not have.
    pub fn stray(&mut self) {
        self.tally.received += 1;
        self.tally.stray += 1;
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Packets of a flow that have not arrived, when `sent` were sent.
    pub fn lost(&self, flow: usize, sent: u64) -> u64 {
        let flow = &self.flows[flow];
        let holes: u64 = flow.missing.iter().map(|(first, end)| end - first).sum();
        holes + sent.saturating_sub(flow.next)
    }

    /// The rolling hash over all packets of a flow in the order in which they arrived.
    pub fn digest(&self, flow: usize) -> u64 {
        self.flows[flow].digest
    }
}

/// The arrivals of one flow.
#[derive(Clone, Debug, Default)]
struct Arrivals {
    /// One more than the highest number that arrived.
    next: u64,
    /// Numbers below `next` that have not arrived: first of a range to the one behind its last.
    missing: BTreeMap<u64, u64>,
    digest: u64,
}

impl Arrivals {
    /// Takes a number out of the missing ones; false when it was not missing.
    fn fill(&mut self, sequence: u64) -> bool {
        let Some((&first, &end)) = self.missing.range(..=sequence).next_back() else {
            return false;
        };
        if sequence >= end {
            return false;
        }
        self.missing.remove(&first);
        if first < sequence {
            self.missing.insert(first, sequence);
        }
        if sequence + 1 < end {
            self.missing.insert(sequence + 1, end);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn digest(so_far: u64, packet: &[u8]) -> u64 {
        packet.iter().fold(so_far, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0193))
    }

    fn sink_after(sequences: &[u64]) -> Sink {
        let mut sink = Sink::new(1, digest);
        for sequence in sequences {
            let mark = Mark { flow: 0, sequence: *sequence, sent_ns: 0 };
            sink.arrive(&mark, &sequence.to_be_bytes());
        }
        sink
    }

    /// Lost, duplicated and reordered when `sent` were sent.
    fn verdict(sequences: &[u64], sent: u64) -> (u64, u64, u64) {
        let sink = sink_after(sequences);
        (sink.lost(0, sent), sink.tally().duplicated, sink.tally().reordered)
    }

    #[test]
    fn an_orderly_flow_is_clean() {
        assert_eq!(verdict(&[0, 1, 2, 3], 4), (0, 0, 0));
    }

    #[test]
    fn a_lost_packet_is_counted_wherever_it_was() {
        assert_eq!(verdict(&[1, 2, 3], 4), (1, 0, 0));
        assert_eq!(verdict(&[0, 1, 3], 4), (1, 0, 0));
        assert_eq!(verdict(&[0, 1, 2], 4), (1, 0, 0));
        assert_eq!(verdict(&[], 4), (4, 0, 0));
    }

    #[test]
    fn a_duplicate_is_counted_however_late_it_comes() {
        assert_eq!(verdict(&[0, 0, 1, 2], 3), (0, 1, 0));
        assert_eq!(verdict(&[0, 1, 2, 0], 3), (0, 1, 0));
        let mut long: Vec<u64> = (0..100_000).collect();
        long.push(3);
        assert_eq!(verdict(&long, 100_000), (0, 1, 0));
    }

    #[test]
    fn a_swap_is_one_packet_out_of_order() {
        assert_eq!(verdict(&[0, 2, 1, 3], 4), (0, 0, 1));
        assert_eq!(verdict(&[3, 0, 1, 2], 4), (0, 0, 3));
        assert_eq!(verdict(&[0, 2, 1, 1], 3), (0, 1, 1));
    }

    #[test]
    fn the_digest_shows_a_swap_a_loss_and_a_duplicate() {
        let clean = sink_after(&[0, 1, 2]).digest(0);
        for other in [&[0, 2, 1][..], &[0, 2], &[0, 1, 1, 2]] {
            assert_ne!(sink_after(other).digest(0), clean, "{other:?}");
        }
    }

    #[test]
    fn a_packet_of_no_flow_is_a_stray() {
        let mut sink = sink_after(&[0]);
        let mark = Mark { flow: 1, sequence: 0, sent_ns: 0 };
        assert_eq!(sink.arrive(&mark, &[]), Arrival::Stray);
        assert_eq!(sink.tally().stray, 1);
    }

    #[test]
    fn random_faults_are_counted_as_a_naive_sink_counts_them() {
        let mut random = weir_seed::rng();
        for _ in 0..300 {
            let sent = random.u64(1..60);
            let mut arrived: Vec<u64> = (0..sent).collect();
            for _ in 0..random.usize(..6) {
                let at = random.usize(..arrived.len().max(1));
                match random.u8(..3) {
                    0 if !arrived.is_empty() => drop(arrived.remove(at)),
                    1 if !arrived.is_empty() => {
                        let to = random.usize(..arrived.len());
                        arrived.insert(to, arrived[at]);
                    }
                    _ if !arrived.is_empty() => {
                        let with = random.usize(..arrived.len());
                        arrived.swap(at, with);
                    }
                    _ => {}
                }
            }
            assert_eq!(verdict(&arrived, sent), naive(&arrived, sent), "{arrived:?}");
        }
    }

    fn naive(arrived: &[u64], sent: u64) -> (u64, u64, u64) {
        let mut seen = HashSet::new();
        let (mut duplicated, mut reordered) = (0, 0);
        for sequence in arrived {
            if seen.contains(sequence) {
                duplicated += 1;
            } else if seen.iter().any(|other| other > sequence) {
                reordered += 1;
            }
            seen.insert(*sequence);
        }
        (sent - seen.len() as u64, duplicated, reordered)
    }
}
