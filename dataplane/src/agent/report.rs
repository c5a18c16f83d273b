//! Reports that the workers give piece by piece.

use std::sync::mpsc::{Receiver, TryRecvError};

use tokio::sync::watch;

/// The pieces of a report, as they arrive at the node.
#[derive(Debug)]
pub(super) struct Report<T> {
    pieces: Receiver<Vec<T>>,
    changes: watch::Receiver<u64>,
}

impl<T> Report<T> {
    /// `changes` tells that the node may have passed a piece on.
    pub(super) fn new(pieces: Receiver<Vec<T>>, changes: watch::Receiver<u64>) -> Self {
        Self { pieces, changes }
    }

    /// The next piece, `None` at the end of the report.
    pub(super) async fn next(&mut self) -> Option<Vec<T>> {
        loop {
            self.changes.mark_unchanged();
            match self.pieces.try_recv() {
                Ok(piece) => return Some(piece),
                Err(TryRecvError::Disconnected) => return None,
                // The node ends before its report when the process does.
                Err(TryRecvError::Empty) => self.changes.changed().await.ok()?,
            }
        }
    }
}
