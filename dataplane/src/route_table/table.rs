//! The table that readers share, and its bounds.

use std::array;
use std::sync::Arc;

use weir_state_transfer::FlowKey;

use super::next_hops::{NEXT_HOPS_MAX, NextHop, NextHops};
use super::trie::{Groups, Trie};
use super::writer::RouteWriter;
use super::{V4_ROOT_BYTES, V6_ROOT_BYTES};
use crate::sync::{AtomicU32, Ordering};

/// Bounds of a route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLimits {
    /// Most routes.
    pub routes_max: u32,
    /// Most different next hops, at most [`NEXT_HOPS_MAX`].
    pub next_hops_max: u32,
    /// Most groups of 256 words (1 KiB each): one for each part of the address space with
    /// prefixes longer than /24 or, for each 8 bits beyond /16, IPv6 prefixes.
    pub groups_max: u32,
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self { routes_max: 262_144, next_hops_max: 4096, groups_max: 65_536 }
    }
}

/// A reader of a route table; clones read the same table.
#[derive(Clone, Debug)]
pub struct RouteTable(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) v4: Trie,
    pub(super) v6: Trie,
    pub(super) groups: Groups,
    pub(super) hops: NextHops,
    pub(super) v4_generations: [AtomicU32; 256],
    pub(super) v6_generations: [AtomicU32; 256],
}

impl RouteTable {
    /// An empty table and its one writer. Memory is taken as routes come.
    pub fn new(limits: RouteLimits) -> (Self, RouteWriter) {
        let hops = limits.next_hops_max.min(NEXT_HOPS_MAX);
        let table = Self(Arc::new(Shared {
            v4: Trie::new(V4_ROOT_BYTES),
            v6: Trie::new(V6_ROOT_BYTES),
            groups: Groups::new(limits.groups_max),
            hops: NextHops::new(hops),
            v4_generations: array::from_fn(|_| AtomicU32::default()),
            v6_generations: array::from_fn(|_| AtomicU32::default()),
        }));
        let writer = RouteWriter::new(table.clone(), RouteLimits { next_hops_max: hops, ..limits });
        (table, writer)
    }

    /// Where packets to the destination of `key` go.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<NextHop> {
        let shared = &*self.0;
        let address = key.dst_octets();
        let word = if key.is_v4() {
            shared.v4.lookup(&shared.groups, &address[12..])
        } else {
            shared.v6.lookup(&shared.groups, address)
        };
        shared.hops.get(word.hop()?)
    }

    /// The generation of the part of the table that answers for the destination of `key`.
    #[inline]
    pub fn generation(&self, key: &FlowKey) -> u32 {
        let address = key.dst_octets();
        let counter = if key.is_v4() {
            &self.0.v4_generations[usize::from(address[12])]
        } else {
            &self.0.v6_generations[usize::from(address[0])]
        };
        counter.load(Ordering::Acquire)
    }
}
