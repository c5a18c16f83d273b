//! The transfers that come from other nodes: which are known, and their verdicts.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tonic::Code;
use weir_state_transfer::transfer::{Outcome, Verdict};

use crate::fault::Fault;

/// Transfers from other nodes at one time.
const COMING_MAX: usize = 8;
/// Those of one node, so that none takes the place of all others.
const OF_A_PEER_MAX: usize = 4;
/// Those of one node that have ended and are remembered.
const ENDED_MAX: usize = 32;

/// All transfers from other nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Arc<watch::Sender<Known>>);

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
    /// The operation of the source that it is of; 0 when it does not say.
    operation: u64,
    told: watch::Sender<Option<Told>>,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// What a transfer is told otherwise than by its stream, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The verdict of its source, by a connection of its own.
    Verdict(Verdict),
    /// Its source was started again and has begun the operation anew: no verdict comes any more.
    Abandoned,
}

/// What a transfer's task has of it. When it is dropped, the transfer is not coming any more.
#[derive(Debug)]
pub(super) struct Admitted {
    arrivals: Arrivals,
    name: Name,
    pub(super) told: watch::Receiver<Option<Told>>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Arrivals {
    /// Lets a transfer of a node begin, of an operation of that.
    pub(super) fn admit(&self, peer: &str, id: u64, operation: u64) -> Result<Admitted, Fault> {
        let (told, receiver) = watch::channel(None);
        let (outcome, ended) = watch::channel(None);
        let name = (peer.to_owned(), id);
        let mut admitted = Ok(());
        self.0.send_if_modified(|known| {
            admitted = known.check(&name);
            if admitted.is_ok() {
                let coming = Coming { operation, told, outcome: ended };
                known.coming.insert(name.clone(), coming);
            }
            admitted.is_ok()
        });
        admitted?;
        Ok(Admitted { arrivals: self.clone(), name, told: receiver, outcome })
    }

    /// Ends what is left of an operation that a node has begun before and begins anew: what is held
    /// is kept, as its verdict does not come any more, and anything else is undone. Waits for that
    /// so long at most.
    pub(super) async fn abandon(&self, peer: &str, operation: u64, limit: Duration) {
        let mut left = Vec::new();
        for ((of, _), coming) in &self.0.borrow().coming {
            if operation != 0 && (of.as_str(), coming.operation) == (peer, operation) {
                coming.tell(Told::Abandoned);
                left.push(coming.outcome.clone());
            }
        }
        let all = async {
            for mut outcome in left {
                // One whose task has gone has ended, too.
                let _gone = outcome.wait_for(Option::is_some).await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(peer, operation, "what is left of an earlier attempt does not end");
        }
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
        let mut outcome = {
            let known = self.0.borrow();
            if let Some(outcome) = known.find(&name) {
                return Ok(outcome);
            }
            let coming = known.coming.get(&name).ok_or_else(unknown)?;
            coming.tell(Told::Verdict(verdict));
            coming.outcome.clone()
        };
        let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome);
        ended.ok_or_else(unknown)
    }

    /// Ends when none is coming.
    pub(crate) async fn idle(&self) {
        let mut known = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = known.wait_for(|known| known.coming.is_empty()).await;
    }
}

impl Known {
    fn find(&self, name: &Name) -> Option<Outcome> {
        self.ended.iter().find(|(ended, _)| ended == name).map(|(_, outcome)| *outcome)
    }

    /// Whether a transfer may begin.
    fn check(&self, name: &Name) -> Result<(), Fault> {
        let (peer, id) = name;
        if self.coming.contains_key(name) || self.find(name).is_some() {
            let message = format!("node {peer} has begun transfer {id} before");
            let code = Code::AlreadyExists;
            return Err(Fault::new(code, "REPEATED", message).object(format!("transfers/{id}")));
        }
        let of_peer = self.coming.keys().filter(|(of, _)| of == peer).count();
        if self.coming.len() < COMING_MAX && of_peer < OF_A_PEER_MAX {
            return Ok(());
        }
        let message = format!(
            "{COMING_MAX} transfers from other nodes at one time are the most, and {OF_A_PEER_MAX} \
             from one"
        );
        let fault = Fault::new(Code::ResourceExhausted, "TRANSFERS_MAX", message);
        Err(fault.object("transfers").fix("wait until one has ended"))
    }

