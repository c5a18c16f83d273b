//! The steering hash: the Toeplitz hash that NICs compute, with a key that makes it symmetric.
//!
//! A Toeplitz key that repeats every 16 bits treats every 16-bit word of its input alike, so the
//! hash depends only on the XOR of the words and is the same for both directions of a flow
//! (Woo and Park, "Scalable TCP Session Monitoring with Symmetric Receive-side Scaling", 2012).
//! The XOR is then hashed by two table look-ups.

use crate::bucket::{BUCKETS, Bucket};
use crate::flow_key::FlowKey;
use crate::protocol;

/// Symmetric Toeplitz hash of flow keys, equal to what a NIC given [`toeplitz_key`] computes.
///
/// The input is source address, destination address and, for TCP and UDP, the ports.
///
/// [`toeplitz_key`]: SteeringHash::toeplitz_key
#[derive(Clone, PartialEq, Eq)]
pub struct SteeringHash {
    key: u16,
    high: [u16; 256],
    low: [u16; 256],
}

impl SteeringHash {
    /// The hash with this key, repeated.
    ///
    /// With a key that does not [`spread`](spreads), flows that differ little share few buckets.
    pub fn new(key: u16) -> Self {
        Self {
            key,
            high: std::array::from_fn(|byte| hash_word(key, (byte as u16) << 8)),
            low: std::array::from_fn(|byte| hash_word(key, byte as u16)),
        }
    }

    /// The hash of a flow; that of its reverse is the same.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u32 {
        // In the mapped form of IPv4 addresses the constant words cancel out, so that the XOR is
        // that of the four bytes alone, as in a NIC.
        let addresses =
            fold(u128::from_ne_bytes(*key.src_octets()) ^ u128::from_ne_bytes(*key.dst_octets()));
        // Without a branch: TCP and UDP alternate at random in real traffic.
        let has_ports = (key.protocol() == protocol::TCP) | (key.protocol() == protocol::UDP);
        let ports = (key.src_port() ^ key.dst_port()) & u16::from(has_ports).wrapping_neg();
        let [high, low] = (addresses ^ ports).to_be_bytes();
        let half = self.high[usize::from(high)] ^ self.low[usize::from(low)];
        u32::from(half) << 16 | u32::from(half)
    }

    /// The bucket of a flow.
    #[inline]
    pub fn bucket(&self, key: &FlowKey) -> Bucket {
        Bucket::of(self.hash(key))
    }

    /// The words that leave a flow in its bucket when they are added to one of its ports, or to
    /// any other word of it, by XOR: 0 among them, in their order.
    ///
    /// The hash is linear, so these are the same for all flows: the null space of its low bits.
    /// There are 16 of them with a key that [`spreads`], and more with another.
    pub fn neutral_words(&self) -> impl Iterator<Item = u16> + '_ {
        (0..=u16::MAX).filter(|word| {
            let [high, low] = word.to_be_bytes();
            let half = self.high[usize::from(high)] ^ self.low[usize::from(low)];
            Bucket::of(half.into()).index() == 0
        })
    }

    /// The 16-bit key.
    pub fn key(&self) -> u16 {
        self.key
    }

    /// The key in the form that NICs take.
    pub fn toeplitz_key(&self) -> [u8; 40] {
        let [high, low] = self.key.to_be_bytes();
        std::array::from_fn(|index| if index % 2 == 0 { high } else { low })
    }
}

impl std::fmt::Debug for SteeringHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SteeringHash({:#06x})", self.key)
    }
}

/// The one word that stands for an address in the hash: the XOR of its words.
///
/// An address may take the place of another in a flow, which then stays in its bucket if a port
/// changes by the XOR of the words of both, or by that and one of
/// [`neutral_words`](SteeringHash::neutral_words).
#[inline]
pub fn address_word(octets: &[u8; 16]) -> u16 {
    fold(u128::from_ne_bytes(*octets))
}

/// The XOR of eight words in network order.
#[inline]
fn fold(words: u128) -> u16 {
    let words = (words >> 64) as u64 ^ words as u64;
    let words = (words >> 32) as u32 ^ words as u32;
    u16::from_be((words >> 16) as u16 ^ words as u16)
}

