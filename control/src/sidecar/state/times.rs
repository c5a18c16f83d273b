//! How long a move may take, and what has to be finished of it.

use std::{pin::Pin, time::Duration};

use tokio::time::Sleep;

use crate::state_manager::operation::{Failure, FailureKind};

/// How long what must be finished may take: deleting at the source, undoing, or the end of a share.
pub(super) const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// How long a move may take: until it can not be undone any more, and what finishes or undoes it.
pub(super) struct Times {
    limit: Duration,
    late: Pin<Box<Sleep>>,
    /// Runs from the first of these tasks on.
    finish: Option<Pin<Box<Sleep>>>,
}

impl Times {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, late: Box::pin(tokio::time::sleep(limit)), finish: None }
    }

    pub(super) async fn late(&mut self) -> Failure {
        self.late.as_mut().await;
        too_late(self.limit)
    }

    pub(super) async fn finish(&mut self) -> Failure {
        let finish = || Box::pin(tokio::time::sleep(FINISH_LIMIT));
        self.finish.get_or_insert_with(finish).as_mut().await;
        too_late(FINISH_LIMIT)
    }

    pub(super) fn is_over(&self) -> bool {
        self.finish.as_ref().is_some_and(|finish| finish.is_elapsed())
    }
}

pub(super) fn too_late(limit: Duration) -> Failure {
    Failure::new(FailureKind::Late, format!("it did not end within {limit:?}"))
}
