//! What one firewall would have done, and what the node did.

use std::collections::BTreeMap;

use weir_state_transfer::InstanceId;
use weir_testbed::memory_node::MemoryNode;
use weir_testbed::schedule::{Failure, Kind};

use crate::counts::{Address, Counts};
use crate::total::Total;

/// The flows of an epoch, and what is counted of their sources.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Connections that a source may have open.
    most: i128,
    /// Those of all instances are judged in the order in which they came.
    strict: bool,
    flows: BTreeMap<u16, Flow>,
    /// Flows in the order in which they began.
    order: Vec<u16>,
    /// Packets that were sent in epochs before and did not leave, and those that no host sees.
    lost_before: u64,
    /// Who takes part.
    members: Vec<InstanceId>,
    instances: Vec<InstanceId>,
    /// What was counted when everything was last at rest, and by how much that was more than there
    /// was, by source.
    before: Counts,
    /// Who took part then.
    members_before: Vec<InstanceId>,
    astray: BTreeMap<Address, i128>,
    /// What homes that were lost knew at most, by source: it counts again when they have joined again.
    lost: BTreeMap<Address, i128>,
    since: Since,
    /// Connections at most of these flows that were given up before: nothing is heard of their ends,
    /// and they go on counting.
    given_up: u64,
    /// Whether workers have ever panicked.
    panicked: bool,
    /// Packets that were dropped for what panics had left: of flows that were given up, and at places
    /// that were, as when a home was lost with the order that it knew.
    missed: u64,
}

/// What has happened since everything was last at rest.
#[derive(Debug, Default)]
struct Since {
    joined: Vec<InstanceId>,
    left: Vec<InstanceId>,
    panics: u64,
    failed: u64,
    missed: u64,
}

/// A flow, and what has become of its packets.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Its source, its instance, and the queue by which it comes.
    place: (Address, InstanceId, u16),
    pub(crate) sent: u32,
    left: Vec<u32>,
    /// It was closed behind so many packets; those behind that are of another connection.
    closed: Option<u32>,
}

impl Judge {
    /// A judge of sources that may have so many connections open; `members` of the instances share.
    pub(crate) fn new(
        most: u32,
        strict: bool,
        instances: &[InstanceId],
        members: &[InstanceId],
    ) -> Self {
        Self {
            most: most.into(),
            strict,
            flows: BTreeMap::new(),
            order: Vec::new(),
            lost_before: 0,
            members: members.to_vec(),
            instances: instances.to_vec(),
            before: Counts::default(),
            members_before: members.to_vec(),
            astray: BTreeMap::new(),
            lost: BTreeMap::new(),
            since: Since::default(),
            given_up: 0,
            panicked: false,
            missed: 0,
        }
    }

    pub(crate) fn flow(&mut self, number: u16, place: (Address, InstanceId, u16)) -> &mut Flow {
        let order = &mut self.order;
        self.flows.entry(number).or_insert_with(|| {
            order.push(number);
            Flow { place, sent: 0, left: Vec::new(), closed: None }
        })
    }

    pub(crate) fn left(&mut self, packet: &[u8]) {
        let sport = u16::from_be_bytes([packet[34], packet[35]]);
        let sequence = packet[42..46].try_into().unwrap();
        let flow = self.flows.get_mut(&(sport - 1000)).expect("nothing of an epoch before is left");
        flow.left.push(u32::from_be_bytes(sequence));
    }

    /// So many packets were sent that no host sees.
    pub(crate) fn unseen(&mut self, packets: u64) {
        self.lost_before += packets;
    }

    /// Flows that were let begin.
    pub(crate) fn begun_flows(&self) -> Vec<u16> {
        let begun = self.flows.iter().filter(|(_, flow)| flow.is_open());
        begun.map(|(number, _)| *number).collect()
    }

    /// The connection of a flow is closed.
    pub(crate) fn closes(&mut self, flow: u16) {
        let flow = self.flows.get_mut(&flow).expect("it has begun");
        flow.closed = Some(flow.sent);
    }

    /// Whether the connection of a flow was closed.
    pub(crate) fn has_closed(&self, flow: u16) -> bool {
        self.flows.get(&flow).is_some_and(Flow::has_closed)
    }

    /// Others take part from here on, though there may be packets under way.
    pub(crate) fn members_change(&mut self, members: &[InstanceId]) {
        let Self { members: before, since, .. } = self;
        since.joined.extend(members.iter().filter(|member| !before.contains(member)));
        since.left.extend(before.iter().filter(|member| !members.contains(member)));
        *before = members.to_vec();
    }

    /// Who takes part, as far as is known.
    pub(crate) fn members(&self) -> &[InstanceId] {
        &self.members
    }

