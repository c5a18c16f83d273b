//! Echoes of ICMP and ICMPv6 between two hosts.
//!
//! A flow of ICMP has no identifier in its key, so that requests and replies stay together
//! (see [`crate::packet::Meta`]). All echoes of two hosts are one connection, and which of them
//! were let through is kept here.

use arrayvec::ArrayVec;

use super::packet::Query;
use super::{Direction, Invalid, Tracked};

/// Identifiers that are remembered: of more the one that was asked first is forgotten.
pub(super) const ASKED_MAX: usize = 16;

/// The echoes that two hosts have asked each other for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Echo {
    /// In the order of their first requests.
    pub(super) asked: ArrayVec<Asked, ASKED_MAX>,
}

/// Requests with one identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: u16,
    pub(super) by: Direction,
    pub(super) replied: bool,
}

impl Echo {
    pub(super) fn open(query: Query) -> Result<Self, Invalid> {
        let mut echo = Self::default();
        echo.begin(query, Direction::Original)?;
        Ok(echo)
    }

    /// Lets a request with another identifier, or from the other host, be asked.
    pub(super) fn begin(&mut self, query: Query, by: Direction) -> Result<(), Invalid> {
        if !query.asks {
            return Err(Invalid::UnaskedReply);
        }
        if self.asked.is_full() {
            self.asked.remove(0);
        }
        self.asked.push(Asked { id: query.id, by, replied: false });
        Ok(())
    }

    pub(super) fn follow(
        &mut self,
        query: Query,
        direction: Direction,
    ) -> Result<Tracked, Invalid> {
        match self.asked(query, direction) {
            Some(asked) => {
                asked.replied |= !query.asks;
                Ok(if asked.replied { Tracked::Established } else { Tracked::New })
            }
            None if query.asks => Ok(Tracked::Begins),
            None => Err(Invalid::UnaskedReply),
        }
    }

    /// Refuses an error about a packet that has gone in a direction, if it was none of these.
    pub(super) fn check_error(
        &mut self,
        query: Query,
        direction: Direction,
    ) -> Result<(), Invalid> {
        self.asked(query, direction).map(|_| ()).ok_or(Invalid::UnrelatedError)
    }

    fn asked(&mut self, query: Query, direction: Direction) -> Option<&mut Asked> {
        let by = if query.asks { direction } else { direction.opposite() };
        self.asked.iter_mut().find(|asked| (asked.id, asked.by) == (query.id, by))
    }
}
