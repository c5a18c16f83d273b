//! The Internet checksum: in full (RFC 1071), by increment (RFC 1624), and over the
//! pseudo-header of the transport protocols (RFC 9293, section 3.1; RFC 8200, section 8.1).

/// A running one's complement sum of 16-bit words, not folded.
///
/// Holds the sum of at most 2^48 words, so that no packet overflows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum with bytes added, which begin at an even place of what is summed; an odd last one is padded.
    #[inline]
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_be_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.0 += u64::from(u32::from_be_bytes(last));
        self
    }

    /// The sum with one 16-bit word added.
    #[inline]
    #[must_use]
    pub fn with_word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// What a checksum changes by when `old` becomes `new`, both of the same even length, at an
    /// even place (RFC 1624, equation 3): to be given to [`update_by`].
    #[inline]
    pub fn of_change<const N: usize>(old: &[u8; N], new: &[u8; N]) -> Self {
        Self::default().with(&old.map(|byte| !byte)).with(new)
    }

    /// The sum with another added.
    #[inline]
    #[must_use]
    pub fn with_sum(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum folded to 16 bits, with the carries added back: 0 only when all words are 0.
    #[inline]
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The checksum of `bytes`, in which the checksum field is 0.
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::default().with(bytes).checksum()
}

/// Whether `bytes`, checksum field included, sum up as they should.
#[inline]
pub fn is_valid(bytes: &[u8]) -> bool {
    Sum::default().with(bytes).fold() == 0xffff
}

/// The checksum after one 16-bit word of what it covers changed (RFC 1624, equation 3).
#[inline]
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().with_word(!checksum).with_word(!old).with_word(new).checksum()
}

/// The checksum after several words of what it covers changed, given the sum of their changes.
#[inline]
#[must_use]
pub fn update_by(checksum: u16, changes: Sum) -> u16 {
    changes.with_word(!checksum).checksum()
}

/// The sum of a pseudo-header; `src` and `dst` are both of 4 or both of 16 bytes.
#[inline]
pub fn pseudo_header(src: &[u8], dst: &[u8], protocol: u8, l4_len: u16) -> Sum {
    Sum::default().with(src).with(dst).with_word(u16::from(protocol)).with_word(l4_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn random_bytes(rng: &mut fastrand::Rng, len_max: usize) -> Vec<u8> {
        let mut bytes = vec![0; rng.usize(..=len_max)];
        rng.fill(&mut bytes);
        if rng.bool() {
            bytes.fill(if rng.bool() { 0xff } else { 0 });
        }
        bytes
    }

    #[test]
    fn the_example_of_rfc_1071_sums_as_printed() {
        let sum = Sum::default().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
    }

    #[test]
    fn random_bytes_sum_as_the_definition_says() {
        let mut rng = weir_seed::rng();
        for _ in 0..2_000 {
            let bytes = random_bytes(&mut rng, 2_000);
            assert_eq!(of(&bytes), naive(&bytes), "{bytes:?}");
        }
    }

    #[test]
    fn updating_gives_what_summing_again_gives() {
        let mut rng = weir_seed::rng();
        for _ in 0..20_000 {
            let mut bytes = [0u8; 20];
            rng.fill(&mut bytes);
            bytes[0] |= 1; // As a version number, so that the sum is never 0.
            let before = of(&bytes);
            let place = 2 + 2 * rng.usize(..9);
            let old = u16::from_be_bytes([bytes[place], bytes[place + 1]]);
            let new = if rng.bool() { rng.u16(..) } else { 0xffff * rng.u16(..2) };
            bytes[place..place + 2].copy_from_slice(&new.to_be_bytes());
            assert_eq!(update(before, old, new), of(&bytes));
        }
    }

    #[test]
    fn updating_by_several_changes_gives_what_summing_again_gives() {
        let mut rng = weir_seed::rng();
        for _ in 0..20_000 {
            let mut bytes = [0u8; 20];
            rng.fill(&mut bytes);
            bytes[0] |= 1; // As a version number, so that the sum is never 0.
            let (before, old) = (of(&bytes), bytes);
            rng.fill(&mut bytes[2..6]);
            rng.fill(&mut bytes[10..18]);
            let some = Sum::of_change::<4>(as_array(&old[2..6]), as_array(&bytes[2..6]));
            let rest = Sum::of_change::<8>(as_array(&old[10..18]), as_array(&bytes[10..18]));
            assert_eq!(update_by(before, some.with_sum(rest)), of(&bytes));
        }
    }

    fn as_array<const N: usize>(bytes: &[u8]) -> &[u8; N] {
        bytes.try_into().unwrap()
    }

    #[test]
    fn a_checksum_put_in_its_place_makes_the_whole_valid() {
        let mut bytes =
            *b"\x45\x00\x00\x1c\x00\x00\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02";
        assert!(!is_valid(&bytes));
        let checksum = of(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert!(is_valid(&bytes));
    }
}
