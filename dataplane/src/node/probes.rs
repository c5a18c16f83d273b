//! Probes of next hops: whether all that was sent to them has been taken, and all that came of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use weir_api::dataplane::v1 as api;
use weir_state_transfer::quote::quoted;
use weir_state_transfer::{Nanos, PortId, WorkerId};

use super::{Node, NodeError};
use crate::local::Probe;
use crate::worker::{Command, PROBE_LIFE, PROBES_MAX, Probing};

/// Next hops that are asked at one time at most.
pub const NEXT_HOPS_PROBED_MAX: usize = 64;

/// Questions in progress.
#[derive(Debug, Default)]
pub(super) struct ProbeBook(VecDeque<Question>);

#[derive(Debug)]
struct Question {
    nonce: u64,
    begun: Nanos,
    next_hops: Vec<(u8, PortId, IpAddr)>,
    /// Of whom no answer has come.
    unanswered: BTreeSet<(WorkerId, u8)>,
    /// Set by the last answer: workers whose queues may have had packets then that a worker, named
    /// second, may not have processed.
    behind: Option<BTreeSet<(WorkerId, WorkerId)>>,
}

impl Node {
    /// Has every worker ask next hops, behind all that it has sent to them. The nonce is to be drawn at
    /// random.
    ///
    /// # Errors
    ///
    /// When one makes no sense, or there is none: nobody would have answered for anything.
    pub fn begin_probe(
        &mut self,
        next_hops: &[api::NextHop],
        nonce: u64,
        now: Nanos,
    ) -> Result<(), NodeError> {
        if next_hops.is_empty() {
            return Err(NodeError::invalid("next_hops", "is empty: name one at least"));
        }
        let hops = next_hops.iter().zip(0..).map(|(hop, number)| {
            let port = self.port_id(&hop.port).ok_or_else(|| {
                NodeError::invalid("port", format!("there is no port {}", quoted(&hop.port)))
            })?;
            Ok((number, port, self.parse_next_hop(&hop.via, None, &hop.port)?))
        });
        let next_hops = hops.collect::<Result<Vec<_>, NodeError>>()?;
        let of_worker =
            |worker| next_hops.iter().map(move |(number, ..): &(u8, _, _)| (worker, *number));
        let unanswered = self.workers.keys().copied().flat_map(of_worker).collect();
        self.forget_probes(now);
        if self.probes.0.len() == PROBES_MAX {
            self.probes.0.pop_front();
        }
        let question = Question { nonce, begun: now, next_hops, unanswered, behind: None };
        self.probes.0.push_back(question);
        self.repeat_probe(nonce);
        Ok(())
    }

    /// Asks again those who have not answered.
    pub fn repeat_probe(&mut self, nonce: u64) {
        let Some(question) = self.probes.0.iter().find(|question| question.nonce == nonce) else {
            return;
        };
        let mut asked: BTreeMap<WorkerId, Vec<_>> = BTreeMap::new();
        for (worker, number) in &question.unanswered {
            let hop = question.next_hops[usize::from(*number)];
            asked.entry(*worker).or_default().push(hop);
        }
        // An answer may come to any worker.
        let asked: Vec<_> = self
            .workers
            .keys()
            .map(|worker| (*worker, Arc::from(asked.remove(worker).unwrap_or_default())))
            .collect();
        for (worker, next_hops) in asked {
            self.tell(worker, Command::Probe(Probing { nonce, next_hops }));
        }
    }

    /// Who has not answered, or is behind; none when all that was asked is done. A question that was
    /// forgotten for others has nobody.
    pub fn unanswered(&self, nonce: u64) -> Option<Vec<api::Unanswered>> {
        let question = self.probes.0.iter().find(|question| question.nonce == nonce)?;
        let unanswered = question.unanswered.iter().map(|(worker, number)| {
            let (_, port, via) = question.next_hops[usize::from(*number)];
            let port = self.ports.get(&port).map(|port| port.name.clone()).unwrap_or_default();
            let next_hop = Some(api::NextHop { via: via.to_string(), port });
            api::Unanswered { worker: u32::from(worker.0), next_hop }
        });
        // One that has ended since has emptied its queues and rings.
        let is_there = |worker: &WorkerId| self.workers.contains_key(worker);
        let behind = question.behind.iter().flatten();
        let behind = behind.filter(|(from, by)| is_there(from) && is_there(by));
        let behind: BTreeSet<_> = behind.map(|(from, _)| *from).collect();
        let behind = behind
            .into_iter()
            .map(|worker| api::Unanswered { worker: u32::from(worker.0), next_hop: None });
        Some(unanswered.chain(behind).collect())
    }

    /// Forgets a question.
    pub fn end_probe(&mut self, nonce: u64) {
        self.probes.0.retain(|question| question.nonce != nonce);
    }

    /// Forgets questions that nobody waits for any more.
    pub(super) fn forget_probes(&mut self, now: Nanos) {
        self.probes.0.retain(|question| now.since(question.begun) < PROBE_LIFE);
    }

    pub(super) fn answered(&mut self, probe: Probe) {
        let workers: Vec<_> = self.workers.keys().copied().collect();
        let found = self.probes.0.iter_mut().find(|question| question.nonce == probe.nonce);
        let Some(question) = found else { return };
        question.unanswered.remove(&(probe.worker, probe.target));
        if question.unanswered.is_empty() && question.behind.is_none() {
            let by_all = |from| workers.iter().map(move |by| (from, *by));
            question.behind = Some(workers.iter().copied().flat_map(by_all).collect());
            for worker in workers {
                self.tell(worker, Command::CatchUp(probe.nonce));
            }
        }
    }

    /// A worker has processed what the queues of another had.
    pub(super) fn caught_up(&mut self, nonce: u64, from: WorkerId, by: WorkerId) {
        let found = self.probes.0.iter_mut().find(|question| question.nonce == nonce);
        if let Some(behind) = found.and_then(|question| question.behind.as_mut()) {
            behind.remove(&(from, by));
        }
    }
}
