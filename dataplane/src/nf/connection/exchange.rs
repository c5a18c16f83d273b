//! UDP, and every protocol of which nothing but the addresses is understood: whether somebody has
//! answered.

use std::time::Duration;

use weir_state_transfer::protocol;

use super::{Direction, Timeouts, Tracked};

/// Packets that go back and forth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) replied: bool,
}

impl Exchange {
    pub(super) fn follow(&mut self, direction: Direction) -> Tracked {
        self.replied |= direction == Direction::Reply;
        if self.replied { Tracked::Established } else { Tracked::New }
    }

    pub(super) fn timeout(self, number: u8, timeouts: &Timeouts) -> Duration {
        match (number, self.replied) {
            (protocol::UDP, false) => timeouts.udp_unreplied,
            (protocol::UDP, true) => timeouts.udp_replied,
            _ => timeouts.other,
        }
    }
}
