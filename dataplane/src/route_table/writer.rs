//! The one writer of a route table.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::next_hops::{NextHop, NextHopId};
use super::recycler::Recycler;
use super::table::{RouteLimits, RouteTable};
use super::trie::{Prefix, Trie};
use super::word::Word;
use crate::sync::Ordering;

/// Adds and removes routes, beside any number of readers.
#[derive(Debug)]
pub struct RouteWriter {
    table: RouteTable,
    routes: BTreeMap<IpNet, NextHop>,
    routes_max: u32,
    /// The number of each next hop, and how many routes use it.
    hops: HashMap<NextHop, (NextHopId, u32)>,
    hop_ids: Recycler,
    groups: Recycler,
    /// Grows by one with each change.
    generation: u64,
}

impl RouteWriter {
    pub(super) fn new(table: RouteTable, limits: RouteLimits) -> Self {
        Self {
            table,
            routes: BTreeMap::new(),
            routes_max: limits.routes_max,
            hops: HashMap::new(),
            hop_ids: Recycler::new(limits.next_hops_max),
            groups: Recycler::new(limits.groups_max),
            generation: 0,
        }
    }

    /// Adds a route, or changes the next hop of the one that is there.
    ///
    /// # Errors
    /// A prefix or next hop that makes no sense, or a bound that is reached; nothing has changed.
    pub fn add(&mut self, prefix: IpNet, hop: NextHop) -> Result<(), RouteError> {
        check(prefix, hop)?;
        let old = self.routes.get(&prefix).copied();
        if old == Some(hop) {
            return Ok(());
        }
        if old.is_none() && self.routes.len() >= self.routes_max as usize {
            return Err(RouteError::RoutesFull { most: self.routes_max });
        }
        let id = self.use_hop(hop)?;
        let octets = Octets::of(prefix);
        let leaf = Word::leaf(prefix.prefix_len(), id);
        let shared = &*self.table.0;
        let trie = trie(&self.table, prefix);
        if !trie.insert(&shared.groups, &mut self.groups, octets.prefix(prefix), leaf) {
            self.release_hop(hop);
            return Err(RouteError::GroupsFull { waiting: self.groups.waiting() });
        }
        self.changed(prefix);
        self.routes.insert(prefix, hop);
        if let Some(old) = old {
            self.release_hop(old);
        }
        Ok(())
    }

    /// Removes a route.
    ///
    /// # Errors
    /// [`RouteError::NotFound`].
    pub fn remove(&mut self, prefix: IpNet) -> Result<NextHop, RouteError> {
        let hop = self.routes.remove(&prefix).ok_or(RouteError::NotFound { prefix })?;
        let octets = Octets::of(prefix);
        let parent = self.parent(prefix);
        let generation = self.generation + 1;
        trie(&self.table, prefix).remove(
            &self.table.0.groups,
            &mut self.groups,
            octets.prefix(prefix),
            parent,
            generation,
        );
        self.changed(prefix);
        self.release_hop(hop);
        Ok(hop)
    }

