//! The link-layer addresses that all workers read: one atomic word each.

use std::sync::Arc;

use weir_state_transfer::PortId;

use crate::packet::MacAddr;
use crate::sync::{self, AtomicU64, Ordering};

/// The number of a neighbour: its port, its slot there, and how often the slot was given away.
///
/// A flow entry keeps it. Once the slot belongs to another neighbour the number no longer matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdjacencyId(u32);

/// Where frames to a neighbour go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjacency {
    /// The port to leave by.
    pub port: PortId,
    /// The neighbour's address on the link.
    pub mac: MacAddr,
}

/// The addresses of all neighbours; clones read and write the same table.
///
/// A word is the MAC address in the lower 48 bits, the tenancy of its slot in the next 8, and 1
/// above them when the neighbour is known. Words of one port are written by the worker that owns
/// the port; a word is all that a reader needs, so relaxed accesses suffice.
#[derive(Clone, Debug)]
pub struct AdjacencyTable {
    words: Arc<[AtomicU64]>,
    per_port: u32,
}

const USABLE: u64 = 1 << 56;

impl AdjacencyId {
    /// The number that a flow entry keeps.
    #[inline]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The id of a number from [`AdjacencyId::bits`]; of any other, one that finds nothing or some
    /// neighbour.
    #[inline]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) fn new(port: PortId, slot: u16, tenancy: u8) -> Self {
        Self(u32::from(tenancy) << 24 | u32::from(port.0) << 16 | u32::from(slot))
    }

    /// The port that the neighbour is on.
    #[inline]
    pub fn port(self) -> PortId {
        PortId((self.0 >> 16) as u8)
    }

    pub(super) fn slot(self) -> u16 {
        self.0 as u16
    }

    fn tenancy(self) -> u64 {
        u64::from(self.0 >> 24)
    }
}

impl AdjacencyTable {
    /// A table for so many ports with so many neighbours each. Memory is taken as it is used.
    pub fn new(ports: u8, per_port: u16) -> Self {
        let words = usize::from(ports) * usize::from(per_port);
        let words = sync::zeroed(words).expect("memory for the neighbours at start");
        Self { words: words.into(), per_port: u32::from(per_port) }
    }

    /// The neighbour, or `None` when it is no longer known.
    #[inline]
    pub fn get(&self, id: AdjacencyId) -> Option<Adjacency> {
        let word = self.word(id)?.load(Ordering::Relaxed);
        if word >> 48 != USABLE >> 48 | id.tenancy() {
            return None;
        }
        let [_, _, mac @ ..] = word.to_be_bytes();
        Some(Adjacency { port: id.port(), mac: MacAddr(mac) })
    }

    /// Neighbours that each port can have.
    pub(super) fn per_port(&self) -> u16 {
        self.per_port as u16
    }

    /// Makes a neighbour known, or changes its address. Only for the port's owner.
    pub(super) fn set(&self, id: AdjacencyId, mac: MacAddr) {
        let [a, b, c, d, e, f] = mac.0;
        let address = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        if let Some(word) = self.word(id) {
            word.store(USABLE | id.tenancy() << 48 | address, Ordering::Relaxed);
        }
    }

    /// Makes a neighbour unknown. Only for the port's owner.
    pub(super) fn clear(&self, id: AdjacencyId) {
        if let Some(word) = self.word(id) {
            word.store(0, Ordering::Relaxed);
        }
    }

    #[inline]
    fn word(&self, id: AdjacencyId) -> Option<&AtomicU64> {
        let slot = u32::from(id.slot());
        if slot >= self.per_port {
            return None;
        }
        self.words.get((u32::from(id.port().0) * self.per_port + slot) as usize)
    }
}
