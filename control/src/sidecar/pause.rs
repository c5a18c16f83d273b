//! Where operations stand still, for tests.

use std::str::FromStr;

use crate::{scaling::operation::StepName, state_manager::lead::Stage};

/// Before what operations stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// A step of a scale operation, as in `move:2`.
    Scale(StepName),
    /// A stage of a move whose packets are held, as in `carry`.
    Move(Stage),
}

/// A text that names neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a step of scaling, as in move:2, nor a stage of a move, as in carry")]
pub struct PauseError;

impl FromStr for Pause {
    type Err = PauseError;

    fn from_str(text: &str) -> Result<Self, PauseError> {
        let stage = Stage::ALL.iter().find(|(_, word)| *word == text);
        match stage {
            Some((stage, _)) => Ok(Self::Move(*stage)),
            None => text.parse().map(Self::Scale).map_err(|_| PauseError),
        }
    }
}

impl Pause {
    /// For each of the two.
    pub(super) fn divide(pause: Option<Self>) -> (Option<StepName>, Option<Stage>) {
        match pause {
            None => (None, None),
            Some(Self::Scale(step)) => (Some(step), None),
            Some(Self::Move(stage)) => (None, Some(stage)),
        }
    }
}
