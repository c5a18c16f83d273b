//! The route table: longest-prefix match that readers never wait for.
//!
//! One writer changes single words in place. A lookup beside a change gives what was right before
//! it or what is right after it. The table of a family is divided by the first byte of the
//! address; each part has a generation that grows with its changes, so that a cached decision is
//! stale only when its own part has changed. Read the generation before looking up.

mod next_hops;
mod recycler;
mod trie;
mod word;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use weir_state_transfer::FlowKey;

pub use next_hops::{NEXT_HOPS_MAX, NextHop};
pub use writer::{RouteError, RouteWriter};

use next_hops::NextHops;
use trie::{Groups, Trie};

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
pub struct RouteTable(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    v4: Trie,
    v6: Trie,
    groups: Groups,
    hops: NextHops,
    v4_generations: [AtomicU32; 256],
    v6_generations: [AtomicU32; 256],
}

impl RouteTable {
    /// An empty table and its one writer. Memory is taken as routes come.
    pub fn new(limits: RouteLimits) -> (Self, RouteWriter) {
        let hops = limits.next_hops_max.min(NEXT_HOPS_MAX);
        let table = Self(Arc::new(Shared {
            v4: Trie::new(3),
            v6: Trie::new(2),
            groups: Groups::new(limits.groups_max),
            hops: NextHops::new(hops),
            v4_generations: [const { AtomicU32::new(0) }; 256],
            v6_generations: [const { AtomicU32::new(0) }; 256],
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

#[cfg(test)]
mod tests;
