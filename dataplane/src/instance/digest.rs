//! The rolling digest of a flow: shows a lost, repeated, swapped or changed packet.

/// Bytes of a packet that enter the digest, from the network header on.
///
/// They hold the addresses, the IP id and the transport header with its checksum, which covers
/// the rest of the payload; the cost per packet stays bounded.
const SPAN: usize = 64;

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// The digest of a flow after `packet`, which is given from its network header on, as it was
/// forwarded; `previous` is the digest before it, 0 for a new flow.
///
/// Equal sequences give equal digests on every machine and in every process.
#[inline]
pub fn digest(previous: u64, packet: &[u8]) -> u64 {
    let span = &packet[..packet.len().min(SPAN)];
    let (words, rest) = span.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let seed = fold(previous ^ packet.len() as u64, MULTIPLIER);
    words
        .iter()
        .chain(std::iter::once(&last))
        .fold(seed, |state, word| fold(state ^ u64::from_le_bytes(*word), MULTIPLIER))
}

/// Both halves of the product, so that every input bit reaches every output bit.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a.rotate_left(29) ^ b) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(packets: &[&[u8]]) -> u64 {
        packets.iter().fold(0, |state, packet| digest(state, packet))
    }

    #[test]
    fn tells_a_loss_a_repetition_a_swap_and_a_change() {
        let (a, b, c) =
            (b"packet one".as_slice(), b"packet two".as_slice(), b"packet 333".as_slice());
        let whole = of(&[a, b, c]);
        assert_eq!(whole, of(&[a, b, c]));
        for wrong in [of(&[a, c]), of(&[a, b, b, c]), of(&[a, c, b]), of(&[a, b, b"packet 334"])] {
            assert_ne!(whole, wrong);
        }
    }

    #[test]
    fn every_bit_of_the_span_and_the_length_count() {
        let packet = [0x5A; SPAN];
        let whole = digest(7, &packet);
        for bit in 0..SPAN * 8 {
            let mut changed = packet;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(digest(7, &changed), whole, "bit {bit}");
        }
        assert_ne!(digest(7, &packet[..SPAN - 1]), whole);
        assert_ne!(digest(7, &[0x5A; SPAN + 1]), whole);
    }

    #[test]
    fn empty_packets_count_too() {
        assert_ne!(of(&[b""]), of(&[b"", b""]));
    }
}
