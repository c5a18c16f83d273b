//! Next hops, by a small number that fits in a word of the tries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_state_transfer::PortId;

use crate::sync::{AtomicU64, Ordering};

/// Most next hops of a table: their number has 16 bits.
pub const NEXT_HOPS_MAX: u32 = 1 << 16;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The port to leave by.
    pub port: PortId,
    /// The router to send to; none when the destination is on the link.
    pub via: Option<IpAddr>,
}

/// The number of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextHopId(pub(super) u16);

/// The next hops that words of the tries name.
///
/// A slot is written before its number is published by a release store of a word, and again only
/// when no reader can still hold the number; so relaxed accesses suffice.
#[derive(Debug)]
pub(super) struct NextHops(Box<[[AtomicU64; 3]]>);

impl NextHops {
    pub(super) fn new(slots: u32) -> Self {
        Self((0..slots).map(|_| Default::default()).collect())
    }

    pub(super) fn set(&self, id: NextHopId, hop: NextHop) {
        let (family, address) = match hop.via {
            None => (0, 0),
            Some(IpAddr::V4(via)) => (4, u128::from(via.to_bits())),
            Some(IpAddr::V6(via)) => (6, via.to_bits()),
        };
        let words = [u64::from(hop.port.0) | family << 8, (address >> 64) as u64, address as u64];
        for (slot, word) in self.0[usize::from(id.0)].iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn get(&self, id: NextHopId) -> Option<NextHop> {
        let [head, high, low] =
            self.0.get(usize::from(id.0))?.each_ref().map(|word| word.load(Ordering::Relaxed));
        let via = match head >> 8 {
            4 => Some(Ipv4Addr::from_bits(low as u32).into()),
            6 => Some(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()),
            _ => None,
        };
        Some(NextHop { port: PortId(head as u8), via })
    }
}
