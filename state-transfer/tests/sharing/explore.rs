//! Depth-first search through every interleaving of a scope, each state visited once.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::{Model, Step};
use crate::scope::Scope;
use crate::seen::Violation;
use crate::store::Visitors;

/// What a search has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) states: usize,
    /// States in which nothing more can happen.
    pub(crate) ends: usize,
    /// Such states in which packets were lost, all of them counted.
    pub(crate) lossy: usize,
    /// What the packets were answered, in each end.
    pub(crate) answers: HashSet<Vec<Option<Visitors>>>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, ends, lossy, answers } = self;
        write!(f, "{states} states, {ends} ends ({lossy} lossy), {} outcomes", answers.len())
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
    visited: HashSet<u64>,
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
                is_end = false;
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
        self.report.lossy += usize::from(model.seen.lost != 0);
        self.report.answers.insert(model.seen.answers.clone());
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

fn fingerprint(model: &Model) -> u64 {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    hasher.finish()
}
