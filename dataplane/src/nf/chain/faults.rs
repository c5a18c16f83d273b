//! Panics of functions: whose they are, how many there were, and those that tests ask for.

use super::{Chain, FUNCTIONS_MAX};

/// What is known of panics.
#[derive(Debug, Default)]
pub(in crate::nf) struct Faults {
    /// The function at work: if it panics, this stays.
    running: Option<usize>,
    /// By function.
    panics: [u64; FUNCTIONS_MAX],
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
        self.running = None;
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
    /// Has the last function that is about a flow panic, so many flows on.
    pub(crate) fn ask_for_fault(&mut self, during: During, flows: u64) {
        self.faults.asked = Some(Asked { during, flows });
    }

    /// Which function was at work when the worker panicked, if one was: it is counted.
    pub(crate) fn panicked(&mut self) -> Option<&'static str> {
        let function = self.faults.running.take()?;
        if let Some(panics) = self.faults.panics.get_mut(function) {
            *panics += 1;
        }
        self.functions.get(function).map(|function| function.kind())
    }
}
