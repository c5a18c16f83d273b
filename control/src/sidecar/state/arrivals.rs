//! The transfers that come from other nodes: which are known, and their verdicts.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::watch;
use tonic::Code;
use weir_state_transfer::transfer::{Outcome, Verdict};

use crate::fault::Fault;

/// Transfers from other nodes at one time.
const COMING_MAX: usize = 8;
/// Those that have ended and are remembered.
const ENDED_MAX: usize = 256;

/// All transfers from other nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Arc<Mutex<Known>>);

/// The node that a transfer comes from, and the number that this gives it.
type Name = (String, u64);

#[derive(Debug, Default)]
struct Known {
    coming: BTreeMap<Name, Coming>,
    ended: VecDeque<(Name, Outcome)>,
}

/// What others have of a transfer.
#[derive(Debug)]
struct Coming {
    verdict: watch::Sender<Option<Verdict>>,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// What a transfer's task has of it. When it is dropped, the transfer is not coming any more.
#[derive(Debug)]
pub(super) struct Admitted {
    arrivals: Arrivals,
    name: Name,
    /// What its source has told by a connection of its own.
    pub(super) verdict: watch::Receiver<Option<Verdict>>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Arrivals {
    /// Lets a transfer of a node begin.
    pub(super) fn admit(&self, peer: &str, id: u64) -> Result<Admitted, Fault> {
        let (verdict, told) = watch::channel(None);
        let (outcome, ended) = watch::channel(None);
        let name = (peer.to_owned(), id);
        let mut known = self.known();
        if known.coming.contains_key(&name) || known.find(&name).is_some() {
            let message = format!("node {peer} has begun transfer {id} before");
            let code = Code::AlreadyExists;
            return Err(Fault::new(code, "REPEATED", message).object(format!("transfers/{id}")));
        }
        if known.coming.len() >= COMING_MAX {
            let message =
                format!("{COMING_MAX} transfers from other nodes at one time are the most");
            let fault = Fault::new(Code::ResourceExhausted, "TRANSFERS_MAX", message);
            return Err(fault.object("transfers").fix("wait until one has ended"));
        }
        known.coming.insert(name.clone(), Coming { verdict, outcome: ended });
        Ok(Admitted { arrivals: self.clone(), name, verdict: told, outcome })
    }

    /// Tells a transfer the verdict of its source, and waits until it has ended.
    pub(crate) async fn settle(
        &self,
        peer: &str,
        id: u64,
        verdict: Verdict,
    ) -> Result<Outcome, Fault> {
        let name = (peer.to_owned(), id);
        let unknown = || {
            let message = format!("there is no transfer {id} of node {peer}");
            Fault::new(Code::NotFound, "NOT_FOUND", message).object(format!("transfers/{id}"))
        };
        let coming = {
            let known = self.known();
            if let Some(outcome) = known.find(&name) {
                return Ok(outcome);
            }
            let coming = known.coming.get(&name).ok_or_else(unknown)?;
            // The first counts.
            coming.verdict.send_if_modified(|told| {
                let is_first = told.is_none();
                *told = told.or(Some(verdict));
                is_first
            });
            coming.outcome.clone()
        };
        let mut outcome = coming;
        let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome);
        ended.ok_or_else(unknown)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nobody panics while it is held")
    }
}

impl Known {
    fn find(&self, name: &Name) -> Option<Outcome> {
        self.ended.iter().find(|(ended, _)| ended == name).map(|(_, outcome)| *outcome)
    }
}

impl Admitted {
    /// It has ended.
    pub(super) fn end(&self, outcome: Outcome) {
        let mut known = self.arrivals.known();
        known.coming.remove(&self.name);
        if known.ended.len() >= ENDED_MAX {
            known.ended.pop_front();
        }
        known.ended.push_back((self.name.clone(), outcome));
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.arrivals.known().coming.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_bounded_and_their_numbers_are_used_once() {
        let arrivals = Arrivals::default();
        let mut coming: Vec<_> =
            (0..COMING_MAX as u64).map(|id| arrivals.admit("one", id).unwrap()).collect();
        let refused = |peer, id| arrivals.admit(peer, id).unwrap_err().reason;
        assert_eq!(
            (refused("two", 0), refused("one", 3)),
            ("TRANSFERS_MAX".into(), "REPEATED".into())
        );
        coming.pop().unwrap().end(Outcome::Undone);
        assert_eq!(refused("one", COMING_MAX as u64 - 1), "REPEATED");
        // Another node has numbers of its own; one that has not begun after all is forgotten.
        drop(arrivals.admit("two", COMING_MAX as u64 - 1).unwrap());
        for id in 100..100 + ENDED_MAX as u64 + 9 {
            arrivals.admit("two", id).unwrap().end(Outcome::Kept);
        }
        assert_eq!(arrivals.known().ended.len(), ENDED_MAX);
        assert_eq!(arrivals.known().coming.len(), COMING_MAX - 1);
    }

    #[tokio::test]
    async fn the_first_verdict_counts_and_all_are_answered_alike() {
        let arrivals = Arrivals::default();
        let mut one = arrivals.admit("one", 7).unwrap();
        let settle = |verdict| {
            let arrivals = arrivals.clone();
            async move { arrivals.settle("one", 7, verdict).await }
        };
        let first = tokio::spawn(settle(Verdict::Undo));
        one.verdict.wait_for(Option::is_some).await.unwrap();
        let second = tokio::spawn(settle(Verdict::Keep));
        tokio::task::yield_now().await;
        assert_eq!(*one.verdict.borrow(), Some(Verdict::Undo));
        one.end(Outcome::Undone);
        for settled in [first.await.unwrap(), second.await.unwrap(), settle(Verdict::Keep).await] {
            assert_eq!(settled, Ok(Outcome::Undone));
        }
        let unknown = arrivals.settle("two", 7, Verdict::Undo).await.unwrap_err();
        assert_eq!(unknown.code, Code::NotFound, "of another node");
    }
}