    /// Workers have panicked so often, and so many instances were left out.
    pub(crate) fn panicked(&mut self, panics: u64, failed: u64) {
        (self.since.panics, self.since.failed) = (panics, failed);
        self.panicked |= panics > 0;
    }

    /// Nothing is under way: every packet has left, in order, or its flow was refused; and as many
    /// connections of each source began as one firewall would have let begin: the first of each
    /// instance and queue, or of each queue if the share is strict. What is counted is what is open.
    pub(crate) fn check(
        &mut self,
        node: &MemoryNode,
        counts: Counts,
        total: &mut Total,
    ) -> Result<(), Failure> {
        self.check_packets(node)?;
        self.flows.iter().try_for_each(|(number, flow)| self.check_flow(*number, flow))?;
        self.check_order(total)?;
        for source in self.sources() {
            self.check_limit(source, &counts)?;
        }
        self.check_counts(counts, total)
    }

    /// Nothing is under way, some connections have closed, and some of those have begun anew.
    pub(crate) fn check_closed(
        &mut self,
        node: &MemoryNode,
        counts: Counts,
        total: &mut Total,
    ) -> Result<(), Failure> {
        self.check_packets(node)?;
        for (number, flow) in &self.flows {
            total.closed += u64::from(flow.has_closed());
            total.again += u64::from(flow.has_closed() && flow.is_open());
            self.check_again(*number, flow)?;
        }
        for source in self.sources() {
            self.check_excess(source, &counts)?;
        }
        self.check_counts(counts, total)
    }

    /// Nothing is under way, and all connections have ended.
    pub(crate) fn check_end(
        &mut self,
        node: &MemoryNode,
        counts: Counts,
        total: &mut Total,
    ) -> Result<(), Failure> {
        self.check_packets(node)?;
        for flow in std::mem::take(&mut self.flows).into_values() {
            self.lost_before += u64::from(flow.sent) - flow.left.len() as u64;
        }
        self.order.clear();
        let during = self.since.panics;
        self.check_counts(counts, total)?;
        self.given_up = during;
        Ok(())
    }

    /// The share has ended, and then all connections: each instance has heard of the ends of its own
    /// alone, and counts the others on.
    pub(crate) fn check_replicas(&self, counts: &Counts) -> Result<(), Failure> {
        for source in self.sources() {
            for at in &self.instances {
                let is_own = |flow: &&Flow| (flow.place.0, flow.place.1) == (source, *at);
                let own = self.begun(source).filter(is_own).count() as i128;
                let knew = if self.members.contains(at) { &self.members[..] } else { &[*at] };
                let (found, wanted) = (counts.at(source, *at), self.before.of(source, knew) - own);
                if found != wanted {
                    let what = format!("{at} has counted {found} of {source}, not {wanted}");
                    return Err(Kind::Counted.at(what));
                }
            }
        }
        Ok(())
    }

    /// Whether more or less was counted of a source than there was, ever.
    pub(crate) fn is_astray(&self) -> bool {
        self.astray.values().any(|more| *more != 0)
    }

    fn check_packets(&mut self, node: &MemoryNode) -> Result<(), Failure> {
        let counters = node.node.counters();
        let balance = counters.balance.expect("there is one");
        if balance.held > 0 {
            return Err(Kind::Stuck.at(format!("{balance:?}")));
        }
        if (balance.unaccounted, balance.in_rings) != (0, 0) {
            return Err(Kind::Balance.at(format!("{balance:?}")));
        }
        let panicked = self.panicked;
        let is_missed =
            |reason: &str| ["poisoned", "share_unanswered", "share_late"].contains(&reason);
        let is_excused = |reason: &str| match reason {
            "firewall" | "ttl_expired" => true,
            reason => panicked && (reason == "worker_panic" || is_missed(reason)),
        };
        let drops = counters.drops.iter().filter(|drop| drop.packets > 0);
        if let Some(drop) = drops.clone().find(|drop| !is_excused(&drop.reason)) {
            return Err(Kind::Dropped.at(format!("{} {}", drop.packets, drop.reason)));
        }
        let missed = drops.clone().filter(|drop| is_missed(&drop.reason));
        let missed: u64 = missed.map(|drop| drop.packets).sum();
        self.since.missed = missed - std::mem::replace(&mut self.missed, missed);
        let flows = self.flows.values();
        let sent: u64 = flows.clone().map(|flow| u64::from(flow.sent)).sum();
        let left: u64 = flows.map(|flow| flow.left.len() as u64).sum();
        let dropped: u64 = drops.map(|drop| drop.packets).sum();
        if sent + self.lost_before != left + dropped {
            let all = &counters.drops;
            let what = format!("{sent} were sent and {left} have left, dropped: {all:?}");
            return Err(Kind::Lost.at(what));
        }
        Ok(())
    }

