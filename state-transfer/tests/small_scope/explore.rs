//! Depth-first search through every interleaving of a scope, each state visited once.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::model::{Model, Step, Violation};
use crate::node::Outcome;
use crate::scope::{Owners, Scope};

/// What a search has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) states: usize,
    /// States in which nothing more can happen.
    pub(crate) ends: usize,
    /// Such states in which a move was done, or was undone.
    pub(crate) done: usize,
    pub(crate) undone: usize,
    /// Such states in which packets were lost, all of them counted.
    pub(crate) lossy: usize,
    /// Such states before which packets were processed, or may have left, out of order.
    pub(crate) reordered: usize,
    /// What each end looks like to an observer.
    pub(crate) observed: HashSet<End>,
}

/// Packets processed and lost, owners, and what became of the moves.
pub(crate) type End = (u64, u64, Owners, Vec<Outcome>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, ends, done, undone, lossy, reordered, .. } = self;
        write!(f, "{states} states, {ends} ends ({done} done, {undone} undone, ")?;
        write!(f, "{lossy} lossy, {reordered} reordered)")
    }
}

/// A schedule that ends where it must not.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) violation: Violation,
    pub(crate) schedule: Vec<Step>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} after", self.violation)?;
        self.schedule.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

/// Visits every state that a scope can reach.
///
/// # Errors
///
/// The first schedule that violates a promise.
pub(crate) fn explore(scope: Scope) -> Result<Report, Failure> {
    let mut search = Search::default();
    let model = Model::new(scope);
    search.visited.insert(fingerprint(&model));
    match search.visit(&model) {
        Ok(()) => {
            let report = std::mem::take(&mut search.report);
            Ok(Report { states: search.visited.len(), ..report })
        }
        Err(violation) => Err(Failure { violation, schedule: std::mem::take(&mut search.path) }),
    }
}

#[derive(Default)]
struct Search {
    visited: HashSet<u64, BuildHasherDefault<Same>>,
    report: Report,
    path: Vec<Step>,
}

impl Search {
    fn visit(&mut self, model: &Model) -> Result<(), Violation> {
        let mut steps = Vec::new();
        model.steps(&mut steps);
        let mut is_end = true;
        for step in steps {
            let mut next = model.clone();
            self.path.push(step);
            if next.take(step)? {
                is_end &= step.is_chosen();
                if self.visited.insert(fingerprint(&next)) {
                    self.visit(&next)?;
                }
            }
            self.path.pop();
        }
        if is_end { self.end(model) } else { Ok(()) }
    }

    fn end(&mut self, model: &Model) -> Result<(), Violation> {
        model.check_end()?;
        self.report.ends += 1;
        let outcomes = |outcome| usize::from(model.node.outcomes().any(|other| other == outcome));
        self.report.done += outcomes(Outcome::Done);
        self.report.undone += outcomes(Outcome::Undone);
        self.report.lossy += usize::from(model.seen.lost != 0);
        self.report.reordered += usize::from(model.seen.reordered != 0);
        let owners = model.node.steered.owners;
        let outcomes = model.node.outcomes().collect();
        self.report.observed.insert((model.seen.processed, model.seen.lost, owners, outcomes));
        Ok(())
    }
}

impl Drop for Search {
    /// Shows the schedule at which a machine panics.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("a panic after {:#?}", self.path);
        }
    }
}

impl Step {
    /// Whether it happens only if somebody wants it: a run may end without.
    pub(crate) fn is_chosen(self) -> bool {
        matches!(self, Self::Undo(_) | Self::Timeout)
    }
}

fn fingerprint(model: &Model) -> u64 {
    let mut fold = Fold(0x9E37_79B9_7F4A_7C15);
    model.hash(&mut fold);
    fold.finish()
}

/// Folds each word into 64 bits by a multiplication to 128.
struct Fold(u64);

impl Fold {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0xA076_1D64_78BD_642F;
        self.0 = (product as u64) ^ ((product >> 64) as u64).rotate_left(23);
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
        self.fold(bytes.len() as u64 | 1 << 63);
    }

    fn write_u8(&mut self, word: u8) {
        self.fold(u64::from(word) | 1 << 32);
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are whole words");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}