    /// Every route, IPv4 first, in the order of their prefixes.
    pub fn list(&self) -> impl Iterator<Item = (IpNet, NextHop)> + '_ {
        self.routes.iter().map(|(prefix, hop)| (*prefix, *hop))
    }

    /// The next hop of exactly this prefix.
    pub fn get(&self, prefix: &IpNet) -> Option<NextHop> {
        self.routes.get(prefix).copied()
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The number of the last change, to be given to [`RouteWriter::quiesced`] when each reader
    /// has begun a poll round after it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether anything waits for [`RouteWriter::quiesced`].
    pub fn awaits_readers(&self) -> bool {
        self.groups.waiting() + self.hop_ids.waiting() > 0
    }

    /// Every reader has begun a poll round after change `generation`: what was taken out of use up
    /// to it is used again.
    pub fn quiesced(&mut self, generation: u64) {
        self.groups.quiesced(generation);
        self.hop_ids.quiesced(generation);
    }

    #[cfg(test)]
    pub(super) fn groups_available(&self) -> usize {
        self.groups.available()
    }

    /// The word of the longest prefix that covers `prefix` but for the default, which is no word.
    fn parent(&self, prefix: IpNet) -> Word {
        (1..prefix.prefix_len())
            .rev()
            .filter_map(|len| IpNet::new(prefix.addr(), len).ok())
            .find_map(|shorter| {
                let (id, _) = self.hops.get(self.routes.get(&shorter.trunc())?)?;
                Some(Word::leaf(shorter.prefix_len(), *id))
            })
            .unwrap_or(Word::EMPTY)
    }

    fn use_hop(&mut self, hop: NextHop) -> Result<NextHopId, RouteError> {
        if let Some((id, users)) = self.hops.get_mut(&hop) {
            *users += 1;
            return Ok(*id);
        }
        let full = RouteError::NextHopsFull { waiting: self.hop_ids.waiting() };
        let number = self.hop_ids.take().ok_or(full)?;
        // The recycler's limit is at most 2^16.
        let id = NextHopId(number as u16);
        self.table.0.hops.set(id, hop);
        self.hops.insert(hop, (id, 1));
        Ok(id)
    }

    fn release_hop(&mut self, hop: NextHop) {
        let Some((id, users)) = self.hops.get_mut(&hop) else { return };
        *users -= 1;
        if *users == 0 {
            self.hop_ids.retire(u32::from(id.0), self.generation);
            self.hops.remove(&hop);
        }
    }

    /// Makes decisions stale that were taken in the parts that the prefix lies in.
    fn changed(&mut self, prefix: IpNet) {
        self.generation += 1;
        let (first, generations) = match prefix {
            IpNet::V4(net) => (net.addr().octets()[0], &self.table.0.v4_generations),
            IpNet::V6(net) => (net.addr().octets()[0], &self.table.0.v6_generations),
        };
        let parts = 1 << 8u8.saturating_sub(prefix.prefix_len());
        for counter in generations.iter().skip(usize::from(first)).take(parts) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
    }
}

/// Why a route was refused; the table is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Bits behind the prefix length are set.
    #[error("{prefix} has bits set behind its length: write {}", prefix.trunc())]
    HostBits {
        /// What was given.
        prefix: IpNet,
    },
    /// IPv4 by an IPv6 router, or the other way.
    #[error("the next hop {via} is not of the family of {prefix}")]
    Family {
        /// The prefix.
        prefix: IpNet,
        /// The next hop.
        via: IpAddr,
    },
    /// No router can have that address.
    #[error("{via} cannot be the address of a next hop")]
    NoHost {
        /// The next hop.
        via: IpAddr,
    },
    /// There is no such route.
    #[error("there is no route to {prefix}")]
    NotFound {
        /// The prefix.
        prefix: IpNet,
    },
    /// The table has as many routes as it may.
    #[error("the table is full: {most} routes; raise route_table.routes_max")]
    RoutesFull {
        /// The bound.
        most: u32,
    },
    /// Too many different next hops.
    #[error("too many different next hops; {waiting} will be free after the next poll round")]
    NextHopsFull {
        /// Those that wait for readers.
        waiting: usize,
    },
    /// No memory is left for long prefixes.
    #[error("too many long prefixes; {waiting} groups will be free after the next poll round")]
    GroupsFull {
        /// Those that wait for readers.
        waiting: usize,
    },
}

fn check(prefix: IpNet, hop: NextHop) -> Result<(), RouteError> {
    if prefix.trunc() != prefix {
        return Err(RouteError::HostBits { prefix });
    }
    let Some(via) = hop.via else { return Ok(()) };
    if via.is_ipv4() != prefix.addr().is_ipv4() {
        return Err(RouteError::Family { prefix, via });
    }
    let broadcast = matches!(via, IpAddr::V4(via) if via.octets()[0] >= 240);
    if via.is_unspecified() || via.is_multicast() || via.is_loopback() || broadcast {
        return Err(RouteError::NoHost { via });
    }
    Ok(())
}

fn trie(table: &RouteTable, prefix: IpNet) -> &Trie {
    match prefix {
        IpNet::V4(_) => &table.0.v4,
        IpNet::V6(_) => &table.0.v6,
    }
}

/// The bytes of a prefix.
enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    fn of(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(net) => Self::V4(net.addr().octets()),
            IpNet::V6(net) => Self::V6(net.addr().octets()),
        }
    }

    fn prefix(&self, of: IpNet) -> Prefix<'_> {
        let address = match self {
            Self::V4(octets) => &octets[..],
            Self::V6(octets) => &octets[..],
        };
        Prefix { address, len: of.prefix_len() }
    }
}