    /// A flow is let begin or not, for good; but of who has left others have judged it before.
    fn check_flow(&self, number: u16, flow: &Flow) -> Result<(), Failure> {
        if !flow.left.is_sorted_by(|one, other| one < other) {
            return Err(Kind::Reordered.at(format!("flow {number}: {flow:?}")));
        }
        let whole = flow.left.is_empty() || flow.left.len() == flow.sent as usize;
        let (source, instance, _) = flow.place;
        let has_left = self.since.left.contains(&instance);
        if !whole && !has_left && !self.may_begin_later(source) {
            return Err(Kind::Denied.at(format!("flow {number}: {flow:?}")));
        }
        Ok(())
    }

    /// What takes the place of a connection that has closed is let begin when there is room, which may
    /// be later: ends are executed behind what came before they were told. From then on it goes on,
    /// but for what a panic has taken.
    fn check_again(&self, number: u16, flow: &Flow) -> Result<(), Failure> {
        let Since { joined, left, .. } = &self.since;
        let is_disturbed = !joined.is_empty() || !left.is_empty() || self.since.has_panicked();
        let [_, (_, again)] = flow.connections();
        let begun = flow.left[flow.left.len() - again..].iter().copied();
        if !is_disturbed && !begun.eq(flow.sent - again as u32..flow.sent) {
            return Err(Kind::Denied.at(format!("flow {number}: {flow:?}")));
        }
        if !flow.left.is_sorted_by(|one, other| one < other) {
            return Err(Kind::Reordered.at(format!("flow {number}: {flow:?}")));
        }
        Ok(())
    }

    /// Of those that came one behind the other the first began: of those of one instance, and in a
    /// strict share of those of all that have taken part all the time.
    fn check_order(&self, total: &mut Total) -> Result<(), Failure> {
        let Since { joined, left, .. } = &self.since;
        let mut refused: Vec<(Address, Option<InstanceId>, u16)> = Vec::new();
        for flow in self.order.iter().map(|number| &self.flows[number]).filter(|f| f.sent > 0) {
            let (source, instance, queue) = flow.place;
            // By whom it was judged is not known of who has left.
            let own = Some((source, Some(instance), queue)).filter(|_| !left.contains(&instance));
            let always = self.members.contains(&instance) && !joined.contains(&instance);
            let all = own.and(Some((source, None, queue))).filter(|_| self.strict && always);
            let mut places = own.into_iter().chain(all);
            if flow.left.is_empty() {
                total.refused += 1;
                refused.extend(places);
                continue;
            }
            total.admitted += 1;
            if places.any(|place| refused.contains(&place)) && !self.may_begin_later(source) {
                let what = format!("let begin after an earlier one was refused: {flow:?}");
                return Err(Kind::Reordered.at(format!("{what}: {:?}", self.since)));
            }
        }
        Ok(())
    }

    /// Whether what was refused to a source may have been let begin later: what a panic has taken
    /// goes uncounted, and who joins may have heard of ends of connections that others have counted,
    /// and that nobody else has heard of; or may know what was lost with a home.
    fn may_begin_later(&self, source: Address) -> bool {
        let lowers = |at: &InstanceId| self.before.at(source, *at) < 0 || self.lost(source) > 0;
        self.since.has_panicked() || self.since.joined.iter().any(lowers)
    }

    /// What homes that were lost knew of a source at most.
    fn lost(&self, source: Address) -> i128 {
        self.lost.get(&source).copied().unwrap_or_default()
    }

    /// Connections of a source that those who judge together may have counted at most. Who joins
    /// brings what it has let begin alone, and who leaves takes nothing along.
    fn most(&self, source: Address, judge: &[InstanceId]) -> i128 {
        let Since { joined, left, failed, .. } = &self.since;
        let alone = |at: &InstanceId| self.most.max(self.before.at(source, *at));
        if *failed > 0 {
            // Who was left out goes on with a copy of what it had, and joins with that again.
            let each = self.instances.iter().map(|at| self.before.at(source, *at)).max();
            let changes = joined.len() + left.len();
            return each.unwrap_or_default().max(self.most) * (1 + changes as i128);
        }
        match judge {
            [at] if left.contains(at) => self.most,
            [at] if !self.members.contains(at) => alone(at),
            _ => {
                let together = self.before.of(source, &self.members_before).max(self.most);
                together + joined.iter().map(alone).sum::<i128>()
            }
        }
    }

