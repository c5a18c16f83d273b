//! Panics of functions: whose they are, how many there were, and those that tests ask for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Chain, FUNCTIONS_MAX};

/// What is known of panics.
#[derive(Debug, Default)]
pub(in crate::nf) struct Faults {
    /// The function at work: if it panics, this stays.
    running: Option<usize>,
    /// By function.
    panics: [u64; FUNCTIONS_MAX],
    /// Panics that have gone no further, since they were last taken note of: how many there were, and
    /// the function that was the last.
    caught: Option<(u64, usize)>,
    /// Asked for by a test.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    during: During,
    /// How many flows on, the next being the first.
    flows: u64,
}

/// What functions are about when a test has one panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// A packet: of a flow that functions are shown.
    Packet,
    /// A sweep: a flow that may be over.
    Sweep,
    /// An operation on what is shared.
    Execution,
    /// State of several flows, of which a piece is given away or taken in.
    MultiFlow,
    /// The end of what is known of a flow that is ended by another than its packets and its time.
    End,
}

/// Panics of functions that have gone no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    /// How many.
    pub(crate) panics: u64,
    /// The function that was the last.
    pub(crate) function: &'static str,
}

impl Faults {
    /// A function begins with a flow.
    #[inline]
    pub(in crate::nf) fn begin(&mut self, function: usize) {
        self.running = Some(function);
    }

    /// It is done with it, and `last` if no other is asked about the flow.
    #[inline]
    pub(in crate::nf) fn end(&mut self, during: During, last: bool) {
        if last && self.asked.is_some() {
            self.strike(during);
        }
        self.done();
    }

    /// No function is at work any more.
    #[inline]
    pub(in crate::nf) fn done(&mut self) {
        self.running = None;
    }

    /// Has a function do what is not about a packet. If it panics, which is counted, that costs what it
    /// was about, and whoever had more to do goes on: there is nothing then. The function is left as a
    /// panic at a packet leaves it.
    pub(in crate::nf) fn guard<T>(
        &mut self,
        function: usize,
        during: During,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| {
            if self.asked.is_some() {
                self.strike(during);
            }
            work()
        }));
        if done.is_err() {
            self.count(function);
            let before = self.caught.map_or(0, |(panics, _)| panics);
            self.caught = Some((before + 1, function));
        }
        done.ok()
    }

    /// Those of an instance that is gone count here.
    pub(super) fn take_over(&mut self, gone: &Self) {
        for (own, gone) in self.panics.iter_mut().zip(gone.panics) {
            *own += gone;
        }
    }

    /// Panics of a function.
    pub(super) fn panics(&self, function: usize) -> u64 {
        self.panics.get(function).copied().unwrap_or_default()
    }

    fn count(&mut self, function: usize) {
        if let Some(panics) = self.panics.get_mut(function) {
            *panics += 1;
        }
    }

    #[cold]
    fn strike(&mut self, during: During) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.during == during) {
            asked.flows = asked.flows.saturating_sub(1);
            if asked.flows == 0 {
                self.asked = None;
                panic!("a fault that was asked for");
            }
        }
    }
}

impl Chain {
    /// Has the last function that is about a flow panic, so many flows on; or the function that is
    /// about so many pieces on.
    pub(crate) fn ask_for_fault(&mut self, during: During, flows: u64) {
        self.faults.asked = Some(Asked { during, flows });
    }

    /// Which function was at work when the worker panicked, if one was: it is counted.
    pub(crate) fn panicked(&mut self) -> Option<&'static str> {
        let function = self.faults.running.take()?;
        self.faults.count(function);
        self.functions.get(function).map(|function| function.kind())
    }

    /// Panics that have gone no further, since this was asked last: they are counted.
    pub(crate) fn take_caught(&mut self) -> Option<Caught> {
        let (panics, function) = self.faults.caught.take()?;
        let function = self.functions.get(function)?.kind();
        Some(Caught { panics, function })
    }
}
