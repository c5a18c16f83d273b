//! The two ends of a connection.

use std::ops::{Index, IndexMut};

/// An end of a connection, and the direction from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who began.
    Orig,
    /// Who answers.
    Resp,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Orig, Self::Resp];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Orig => Self::Resp,
            Self::Resp => Self::Orig,
        }
    }
}

/// Something that there is of both ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Both<T> {
    /// That of who began.
    pub orig: T,
    /// That of who answers.
    pub resp: T,
}

impl<T> Index<Side> for Both<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Orig => &self.orig,
            Side::Resp => &self.resp,
        }
    }
}

impl<T> IndexMut<Side> for Both<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Orig => &mut self.orig,
            Side::Resp => &mut self.resp,
        }
    }
}
