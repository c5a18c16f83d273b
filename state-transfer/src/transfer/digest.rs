//! The digest of all chunks of a transfer, in their order.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 (FIPS 180-4) over the chunks, each behind its length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes a digest, chunk by chunk.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The next chunk.
    pub fn add(&mut self, chunk: &[u8]) {
        // So that no two rows of chunks are the same bytes.
        self.0.update((chunk.len() as u64).to_be_bytes());
        self.0.update(chunk);
    }

    /// The digest of all that was added.
    pub fn digest(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(chunks: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::default();
        chunks.iter().for_each(|chunk| hasher.add(chunk));
        hasher.digest()
    }

    #[test]
    fn order_and_boundaries_of_chunks_count() {
        let whole = of(&[b"ab", b"c"]);
        assert_eq!(whole, of(&[b"ab", b"c"]));
        for other in [of(&[b"c", b"ab"]), of(&[b"a", b"bc"]), of(&[b"abc"]), of(&[b"ab"]), of(&[])]
        {
            assert_ne!(whole, other);
        }
    }

    #[test]
    fn nothing_has_the_digest_of_the_standard() {
        assert_eq!(format!("{:?}", of(&[])), "e3b0c44298fc1c14");
    }
}