    fn end(&mut self, name: &Name, outcome: Outcome) {
        self.coming.remove(name);
        let of_peer = |(known, _): &(Name, Outcome)| known.0 == name.0;
        if self.ended.iter().filter(|one| of_peer(one)).count() >= ENDED_MAX
            && let Some(oldest) = self.ended.iter().position(of_peer)
        {
            self.ended.remove(oldest);
        }
        self.ended.push_back((name.clone(), outcome));
    }
}

impl Coming {
    /// Tells it something; the first counts.
    fn tell(&self, what: Told) {
        self.told.send_if_modified(|told| {
            let is_first = told.is_none();
            *told = told.or(Some(what));
            is_first
        });
    }
}

impl Admitted {
    /// It has ended.
    pub(super) fn end(&self, outcome: Outcome) {
        self.arrivals.0.send_modify(|known| known.end(&self.name, outcome));
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let name = &self.name;
        self.arrivals.0.send_if_modified(|known| known.coming.remove(name).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_bounded_for_each_node_and_their_numbers_are_used_once() {
        let arrivals = Arrivals::default();
        let admit = |peer, id| arrivals.admit(peer, id, 0);
        let mut coming: Vec<_> =
            (0..OF_A_PEER_MAX as u64).map(|id| admit("one", id).unwrap()).collect();
        let refused = |peer, id| admit(peer, id).unwrap_err().reason;
        assert_eq!(
            (refused("one", 9).as_str(), refused("one", 3).as_str()),
            ("TRANSFERS_MAX", "REPEATED")
        );
        coming.extend((0..OF_A_PEER_MAX as u64).map(|id| admit("two", id).unwrap()));
        assert_eq!(coming.len(), COMING_MAX);
        assert_eq!(refused("three", 0), "TRANSFERS_MAX");
        coming.pop().unwrap().end(Outcome::Undone);
        assert_eq!(refused("two", OF_A_PEER_MAX as u64 - 1), "REPEATED");
        // Another node has numbers of its own; one that has not begun after all is forgotten.
        drop(admit("three", 0).unwrap());
        for id in 0..ENDED_MAX as u64 + 9 {
            admit("three", id).unwrap().end(Outcome::Kept);
        }
        // It has flushed its own, and none of another.
        assert_eq!(arrivals.0.borrow().ended.len(), ENDED_MAX + 1);
        assert_eq!(refused("two", OF_A_PEER_MAX as u64 - 1), "REPEATED");
        assert_eq!(arrivals.0.borrow().coming.len(), COMING_MAX - 1);
    }

    #[tokio::test]
    async fn the_first_verdict_counts_and_all_are_answered_alike() {
        let arrivals = Arrivals::default();
        let mut one = arrivals.admit("one", 7, 0).unwrap();
        let settle = |verdict| {
            let arrivals = arrivals.clone();
            async move { arrivals.settle("one", 7, verdict).await }
        };
        let first = tokio::spawn(settle(Verdict::Undo));
        one.told.wait_for(Option::is_some).await.unwrap();
        let second = tokio::spawn(settle(Verdict::Keep));
        tokio::task::yield_now().await;
        assert_eq!(*one.told.borrow(), Some(Told::Verdict(Verdict::Undo)));
        one.end(Outcome::Undone);
        for settled in [first.await.unwrap(), second.await.unwrap(), settle(Verdict::Keep).await] {
            assert_eq!(settled, Ok(Outcome::Undone));
        }
        let unknown = arrivals.settle("two", 7, Verdict::Undo).await.unwrap_err();
        assert_eq!(unknown.code, Code::NotFound, "of another node");
        arrivals.idle().await;
    }

    #[tokio::test]
    async fn an_operation_that_is_begun_anew_ends_what_is_left_of_it_and_nothing_else() {
        const LIMIT: Duration = Duration::from_secs(60);
        let arrivals = Arrivals::default();
        let mut old = arrivals.admit("one", 1, 7).unwrap();
        let others = [("one", 2, 8), ("two", 1, 7), ("one", 3, 0)]
            .map(|(peer, id, operation)| arrivals.admit(peer, id, operation).unwrap());
        let anew = arrivals.clone();
        let waiting = tokio::spawn(async move { anew.abandon("one", 7, LIMIT).await });
        old.told.wait_for(Option::is_some).await.unwrap();
        assert_eq!(*old.told.borrow(), Some(Told::Abandoned));
        assert!(!waiting.is_finished(), "it waits for its end");
        old.end(Outcome::Kept);
        waiting.await.unwrap();
        arrivals.abandon("one", 0, LIMIT).await;
        assert!(others.iter().all(|other| other.told.borrow().is_none()));
    }
}
