//! What one firewall would have done, and what the node did.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use weir_state_transfer::InstanceId;
use weir_testbed::memory_node::MemoryNode;

/// What has happened in schedules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    pub(crate) schedules: u64,
    /// Flows that were let begin, and that were not.
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    /// Rounds after which packets waited.
    pub(crate) waited: u64,
    /// Times that instances joined or left.
    pub(crate) changes: u64,
    pub(crate) panics: u64,
}

impl AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.waited += other.waited;
        self.changes += other.changes;
        self.panics += other.panics;
    }
}

/// The flows of an epoch.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Connections that a source may have open.
    most: usize,
    /// Those of all instances are judged in the order in which they came.
    strict: bool,
    /// Packets may be lost.
    panics: bool,
    flows: BTreeMap<u16, Flow>,
    /// Flows in the order in which they began.
    order: Vec<u16>,
    /// Packets that were sent in epochs before, and those of them that did not leave.
    sent_before: u64,
    lost_before: u64,
}

/// A flow, and what has become of its packets.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Its source, its instance, and the queue by which it comes.
    place: (u8, InstanceId, u16),
    pub(crate) sent: u32,
    left: Vec<u32>,
}

impl Judge {
    pub(crate) fn new(most: usize, strict: bool, panics: bool) -> Self {
        let (flows, order) = (BTreeMap::new(), Vec::new());
        Self { most, strict, panics, flows, order, sent_before: 0, lost_before: 0 }
    }

    pub(crate) fn flow(&mut self, number: u16, place: (u8, InstanceId, u16)) -> &mut Flow {
        let order = &mut self.order;
        self.flows.entry(number).or_insert_with(|| {
            order.push(number);
            Flow { place, sent: 0, left: Vec::new() }
        })
    }

    pub(crate) fn left(&mut self, packet: &[u8]) {
        let sport = u16::from_be_bytes([packet[34], packet[35]]);
        let sequence = packet[42..46].try_into().unwrap();
        let flow = self.flows.get_mut(&(sport - 1000)).expect("nothing of an epoch before is left");
        flow.left.push(u32::from_be_bytes(sequence));
    }

    /// Nothing is under way: every packet has left, in order, or its flow was refused; and as many
    /// connections of each source began as one firewall would have let begin: the first of each
    /// instance and queue, or of each queue if the share is strict.
    pub(crate) fn check(&self, node: &MemoryNode, total: &mut Total) -> Result<(), String> {
        let counters = node.node.counters();
        let balance = counters.balance.expect("there is one");
        if (balance.unaccounted, balance.held, balance.in_rings) != (0, 0, 0) {
            return Err(format!("{balance:?}"));
        }
        let flows = self.flows.values();
        let sent: u64 = flows.clone().map(|flow| u64::from(flow.sent)).sum();
        let left: u64 = flows.map(|flow| flow.left.len() as u64).sum();
        let of_firewalls = |drop: &&_| {
            let drop: &weir_api::dataplane::v1::DropCount = drop;
            drop.reason == "firewall" || self.panics
        };
        let dropped: u64 =
            counters.drops.iter().filter(of_firewalls).map(|drop| drop.packets).sum();
        if sent + self.sent_before != left + self.left_before() + dropped {
            let all = &counters.drops;
            return Err(format!("{sent} were sent and {left} have left, dropped: {all:?}"));
        }
        self.flows.iter().try_for_each(|(number, flow)| self.check_flow(*number, flow))?;
        self.check_sources(total)
    }

    pub(crate) fn begin_epoch(&mut self) {
        for flow in std::mem::take(&mut self.flows).into_values() {
            self.sent_before += u64::from(flow.sent);
            self.lost_before += u64::from(flow.sent) - flow.left.len() as u64;
        }
        self.order.clear();
    }

    fn left_before(&self) -> u64 {
        self.sent_before - self.lost_before
    }

    fn check_flow(&self, number: u16, flow: &Flow) -> Result<(), String> {
        let whole = flow.left.is_empty() || flow.left.len() == flow.sent as usize;
        if !flow.left.is_sorted_by(|one, other| one < other) || !(whole || self.panics) {
            return Err(format!("flow {number}: {flow:?}"));
        }
        Ok(())
    }

    fn check_sources(&self, total: &mut Total) -> Result<(), String> {
        let mut sources: BTreeMap<u8, (usize, usize)> = BTreeMap::new();
        let mut refused: Vec<(u8, Option<InstanceId>, u16)> = Vec::new();
        for flow in self.order.iter().map(|number| &self.flows[number]).filter(|f| f.sent > 0) {
            let (source, instance, queue) = flow.place;
            let place = (source, Some(instance).filter(|_| !self.strict), queue);
            let (asked, begun) = sources.entry(flow.place.0).or_default();
            *asked += 1;
            if flow.left.is_empty() {
                refused.push(place);
                total.refused += 1;
                continue;
            }
            *begun += 1;
            total.admitted += 1;
            if refused.contains(&place) && !self.panics {
                return Err(format!("let begin after an earlier one was refused: {flow:?}"));
            }
        }
        for (source, (asked, begun)) in sources {
            let wanted = asked.min(self.most);
            if begun > wanted || (begun < wanted && !self.panics) {
                return Err(format!("source {source} began {begun} of {asked}, not {wanted}"));
            }
        }
        Ok(())
    }
}
