//! The slots of a listener: bounded in all, and for each address that callers come from.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

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

/// Handshakes under way: so many in all, and with each source. When there are too many, one of the
/// source that has most gives way, the oldest: a few sources that say nothing lock nobody out.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    each: usize,
    under_way: Arc<Mutex<UnderWay>>,
}

/// By their numbers, the oldest first: with whom, and how it is told to give way.
#[derive(Debug, Default)]
struct UnderWay {
    all: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    last: u64,
}

/// A handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    number: u64,
    way: oneshot::Receiver<()>,
    under_way: Arc<Mutex<UnderWay>>,
}

impl Handshakes {
    /// So many in all, and with one source `each`.
    pub(super) fn new(most: usize, each: usize) -> Self {
        Self { most, each, under_way: Arc::default() }
    }

    /// Begins one with a caller, unless its source has its share, or as many as any other has when
    /// there are too many.
    pub(super) fn begin(&self, caller: IpAddr) -> Option<Handshake> {
        let (caller, mut under_way) = (source(caller), lock(&self.under_way));
        let own = under_way.count(caller);
        if own >= self.each {
            return None;
        }
        if under_way.all.len() >= self.most {
            let numbers = under_way.all.iter().map(|(number, (of, _))| (*number, *of));
            let most = numbers.map(|(number, of)| (under_way.count(of), number));
            // Of those of the sources that have most, the oldest.
            let (count, oldest) = most.max_by_key(|(count, number)| (*count, !number))?;
            if count <= own {
                return None;
            }
            // Its task may have ended.
            let (_, tell) = under_way.all.remove(&oldest)?;
            let _ended = tell.send(());
        }
        under_way.last += 1;
        let (number, (tell, way)) = (under_way.last, oneshot::channel());
        under_way.all.insert(number, (caller, tell));
        Some(Handshake { number, way, under_way: Arc::clone(&self.under_way) })
    }
}

impl UnderWay {
    fn count(&self, source: IpAddr) -> usize {
        self.all.values().filter(|(of, _)| *of == source).count()
    }
}

impl Handshake {
    /// Ends when another has its place.
    pub(super) async fn gives_way(&mut self) {
        // The sender is dropped with its place only.
        let _told = (&mut self.way).await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.under_way).all.remove(&self.number);
    }
}

fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().expect("nobody panics while it is held")
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
    async fn a_source_that_has_most_handshakes_gives_way_with_its_oldest() {
        let handshakes = Handshakes::new(4, 2);
        let begin = |caller: &str| handshakes.begin(caller.parse().unwrap());
        let mut first = begin("192.0.2.1").unwrap();
        let _others = [begin("192.0.2.2").unwrap(), begin("192.0.2.2").unwrap()];
        let _second = begin("192.0.2.1").unwrap();
        assert!(begin("192.0.2.1").is_none(), "it has its share");
        let _newcomer = begin("192.0.2.3").unwrap();
        first.gives_way().await;
        // Then that of which two are left; who has as many as any other waits.
        let _again = begin("192.0.2.3").unwrap();
        assert!(begin("192.0.2.3").is_none());
        assert_eq!(lock(&handshakes.under_way).all.len(), 4);
        drop(first);
        assert_eq!(lock(&handshakes.under_way).all.len(), 4, "its place is another's");
    }

    #[tokio::test]
    async fn handshakes_that_have_ended_leave_their_places() {
        let handshakes = Handshakes::new(2, 2);
        for _ in 0..10 {
            let one = handshakes.begin("192.0.2.1".parse().unwrap());
            assert!(one.is_some());
        }
        assert!(lock(&handshakes.under_way).all.is_empty());
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