/// A key that [`spreads`], chosen by 64 random bits.
pub fn random_key(entropy: u64) -> u16 {
    // SplitMix64 (Steele, Lea and Flood, 2014): its output is a permutation of its counter, so
    // every key comes up and the search ends.
    let mut state = entropy;
    loop {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let key = (mixed >> 48) as u16;
        if spreads(key) {
            return key;
        }
    }
}

/// Whether the low 12 bits of the hash have full rank over the low 12 bits of the words, so that
/// flows which differ only in 4,096 neighbouring ports or addresses reach every bucket.
pub fn spreads(key: u16) -> bool {
    let mut rows: [u16; BUCKETS.ilog2() as usize] =
        std::array::from_fn(|bit| hash_word(key, 1 << bit));
    for column in 0..rows.len() {
        let Some(pivot) = (column..rows.len()).find(|&row| rows[row] >> column & 1 == 1) else {
            return false;
        };
        rows.swap(column, pivot);
        let (pivot, below) = rows[column..].split_first_mut().expect("column < len");
        below.iter_mut().filter(|row| **row >> column & 1 == 1).for_each(|row| *row ^= *pivot);
    }
    true
}

/// Either half of the hash of one 16-bit word: every input bit adds the key rotated to it.
fn hash_word(key: u16, word: u16) -> u16 {
    (0..16)
        .filter(|bit| word >> (15 - bit) & 1 == 1)
        .fold(0, |hash, bit| hash ^ key.rotate_left(bit))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::id::ServiceId;

    /// The definition, bit by bit (Microsoft, "RSS hashing types").
    fn naive_toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
        let key_bit = |index: usize| u32::from(key[index / 8] >> (7 - index % 8) & 1);
        let window = |start: usize| (start..start + 32).fold(0, |w, bit| w << 1 | key_bit(bit));
        (0..input.len() * 8)
            .filter(|bit| input[bit / 8] >> (7 - bit % 8) & 1 == 1)
            .fold(0, |hash, bit| hash ^ window(bit))
    }

    fn nic_input(key: &FlowKey) -> Vec<u8> {
        let skip = if key.is_v4() { 12 } else { 0 };
        let mut input = [&key.src_octets()[skip..], &key.dst_octets()[skip..]].concat();
        if matches!(key.protocol(), protocol::TCP | protocol::UDP) {
            input.extend(key.src_port().to_be_bytes());
            input.extend(key.dst_port().to_be_bytes());
        }
        input
    }

    fn random_flow(rng: &mut fastrand::Rng) -> FlowKey {
        let ports = (rng.u16(..), rng.u16(..));
        let protocol = [protocol::TCP, protocol::UDP, protocol::ICMP][rng.usize(..3)];
        if rng.bool() {
            let (src, dst): (u32, u32) = (rng.u32(..), rng.u32(..));
            FlowKey::v4(src.into(), dst.into(), ports, protocol, ServiceId(0))
        } else {
            let (src, dst): (u128, u128) = (rng.u128(..), rng.u128(..));
            FlowKey::v6(src.into(), dst.into(), ports, protocol, ServiceId(0))
        }
    }

    #[test]
    fn the_definition_agrees_with_published_vectors() {
        // Microsoft, "Verifying the RSS Hash Calculation".
        const KEY: [u8; 40] = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let (src, dst) = (Ipv4Addr::new(66, 9, 149, 187), Ipv4Addr::new(161, 142, 100, 80));
        let tcp = FlowKey::v4(src, dst, (2794, 1766), protocol::TCP, ServiceId(0));
        let other = FlowKey::v4(src, dst, (0, 0), protocol::ICMP, ServiceId(0));
        assert_eq!(naive_toeplitz(&KEY, &nic_input(&tcp)), 0x51cc_c178);
        assert_eq!(naive_toeplitz(&KEY, &nic_input(&other)), 0x323e_8fc2);

        let src: Ipv6Addr = "3ffe:2501:200:1fff::7".parse().unwrap();
        let dst: Ipv6Addr = "3ffe:2501:200:3::1".parse().unwrap();
        let tcp = FlowKey::v6(src, dst, (2794, 1766), protocol::TCP, ServiceId(0));
        assert_eq!(naive_toeplitz(&KEY, &nic_input(&tcp)), 0x4020_7d3d);
    }

    #[test]
    fn equals_the_definition_and_is_symmetric() {
        let mut rng = weir_seed::rng();
        for _ in 0..2_000 {
            let hash = SteeringHash::new(rng.u16(..));
            let flow = random_flow(&mut rng);
            assert_eq!(hash.hash(&flow), naive_toeplitz(&hash.toeplitz_key(), &nic_input(&flow)));
            assert_eq!(hash.hash(&flow), hash.hash(&flow.reversed()));
            assert_eq!(hash.bucket(&flow).index() as u32, hash.hash(&flow) & 0xfff);
        }
    }

    #[test]
    fn accepts_exactly_the_keys_whose_neighbouring_words_reach_every_bucket() {
        let accepted = (0..=u16::MAX).step_by(7).filter(|&key| {
            let mut reached = [false; BUCKETS];
            (0..BUCKETS as u16)
                .for_each(|word| reached[usize::from(hash_word(key, word)) % BUCKETS] = true);
            assert_eq!(spreads(key), reached == [true; BUCKETS], "key {key:#06x}");
            spreads(key)
        });
        let accepted = accepted.count();
        assert!((1_000..5_000).contains(&accepted), "{accepted} of 9363");
        assert!(!spreads(0) && !spreads(0xffff) && !spreads(0x5555));
    }

    #[test]
    fn a_random_key_spreads_ports_and_addresses_evenly() {
        let seed = weir_seed::seed();
        for entropy in 0..50 {
            let hash = SteeringHash::new(random_key(seed.wrapping_add(entropy)));
            let (mut by_port, mut by_address) = ([0; BUCKETS], [0; BUCKETS]);
            for n in 0..=u16::MAX {
                let [high, low] = n.to_be_bytes();
                let flow = |src: [u8; 4], port| {
                    let dst = Ipv4Addr::new(192, 0, 2, 1);
                    FlowKey::v4(src.into(), dst, (port, 53), protocol::UDP, ServiceId(0))
                };
                by_port[hash.bucket(&flow([10, 0, 0, 1], n)).index()] += 1;
                by_address[hash.bucket(&flow([10, 0, high, low], 7)).index()] += 1;
            }
            assert!(by_port.iter().chain(&by_address).all(|flows| *flows == 16), "{hash:?}");
        }
    }

    /// Every port is tried against the hash: those that keep a flow in its bucket, when another
    /// address takes the place of its source, are the ones that are computed, and no others.
    #[test]
    fn exactly_the_ports_that_are_computed_keep_a_flow_in_its_bucket() {
        let mut rng = weir_seed::rng();
        for round in 0..40 {
            let spread = round % 4 != 0;
            let hash =
                SteeringHash::new(if spread { random_key(rng.u64(..)) } else { rng.u16(..) });
            let (flow, other) = (tcp_flow(&mut rng), tcp_flow(&mut rng));
            if flow.is_v4() != other.is_v4() {
                continue;
            }
            let translated = |port| {
                let ports = (port, flow.dst_port());
                let key = FlowKey::new(other.src(), flow.dst(), ports, 6, ServiceId(0));
                key.unwrap()
            };
            let bucket = hash.bucket(&flow);
            let found: Vec<u16> =
                (0..=u16::MAX).filter(|port| hash.bucket(&translated(*port)) == bucket).collect();
            let by = address_word(flow.src_octets()) ^ address_word(other.src_octets());
            let mut computed: Vec<u16> =
                hash.neutral_words().map(|word| flow.src_port() ^ by ^ word).collect();
            computed.sort_unstable();
            assert_eq!(computed, found, "{hash:?}, {flow} by {}", other.src());
            assert!(!spread || found.len() == 16);
        }
    }

    fn tcp_flow(rng: &mut fastrand::Rng) -> FlowKey {
        loop {
            let flow = random_flow(rng);
            if flow.protocol() == protocol::TCP {
                return flow;
            }
        }
    }
}
