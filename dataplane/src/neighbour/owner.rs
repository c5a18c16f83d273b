//! The neighbours of one port: ARP and neighbour discovery as a state machine without I/O.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use weir_state_transfer::{Nanos, PortId};

use super::adjacency::{AdjacencyId, AdjacencyTable};
use super::event::{Heard, HeardKind, NeighbourRecord, NeighbourState, Output, Resolution};
use crate::packet::MacAddr;
use crate::token_bucket::TokenBucket;

/// Bounds and times of a port's neighbours.
#[derive(Clone, Copy, Debug)]
pub struct OwnerLimits {
    /// Most neighbours, at most what the adjacency table has room for.
    pub entries_max: u16,
    /// Most neighbours that are being asked for at one time.
    pub unresolved_max: u16,
    /// Time between two requests.
    pub retry: Duration,
    /// Requests before a neighbour has failed.
    pub tries: u8,
    /// How long an answer is believed.
    pub reachable: Duration,
    /// Most requests in a second.
    pub requests_per_second: u32,
}

/// Runs ARP and neighbour discovery for one port; the only writer of its adjacencies.
///
/// Time goes in with each call; what is to be sent and told comes out of [`Owner::next_output`],
/// to be emptied after each call.
#[derive(Debug)]
pub struct Owner {
    port: PortId,
    limits: OwnerLimits,
    table: AdjacencyTable,
    by_address: HashMap<IpAddr, u16>,
    entries: Vec<Option<Entry>>,
    /// Free slots, used in turn, so that a slot comes back as late as possible.
    free: VecDeque<u16>,
    tenancies: Vec<u8>,
    unresolved: u16,
    outputs: VecDeque<Output>,
    budget: TokenBucket,
    /// Half of the budget at most is for those that have not answered: a scan of addresses that
    /// nobody has must not keep the others from being asked for.
    repeats: TokenBucket,
    /// No entry is due before.
    next_due: Nanos,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: IpAddr,
    id: AdjacencyId,
    /// Set unless incomplete.
    mac: MacAddr,
    state: NeighbourState,
    /// Requests sent since the last answer.
    tries: u8,
    /// Whether a worker asked for it; what nobody asked for is forgotten, not refreshed.
    wanted: bool,
    due: Nanos,
    confirmed: Nanos,
}

impl Entry {
    /// Whether the neighbour could not be asked for too long, since requests are limited.
    fn is_starved(&self, limits: &OwnerLimits, now: Nanos) -> bool {
        let patience = limits.retry * u32::from(limits.tries) * 4;
        self.state == NeighbourState::Incomplete && now >= self.confirmed + patience
    }
}

