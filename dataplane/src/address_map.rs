//! What is known of addresses, for a look at every packet: most addresses that nothing is known of
//! are told by one bit.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use foldhash::fast::RandomState;

/// Values by address. It is made once and does not change.
///
/// In front of the table is a bit for each of so many hashes, of which addresses that are in it set
/// at most one in [`BITS_EACH`], however many these are and whatever they have in common. Who chooses
/// addresses on purpose comes to the table, whose hash is keyed.
#[derive(Clone, PartialEq)]
pub(crate) struct AddressMap<T> {
    marks: Box<[u64]>,
    /// What is shifted out of a hash to get the number of its mark.
    shift: u32,
    /// Apart, as it is seldom looked into.
    table: Box<Table<T>>,
}

#[derive(Clone, PartialEq)]
struct Table<T>(HashMap<IpAddr, T, RandomState>);

/// Addresses, of which a packet's may be one.
pub(crate) type AddressSet = AddressMap<()>;

/// Marks for each address, in bits.
const BITS_EACH: usize = 16;

impl<T> AddressMap<T> {
    /// A map of these; of an address that comes twice the later value counts.
    pub(crate) fn new(values: impl IntoIterator<Item = (IpAddr, T)>) -> Self {
        let values: HashMap<_, _, RandomState> = values.into_iter().collect();
        let bits = (values.len() * BITS_EACH).next_power_of_two().max(64);
        let shift = u64::BITS - bits.trailing_zeros();
        let mut marks = vec![0; bits / 64].into_boxed_slice();
        for address in values.keys() {
            let mark = hash(&mapped(address)) >> shift;
            marks[mark as usize / 64] |= 1u64 << (mark & 63);
        }
        Self { marks, shift, table: Box::new(Table(values)) }
    }

    /// Whether an address, as 16 bytes with IPv4 in mapped form, is worth looking for: false for most
    /// that are not in it.
    #[inline]
    pub(crate) fn may_have(&self, address: &[u8; 16]) -> bool {
        let mark = hash(address) >> self.shift;
        self.marks.get(mark as usize / 64).is_some_and(|marks| marks >> (mark & 63) & 1 != 0)
    }

    /// The value of an address.
    #[inline]
    pub(crate) fn get(&self, address: &IpAddr) -> Option<&T> {
        if self.may_have(&mapped(address)) { self.table.0.get(address) } else { None }
    }

    /// Whether an address is in it.
    #[inline]
    pub(crate) fn has(&self, address: &IpAddr) -> bool {
        self.get(address).is_some()
    }
}

impl AddressSet {
    /// A set of these.
    pub(crate) fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::new(addresses.into_iter().map(|address| (address, ())))
    }
}

impl<T> Default for AddressMap<T> {
    fn default() -> Self {
        Self::new([])
    }
}

impl<T: Eq> Eq for AddressMap<T> {}

/// The order of its addresses is another each time that it is made.
impl<T> fmt::Debug for AddressMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} addresses", self.table.0.len())
    }
}

/// An address as 16 bytes, IPv4 in mapped form.
#[inline]
pub(crate) fn mapped(address: &IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => Ipv6Addr::octets(address),
    }
}

/// The upper bits of the product depend on all of the address.
#[inline]
fn hash(address: &[u8; 16]) -> u64 {
    let bits = u128::from_be_bytes(*address);
    let folded = (bits >> 64) as u64 ^ bits as u64;
    folded.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn v4(bits: u32) -> IpAddr {
        IpAddr::V4(bits.into())
    }

    #[test]
    fn it_is_a_map() {
        let mut rng = weir_seed::rng();
        for count in [0, 1, 2, 3, 100, 5_000] {
            let mut address = || match rng.bool() {
                true => v4(rng.u32(0x0a00_0000..0x0a00_4000)),
                false => IpAddr::V6((0x2001_0db8 << 96 | rng.u128(..0x4000)).into()),
            };
            let model: BTreeMap<IpAddr, u16> = (0..count).map(|n| (address(), n)).collect();
            let map = AddressMap::new(model.clone());
            for _ in 0..20_000 {
                let wanted = address();
                assert_eq!(map.get(&wanted), model.get(&wanted), "{wanted}");
                assert!(map.may_have(&mapped(&wanted)) || !model.contains_key(&wanted));
            }
            assert!(model.iter().all(|(address, value)| map.get(address) == Some(value)));
        }
        assert!(!AddressSet::default().has(&v4(0)));
    }

    #[test]
    fn an_ipv6_address_that_stands_for_an_ipv4_one_is_another() {
        let set = AddressSet::of([v4(0x0a00_0001)]);
        let other: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        assert!(set.has(&v4(0x0a00_0001)) && !set.has(&other));
    }

    /// A pool has addresses of every last byte, and as many as there may be.
    #[test]
    fn most_other_addresses_are_told_by_their_mark_whatever_is_in_it() {
        for count in [4, 256, 4_096, 16_384] {
            let set = AddressSet::of((0..count).map(|n| v4(0xc000_0200 + n)));
            let others = (0..100_000).map(|n| mapped(&v4(0x0a00_0000 + 7 * n)));
            let looked_for = others.filter(|other| set.may_have(other)).count();
            assert!(looked_for < 12_000, "{looked_for} of 100000 with {count} addresses");
        }
    }
}
