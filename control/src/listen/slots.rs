//! The slots of a listener: bounded in all, and for each address that callers come from.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The part of an IPv6 address that a host does not choose for itself.
const SUBNET: u128 = !0 << 64;

/// A slot that is taken until it is dropped: one of all and, where sources have shares, one of
/// its source's.
pub(super) type Slot = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// Slots of one kind.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    each: usize,
    /// What is left to each source that has taken a slot; one that has none may be forgotten.
    shares: HashMap<IpAddr, Arc<Semaphore>>,
}

impl Slots {
    /// So many in all, of which one source may have `each`.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), each, shares: HashMap::new() }
    }

    /// Waits until one is free, whoever it is for.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        let free = Arc::clone(&self.free).acquire_owned().await;
        free.expect("nobody closes the semaphore")
    }

    /// Gives a free one to a caller, unless those from its source have their share.
    pub(super) fn take(&mut self, free: OwnedSemaphorePermit, caller: IpAddr) -> Option<Slot> {
        let each = self.each;
        self.shares.retain(|_, left| left.available_permits() < each);
        let left = self.shares.entry(source(caller)).or_insert_with(|| Semaphore::new(each).into());
        let share = Arc::clone(left).try_acquire_owned().ok()?;
        Some((free, Some(share)))
    }
}

/// What tells one caller's host from another's: the address; of IPv6, its /64, as a host may
/// take any address of that.
fn source(caller: IpAddr) -> IpAddr {
    match caller.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & SUBNET).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(slots: &mut Slots, caller: &str) -> Option<Slot> {
        let free = slots.free().await;
        slots.take(free, caller.parse().unwrap())
    }

    #[tokio::test]
    async fn a_source_has_its_share_and_no_more() {
        let mut slots = Slots::new(8, 2);
        let first = take(&mut slots, "192.0.2.1").await.unwrap();
        let _second = take(&mut slots, "::ffff:192.0.2.1").await.unwrap();
        assert!(take(&mut slots, "192.0.2.1").await.is_none());
        let _other = take(&mut slots, "192.0.2.2").await.unwrap();
        drop(first);
        let _again = take(&mut slots, "192.0.2.1").await.unwrap();
        assert!(take(&mut slots, "192.0.2.1").await.is_none());
        assert_eq!(slots.free.available_permits(), 8 - 3, "what was refused took none");
    }

    #[tokio::test]
    async fn the_addresses_of_an_ipv6_subnet_are_one_source() {
        let mut slots = Slots::new(8, 2);
        let _first = take(&mut slots, "2001:db8:0:1::1").await.unwrap();
        let _second = take(&mut slots, "2001:db8:0:1:ffff::2").await.unwrap();
        assert!(take(&mut slots, "2001:db8:0:1::3").await.is_none());
        assert!(take(&mut slots, "2001:db8:0:2::3").await.is_some());
    }

    #[tokio::test]
    async fn sources_without_slots_are_forgotten() {
        let mut slots = Slots::new(2, 1);
        for host in 0..=u8::MAX {
            drop(take(&mut slots, &format!("192.0.2.{host}")).await.unwrap());
        }
        assert_eq!(slots.shares.len(), 1);
    }
}
