//! How much each address of a pool or a service is used, as an instance knows it.

use std::net::IpAddr;

use weir_state_transfer::merge::{Counter, Gauge, Join, Life, Lives, Replica};

use crate::nf::life::{life, rest_of_life};
use crate::nf::numbered::Numbered;

/// How much an external address is used, by all instances that have told each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Flows that use the address as their source.
    pub open: Gauge,
    /// Flows that did not begin because whatever they could be translated to was taken; counted
    /// at the address of their host, or where that keeps its own at that of their service.
    pub exhausted: Counter,
}

/// The usages of external addresses that an instance knows.
#[derive(Clone, Debug)]
pub(super) struct Usages {
    known: Numbered<IpAddr, Known>,
    /// Under this replica usages count that are new.
    replica: Replica,
    /// Its last replica is of this incarnation.
    last: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) usage: Usage,
    /// Under which it counts. A usage that was forgotten begins at 0, which a copy from before must
    /// not be taken for newer than; so it counts under another replica then.
    replica: Replica,
}

impl Usages {
    /// Nothing known yet of some addresses.
    pub(super) fn new<'a>(
        addresses: impl IntoIterator<Item = &'a IpAddr>,
        replica: Replica,
    ) -> Self {
        let last = life(replica).last();
        let mut usages = Self { known: Numbered::default(), replica, last };
        for address in addresses {
            usages.entry(*address);
        }
        usages
    }

    pub(super) fn begins(&mut self, address: IpAddr) {
        let Known { usage, replica } = self.entry(address);
        usage.open.up.add(*replica, 1);
    }

    pub(super) fn ends(&mut self, address: IpAddr) {
        let Known { usage, replica } = self.entry(address);
        usage.open.down.add(*replica, 1);
    }

    pub(super) fn is_exhausted(&mut self, address: IpAddr) {
        let Known { usage, replica } = self.entry(address);
        usage.exhausted.add(*replica, 1);
    }

    /// Joins a copy with what is known here; whether that fits.
    pub(super) fn join(&mut self, address: IpAddr, other: &Usage) -> bool {
        self.change(address, |usage, _| usage.join(other))
    }

    /// Takes in what another has given away; whether that fits.
    pub(super) fn inherit(
        &mut self,
        address: IpAddr,
        given: Usage,
        by: Replica,
        ended: &Lives,
    ) -> bool {
        self.change(address, |usage, heir| usage.inherit(given, by, heir, ended))
    }

    /// As which replica the usage of an address is counted here.
    pub(super) fn counted_as(&self, address: &IpAddr) -> Option<Replica> {
        self.known.get(address).map(|known| known.replica)
    }

    /// Whether a copy leaves out what is counted here, or would be.
    pub(super) fn are_retired_by(&self, address: &IpAddr, copy: &Usage) -> bool {
        let now = self.counted_as(address).unwrap_or(self.replica);
        copy.retires(rest_of_life(now, self.last))
    }

    /// Forgets a usage, which is counted anew; whether it was known.
    pub(super) fn remove(&mut self, address: &IpAddr) -> bool {
        let removed = self.known.remove(address).is_some();
        if removed {
            self.replica.incarnation = self.last.min(self.replica.incarnation.saturating_add(1));
        }
        removed
    }

    pub(super) fn known(&self) -> &Numbered<IpAddr, Known> {
        &self.known
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&IpAddr, &Usage)> {
        self.known.iter().map(|(address, known)| (address, &known.usage))
    }

    /// Changes a usage, if it is no larger than it may be then.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Usage, Replica)) -> bool {
        let known = self.known.get(&address);
        let (mut usage, replica) = known.map_or_else(
            || (Usage::default(), self.replica),
            |known| (known.usage.clone(), known.replica),
        );
        change(&mut usage, replica);
        let fits = usage.fits();
        if fits {
            self.entry(address).usage = usage;
        }
        fits
    }

    fn entry(&mut self, address: IpAddr) -> &mut Known {
        let replica = self.replica;
        self.known.entry(address, || Known { usage: Usage::default(), replica })
    }
}

impl Usage {
    /// Whether each count has as few parts as fit in bytes.
    fn fits(&self) -> bool {
        self.open.fits() && self.exhausted.fits()
    }

    /// Leaves out what lives have counted that others have taken over.
    pub(super) fn retire(&mut self, lives: &Lives) {
        self.open.retire(lives);
        self.exhausted.retire(lives);
    }

    /// Whether it leaves out what some of a life counts; see [`Counter::retires`].
    pub(super) fn retires(&self, life: Life) -> bool {
        self.open.retires(life) || self.exhausted.retires(life)
    }

    /// Joins what its holder has given away; see [`Counter::inherit`].
    fn inherit(&mut self, given: Self, by: Replica, heir: Replica, ended: &Lives) {
        self.open.inherit(given.open, by, heir, ended);
        self.exhausted.inherit(given.exhausted, by, heir, ended);
    }
}

impl Join for Usage {
    fn join(&mut self, other: &Self) {
        self.open.join(&other.open);
        self.exhausted.join(&other.exhausted);
    }
}