    /// Who lets connections of a source begin has let none begin too much, and has refused none that
    /// may begin.
    fn check_limit(&self, source: Address, counts: &Counts) -> Result<(), Failure> {
        self.check_excess(source, counts)?;
        if self.may_begin_later(source) {
            return Ok(());
        }
        let judges = self.judges();
        let of_it = self.flows.values().filter(|flow| flow.place.0 == source && flow.sent > 0);
        for flow in of_it.filter(|flow| flow.left.is_empty()) {
            let mut may_have = judges.iter().filter(|judge| {
                judge.contains(&flow.place.1)
                    || (self.since.left.contains(&flow.place.1) && judge[..] == self.members[..])
            });
            if may_have.all(|judge| counts.of(source, judge) < self.most) {
                return Err(Kind::Denied.at(format!("{flow:?} may begin: {counts:?}")));
            }
        }
        Ok(())
    }

    /// Who lets connections of a source begin has let none begin too much.
    fn check_excess(&self, source: Address, counts: &Counts) -> Result<(), Failure> {
        for judge in self.judges() {
            let (counted, most) = (counts.of(source, &judge), self.most(source, &judge));
            if counted > most {
                let what = format!("source {source} has {counted} at {judge:?}, not {most}");
                let (since, before) = (&self.since, &self.before);
                return Err(Kind::Excess.at(format!("{what}: {since:?} {before:?} {counts:?}")));
            }
        }
        Ok(())
    }

    /// What is counted of each source is what it has open, at one of those that share; but for what
    /// panics have led astray: a packet each, and, where a home is lost, what was under way to it,
    /// and what was being handed over.
    fn check_counts(&mut self, counts: Counts, total: &mut Total) -> Result<(), Failure> {
        for source in self.sources() {
            let (asked, open) = (self.asked(source), self.begun(source).count() as i128);
            let counted = counts.of(source, &self.instances);
            let before = self.astray.get(&source).copied().unwrap_or_default();
            let mut may_stray = i128::from(self.since.panics + self.given_up);
            if self.since.failed > 0 {
                let knew = asked.max(self.before.of(source, &self.instances).abs());
                *self.lost.entry(source).or_default() += knew;
                may_stray += knew;
            }
            if !self.since.joined.is_empty() {
                may_stray += self.lost(source);
            }
            if (counted - open - before).abs() > may_stray {
                let what =
                    format!("{counted} of {asked} of source {source}, not {open} + {before}: ");
                return Err(Kind::Counted.at(format!("{what}{:?} {counts:?}", self.since)));
            }
            let knowing = counts.knowing(source, &self.members);
            if knowing.len() > 1 && self.since.failed == 0 && !self.is_astray() {
                return Err(Kind::Owner.at(format!("{knowing:?} know source {source}")));
            }
            total.astray += u64::from(counted - open != before);
            self.astray.insert(source, counted - open);
        }
        (self.before, self.given_up) = (counts, self.given_up + self.since.panics);
        self.members_before.clone_from(&self.members);
        self.since = Since::default();
        Ok(())
    }

    /// Those who decide: who shares together, the others alone.
    fn judges(&self) -> Vec<Vec<InstanceId>> {
        let alone = self.instances.iter().filter(|at| !self.members.contains(at));
        alone.map(|at| vec![*at]).chain([self.members.clone()]).collect()
    }

    fn sources(&self) -> Vec<Address> {
        let mut sources: Vec<_> = self.flows.values().map(|flow| flow.place.0).collect();
        sources.extend(self.astray.keys());
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    fn asked(&self, source: Address) -> i128 {
        self.flows.values().filter(|flow| flow.place.0 == source && flow.sent > 0).count() as i128
    }

    fn begun(&self, source: Address) -> impl Iterator<Item = &Flow> {
        let of_it = self.flows.values().filter(move |flow| flow.place.0 == source);
        of_it.filter(|flow| flow.is_open())
    }
}

impl Since {
    /// Whether a panic has taken a packet, or an earlier one has still cost some.
    fn has_panicked(&self) -> bool {
        self.panics > 0 || self.missed > 0
    }
}

impl Flow {
    /// Whether its connection was closed.
    pub(crate) fn has_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// How many packets of its connection, and of the one in its place, were sent and have left.
    fn connections(&self) -> [(usize, usize); 2] {
        let (sent, first) = (self.sent as usize, self.closed.unwrap_or(self.sent));
        let left = self.left.iter().filter(|sequence| **sequence < first).count();
        [(first as usize, left), (sent - first as usize, self.left.len() - left)]
    }

    /// Whether it has a connection that was let begin and has not closed.
    fn is_open(&self) -> bool {
        let [first, again] = self.connections();
        if self.has_closed() { again.1 > 0 } else { first.1 > 0 }
    }
}
