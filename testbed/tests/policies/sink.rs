//! Where all packets end, and what must be true of them there.

use std::collections::BTreeMap;

use weir_testbed::schedule::{Failure, Kind};

/// The packets of one flow are numbered from 1.
pub(crate) type Number = u32;

/// What has come of each flow, and what was sent.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    sent: BTreeMap<u16, Number>,
    came: BTreeMap<u16, (Number, u64)>,
}

impl Sink {
    /// The number of the next packet of a flow, which is sent.
    pub(crate) fn send(&mut self, flow: u16) -> Number {
        let number = self.sent.entry(flow).or_default();
        *number += 1;
        *number
    }

    /// A packet has come.
    pub(crate) fn take(&mut self, flow: u16, number: Number) -> Result<(), Failure> {
        let (last, count) = self.came.entry(flow).or_default();
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
        (*last, *count) = (number, *count + 1);
        Ok(())
    }

    /// Packets of these flows that were sent.
    pub(crate) fn sent(&self, is_of: impl Fn(u16) -> bool) -> u64 {
        self.sent.iter().filter(|(flow, _)| is_of(**flow)).map(|(_, sent)| u64::from(*sent)).sum()
    }

    /// All that was sent has come, but for so many.
    pub(crate) fn is_complete_but_for(&self, lost: u64) -> Result<(), Failure> {
        let came: u64 = self.came.values().map(|(_, count)| count).sum();
        let sent = self.sent(|_| true);
        if came + lost == sent {
            return Ok(());
        }
        Err(Kind::Lost.at(format!("{sent} were sent, {came} came, {lost} may be lost")))
    }
}