/// A changed address is not believed so soon after the last answer (RFC 5227 has a like time).
const HOLD: Duration = Duration::from_secs(1);
/// Entries are looked over at most this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Owner {
    /// The owner of a port without neighbours; its memory is taken at once.
    pub fn new(port: PortId, limits: OwnerLimits, table: AdjacencyTable) -> Self {
        let slots = limits.entries_max.min(table.per_port());
        Self {
            port,
            limits,
            table,
            by_address: HashMap::with_capacity(usize::from(slots)),
            entries: vec![None; usize::from(slots)],
            free: (0..slots).collect(),
            tenancies: vec![0; usize::from(slots)],
            unresolved: 0,
            outputs: VecDeque::with_capacity(64),
            budget: TokenBucket::new(limits.requests_per_second),
            repeats: TokenBucket::new(limits.requests_per_second.div_ceil(2)),
            next_due: Nanos(u64::MAX),
        }
    }

    /// The port.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// A worker wants to know a neighbour. The answer comes as [`Output::Resolved`], at once when
    /// the neighbour is known or there is no room for it.
    pub fn request(&mut self, address: IpAddr, now: Nanos) {
        if let Some(slot) = self.by_address.get(&address) {
            let Some(entry) = &mut self.entries[usize::from(*slot)] else { return };
            entry.wanted = true;
            if entry.state != NeighbourState::Incomplete {
                let id = entry.id;
                self.tell(address, Some(id));
            }
            return;
        }
        if self.unresolved >= self.limits.unresolved_max || !self.make_room() {
            self.tell(address, None);
        } else if let Some(slot) = self.insert(address, None, NeighbourState::Incomplete, now) {
            self.unresolved += 1;
            self.act(slot, now);
        }
    }

    /// A neighbour was heard on the link.
    pub fn hear(&mut self, heard: Heard, now: Nanos) {
        if !heard.mac.is_station() {
            return;
        }
        let Some(slot) = self.by_address.get(&heard.address).copied() else {
            // Only who wants something of us is worth a place before we want it.
            if heard.kind == HeardKind::Request && self.make_room() {
                self.insert(heard.address, Some(heard.mac), NeighbourState::Reachable, now);
            }
            return;
        };
        let (table, limits) = (&self.table, self.limits);
        let Some(entry) = &mut self.entries[usize::from(slot)] else { return };
        let believed = match entry.state {
            NeighbourState::Incomplete => true,
            NeighbourState::Static => return,
            NeighbourState::Reachable => entry.mac == heard.mac,
            // The last request goes to all: whoever has the address by then may answer it.
            NeighbourState::Probing => {
                entry.mac == heard.mac
                    || (entry.tries >= limits.tries && heard.kind == HeardKind::Answer)
            }
        };
        if !believed {
            // Not believed, but a reason to ask the station that had the address (RFC 4861,
            // section 7.3.3): a flood of such claims causes one request each time.
            if entry.state == NeighbourState::Reachable && now >= entry.confirmed + HOLD {
                entry.due = now;
                self.next_due = now;
            }
            return;
        }
        let (id, was) = (entry.id, entry.state);
        (entry.mac, entry.state, entry.tries) = (heard.mac, NeighbourState::Reachable, 0);
        (entry.confirmed, entry.due) = (now, now + limits.reachable);
        table.set(id, heard.mac);
        self.next_due = self.next_due.min(now + limits.reachable);
        if was == NeighbourState::Incomplete {
            self.unresolved -= 1;
            self.tell(heard.address, Some(id));
        }
    }

    /// Sends what is due and gives up what did not answer. Cheap while nothing is due.
    #[inline]
    pub fn poll(&mut self, now: Nanos) {
        if now >= self.next_due {
            self.look_over(now);
        }
    }

    /// A request for this neighbour could not be sent: that try does not count, and comes again
    /// soon.
    pub fn not_sent(&mut self, address: IpAddr, now: Nanos) {
        let slot = self.by_address.get(&address);
        let entry = slot.and_then(|slot| self.entries[usize::from(*slot)].as_mut());
        if let Some(entry) = entry {
            entry.tries = entry.tries.saturating_sub(1);
            entry.due = now + LOOK_EVERY;
            self.next_due = self.next_due.min(entry.due);
        }
    }

    /// What to do next, in order.
    #[inline]
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Enters a configured neighbour, which is never asked for and never changed by what is heard.
    /// False when there is no room.
    pub fn add_static(&mut self, address: IpAddr, mac: MacAddr, now: Nanos) -> bool {
        self.remove(address);
        if !self.make_room() {
            return false;
        }
        let slot = self.insert(address, Some(mac), NeighbourState::Static, now);
        let entry = slot.and_then(|slot| self.entries[usize::from(slot)]);
        self.tell(address, entry.map(|entry| entry.id));
        true
    }

    /// Forgets a neighbour, and tells all.
    pub fn remove(&mut self, address: IpAddr) {
        if let Some(slot) = self.by_address.get(&address).copied() {
            self.forget(slot);
            self.tell(address, None);
        }
    }

    /// Every neighbour, in no order.
    pub fn list(&self) -> impl Iterator<Item = NeighbourRecord> + '_ {
        self.entries.iter().flatten().map(|entry| NeighbourRecord {
            port: self.port,
            address: entry.address,
            mac: (entry.state != NeighbourState::Incomplete).then_some(entry.mac),
            state: entry.state,
            since: entry.confirmed,
        })
    }

    /// When [`Owner::poll`] has something to do, if ever.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        (self.next_due != Nanos(u64::MAX)).then_some(self.next_due)
    }

    fn look_over(&mut self, now: Nanos) {
        let mut next = Nanos(u64::MAX);
        for slot in 0..self.entries.len() as u16 {
            let Some(entry) = &self.entries[usize::from(slot)] else { continue };
            if entry.due <= now {
                self.act(slot, now);
            }
            if let Some(entry) = &self.entries[usize::from(slot)] {
                next = next.min(entry.due);
            }
        }
        // Late by at most that, so that many neighbours do not mean a look at all of them in
        // every poll round.
        self.next_due = if next == Nanos(u64::MAX) { next } else { next.max(now + LOOK_EVERY) };
    }

    /// One entry is due.
    fn act(&mut self, slot: u16, now: Nanos) {
        let Some(entry) = &mut self.entries[usize::from(slot)] else { return };
        let address = entry.address;
        match entry.state {
            NeighbourState::Static => entry.due = Nanos(u64::MAX),
            // Nobody was told of it, so nobody must be told.
            NeighbourState::Reachable if !entry.wanted => self.forget(slot),
            _ if entry.tries >= self.limits.tries || entry.is_starved(&self.limits, now) => {
                self.forget(slot);
                self.tell(address, None);
            }
            // No request is left in this second: the try does not count.
            NeighbourState::Incomplete if entry.tries > 0 && !self.repeats.take(now) => {
                entry.due = now + self.limits.retry / 4;
            }
            _ if !self.budget.take(now) => entry.due = now + self.limits.retry / 4,
            state => {
                if state == NeighbourState::Reachable {
                    entry.state = NeighbourState::Probing;
                }
                entry.tries += 1;
                entry.due = now + self.limits.retry;
                let to_all =
                    state == NeighbourState::Incomplete || entry.tries >= self.limits.tries;
                let to = (!to_all).then_some(entry.mac);
                self.outputs.push_back(Output::Probe(address, to));
            }
        }
    }

    fn tell(&mut self, address: IpAddr, id: Option<AdjacencyId>) {
        self.outputs.push_back(Output::Resolved(Resolution { port: self.port, address, id }));
    }

    /// Whether there is a free slot, if need be that of the neighbour that nobody wanted longest.
    fn make_room(&mut self) -> bool {
        if self.free.is_empty() {
            let unwanted = (0..).zip(&self.entries).filter_map(|(slot, entry)| {
                let entry = entry.filter(|entry| !entry.wanted)?;
                (entry.state == NeighbourState::Reachable).then_some((entry.confirmed, slot))
            });
            if let Some((_, slot)) = unwanted.min() {
                self.forget(slot);
            }
        }
        !self.free.is_empty()
    }

    fn insert(
        &mut self,
        address: IpAddr,
        mac: Option<MacAddr>,
        state: NeighbourState,
        now: Nanos,
    ) -> Option<u16> {
        let slot = self.free.pop_front()?;
        let id = AdjacencyId::new(self.port, slot, self.tenancies[usize::from(slot)]);
        let due = match state {
            NeighbourState::Incomplete => now,
            NeighbourState::Static => Nanos(u64::MAX),
            NeighbourState::Reachable | NeighbourState::Probing => now + self.limits.reachable,
        };
        let wanted = state != NeighbourState::Reachable;
        if let Some(mac) = mac {
            self.table.set(id, mac);
        }
        let mac = mac.unwrap_or_default();
        self.entries[usize::from(slot)] =
            Some(Entry { address, id, mac, state, tries: 0, wanted, due, confirmed: now });
        self.by_address.insert(address, slot);
        self.next_due = self.next_due.min(due);
        Some(slot)
    }

    fn forget(&mut self, slot: u16) {
        let Some(entry) = self.entries[usize::from(slot)].take() else { return };
        self.table.clear(entry.id);
        self.by_address.remove(&entry.address);
        if entry.state == NeighbourState::Incomplete {
            self.unresolved -= 1;
        }
        let tenancy = &mut self.tenancies[usize::from(slot)];
        *tenancy = tenancy.wrapping_add(1);
        self.free.push_back(slot);
    }
}

#[cfg(test)]
mod tests;
