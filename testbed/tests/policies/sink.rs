//! Where all packets end, and what must be true of them there.

use std::collections::{BTreeMap, BTreeSet};

use weir_testbed::schedule::{Failure, Kind};

/// The packets of one flow are numbered from 1.
pub(crate) type Number = u32;

/// What has come of each flow, and what was sent: all that is asked of the router, and a naive model of
/// what it may lose.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    sent: BTreeMap<u16, Number>,
    came: BTreeMap<u16, Number>,
    /// Have not come, and later ones of their flows have.
    missing: BTreeSet<(u16, Number)>,
    /// Were sent when all workers held what comes of their flow, and may be on their way to them.
    coming: BTreeSet<(u16, Number)>,
    /// Were held.
    held: BTreeSet<(u16, Number)>,
}

impl Sink {
    /// The number of the next packet of a flow, which is sent, to be held or not.
    pub(crate) fn send(&mut self, flow: u16, is_held: bool) -> Number {
        let number = self.sent.entry(flow).or_default();
        *number += 1;
        if is_held {
            self.coming.insert((flow, *number));
        }
        *number
    }

    /// What these flows are held for is about to end, and all that was sent has come to the workers or
    /// may not have.
    pub(crate) fn release(&mut self, is_of: impl Fn(u16) -> bool, all_came: bool) {
        let held = self.coming.extract_if(.., |(flow, _)| is_of(*flow));
        self.held.extend(held.filter(|_| all_came));
    }

    /// A packet has come.
    pub(crate) fn take(&mut self, flow: u16, number: Number) -> Result<(), Failure> {
        let last = self.came.entry(flow).or_default();
        match number.cmp(last) {
            std::cmp::Ordering::Equal => {
                return Err(Kind::Duplicated.at(format!("packet {number} of flow {flow}")));
            }
            std::cmp::Ordering::Less => {
                let what = format!("packet {number} of flow {flow} behind {last}");
                return Err(Kind::Reordered.at(what));
            }
            std::cmp::Ordering::Greater => {}
        }
        self.missing.extend((*last + 1..number).map(|missing| (flow, missing)));
        *last = number;
        Ok(())
    }

    /// Packets of these flows that were sent.
    pub(crate) fn sent(&self, is_of: impl Fn(u16) -> bool) -> u64 {
        self.sent.iter().filter(|(flow, _)| is_of(**flow)).map(|(_, sent)| u64::from(*sent)).sum()
    }

    /// The last packet of a flow that has come.
    pub(crate) fn last(&self, flow: u16) -> Number {
        self.came.get(&flow).copied().unwrap_or(0)
    }

    /// No more were lost than are named, and of those that were held none but for lack of room.
    pub(crate) fn judge(&self, dropped: u64, overflow: u64) -> Result<(), Failure> {
        let mut missing = self.missing.clone();
        for (flow, sent) in &self.sent {
            missing.extend((self.last(*flow) + 1..=*sent).map(|number| (*flow, number)));
        }
        let held = missing.intersection(&self.held).count() as u64;
        if held > overflow {
            let what = format!("{held} that were held, and {overflow} found no room: {missing:?}");
            return Err(Kind::Lost.at(what));
        }
        match missing.len() as u64 > dropped {
            true => Err(Kind::Lost.at(format!("{missing:?}, and {dropped} were dropped"))),
            false => Ok(()),
        }
    }

    /// How many were held for sure.
    pub(crate) fn held(&self) -> u64 {
        self.held.len() as u64
    }
}
