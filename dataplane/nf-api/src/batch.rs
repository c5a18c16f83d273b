//! Chunks in messages: what both sides may put into one.

use std::mem;

/// Chunks of one message at most.
pub(crate) const CHUNKS_MAX: usize = 256;
/// Bytes of the chunks of one message together at most, unless it is one chunk.
const BYTES_MAX: usize = 1 << 20;
/// Bytes of a message at most; the largest chunk fits.
pub(crate) const MESSAGE_MAX: usize = 2 << 20;

const _: () = assert!(weir_state_transfer::chunk::CHUNK_MAX + 64 < MESSAGE_MAX);

/// Divides chunks into messages, in their order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    chunks: Vec<Vec<u8>>,
    bytes: usize,
}

impl Batch {
    /// Adds a chunk; the chunks of a message, once it would be too much for it.
    pub(crate) fn push(&mut self, chunk: Vec<u8>) -> Option<Vec<Vec<u8>>> {
        let is_full = self.chunks.len() == CHUNKS_MAX || self.bytes + chunk.len() > BYTES_MAX;
        let full = if is_full { self.rest() } else { None };
        self.bytes += chunk.len();
        self.chunks.push(chunk);
        full
    }

    /// What is left, if anything is.
    pub(crate) fn rest(&mut self) -> Option<Vec<Vec<u8>>> {
        self.bytes = 0;
        Some(mem::take(&mut self.chunks)).filter(|chunks| !chunks.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(lengths: &[usize]) -> Vec<Vec<usize>> {
        let mut batch = Batch::default();
        let mut found: Vec<_> =
            lengths.iter().filter_map(|length| batch.push(vec![0; *length])).collect();
        found.extend(batch.rest());
        found.iter().map(|chunks| chunks.iter().map(Vec::len).collect()).collect()
    }

    #[test]
    fn a_message_has_so_many_chunks_and_bytes_at_most_or_one_chunk() {
        let none: [Vec<usize>; 0] = [];
        assert_eq!(batches(&[]), none);
        let more = BYTES_MAX + 9;
        assert_eq!(batches(&[more, 1, 2, more]), [vec![more], vec![1, 2], vec![more]]);
        assert_eq!(batches(&[BYTES_MAX - 3, 3, 1]), [vec![BYTES_MAX - 3, 3], vec![1]]);
        let many = batches(&[1; 600]);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 88]);
    }
}
