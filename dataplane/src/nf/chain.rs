//! The network functions of an instance, in the order in which packets pass them.

pub(super) mod faults;
mod memory;

use std::collections::VecDeque;
use std::sync::Arc;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::{Cursor, Get, More, StateKind};
use weir_state_transfer::{Nanos, StateFilter};

use super::assets::{self, Assets};
use super::connection::TimeoutError;
use super::firewall::{self, Firewall};
use super::function::{FlowState, Function, Moment, Refused, Shown};
use super::ids::{self, Ids};
use super::life::life;
use super::share::Sharing;
use super::{Record, Timestamp};
use crate::packet::DropReason;
pub(crate) use faults::During;
use faults::Faults;
pub(crate) use memory::kept;

/// Functions that an instance has at most.
pub const FUNCTIONS_MAX: usize = 8;

/// What the functions of every instance of a node are, and how they are set up.
#[derive(Clone, Debug, Default)]
pub struct ChainConfig {
    functions: Vec<FunctionConfig>,
    day: Timestamp,
}

/// One function, and how it is set up.
#[derive(Clone, Debug)]
pub enum FunctionConfig {
    /// Which packets may pass, by the connections that they belong to.
    Firewall(firewall::Config),
    /// Logs of connections and of HTTP, scans of sources.
    Ids(ids::Config),
    /// Which hosts there are, and what they run.
    Assets(assets::Config),
}

/// The network functions of one instance: all that they have but what they know of single flows.
#[derive(Debug, Default)]
pub struct Chain {
    pub(super) functions: Vec<Box<dyn Function>>,
    replica: Option<Replica>,
    day: Timestamp,
    pub(super) faults: Faults,
    /// Shares that it takes part in.
    pub(super) sharing: Vec<Arc<Sharing>>,
    /// What they know of a flow that has not been seen, for the next that comes.
    blank: Box<[FlowState]>,
    /// Of instances that are gone: what they knew of more than one flow is taken over in pieces.
    inherited: VecDeque<Inherited>,
}

/// The functions of an instance that is gone, and how far the taking over of what they know has
/// come.
#[derive(Debug)]
struct Inherited {
    gone: Chain,
    /// Functions that have nothing left.
    done: usize,
    cursor: Cursor,
}

/// Why functions can not be set up as asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There are too many.
    #[error("there are {0} network functions, and {FUNCTIONS_MAX} are the most")]
    TooMany(usize),
    /// A time-out is not in its bounds.
    #[error(transparent)]
    Timeout(#[from] TimeoutError),
}

impl ChainConfig {
    /// Functions in the order in which packets pass them; `day` is what the time of day is ahead of
    /// the time of the packets.
    ///
    /// # Errors
    /// When there are too many, or one can not be set up like that.
    pub fn new(functions: Vec<FunctionConfig>, day: Timestamp) -> Result<Self, ChainError> {
        if functions.len() > FUNCTIONS_MAX {
            return Err(ChainError::TooMany(functions.len()));
        }
        functions.iter().try_for_each(FunctionConfig::check)?;
        Ok(Self { functions, day })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// How many functions have something to share, and for how many of them packets wait.
    pub(crate) fn sharing(&self) -> (usize, usize) {
        let count = |is: fn(&FunctionConfig) -> bool| {
            self.functions.iter().filter(|function| is(function)).count()
        };
        (count(FunctionConfig::shares), count(FunctionConfig::asks))
    }

    /// The kinds of state that the functions have.
    pub fn kinds(&self) -> Vec<StateKind> {
        let kinds = |function: &FunctionConfig| match function {
            FunctionConfig::Firewall(_) => Firewall::KINDS,
            FunctionConfig::Ids(_) => Ids::KINDS,
            FunctionConfig::Assets(_) => Assets::KINDS,
        };
        self.functions.iter().flat_map(kinds).collect()
    }
}

impl Chain {
    /// The functions of an instance that counts as a replica.
    pub fn new(config: &ChainConfig, replica: Replica) -> Self {
        let functions =
            config.functions.iter().map(|function| function.function(replica)).collect();
        Self { functions, replica: Some(replica), day: config.day, ..Self::default() }
    }

    /// Whether there are none: packets need not be shown.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// What the functions know of a flow that has not been seen.
    pub(crate) fn unknown(&self) -> Box<[FlowState]> {
        self.functions.iter().map(|function| function.unknown()).collect()
    }

    /// Shows a packet of a flow that is not known. What is known of it from here on comes back: of
    /// a packet that begins nothing, as of one that is refused, nothing is kept or allocated.
    pub(crate) fn process_first(
        &mut self,
        packet: Shown<'_>,
    ) -> (Result<(), Refused>, Option<Box<[FlowState]>>) {
        let mut states = std::mem::take(&mut self.blank);
        if states.len() != self.functions.len() {
            // The first, and after a panic.
            states = self.unknown();
        }
        let verdict = self.process(&mut states, packet);
        if states.iter().all(FlowState::is_unknown) {
            self.blank = states;
            return (verdict, None);
        }
        self.blank = self.unknown();
        (verdict, Some(states))
    }

    /// What becomes of a packet whose flow there is no room for: a function that decides by what it
    /// knows refuses it.
    ///
    /// # Errors
    /// That there is such a function.
    pub(crate) fn process_without_room(&self) -> Result<(), Refused> {
        let full = Refused { reason: DropReason::FunctionFull, answer: None };
        if self.functions.iter().any(|function| function.decides()) { Err(full) } else { Ok(()) }
    }

    /// Shows a packet to each function until one refuses it. `states` is what they know of its
    /// flow.
    ///
    /// # Errors
    /// Which function has refused the packet.
    pub(crate) fn process(
        &mut self,
        states: &mut [FlowState],
        packet: Shown<'_>,
    ) -> Result<(), Refused> {
        let now = self.moment(packet.now);
        let Self { functions, faults, .. } = self;
        let last = functions.len().saturating_sub(1);
        for (n, (function, state)) in functions.iter_mut().zip(states).enumerate() {
            faults.begin(n);
            let verdict = function.packet(state, packet, now);
            faults.end(During::Packet, n == last || verdict.is_err());
            verdict?;
        }
        Ok(())
    }

    /// Ends what has been idle for too long in each function; whether nothing is left.
    pub(crate) fn expire(&mut self, states: &mut [FlowState], now: Nanos) -> bool {
        let now = self.moment(now);
        let Self { functions, faults, .. } = self;
        let last = functions.len().saturating_sub(1);
        for (n, (function, state)) in functions.iter_mut().zip(states.iter_mut()).enumerate() {
            faults.begin(n);
            function.expire(state, now);
            faults.end(During::Sweep, n == last);
        }
        states.iter().all(FlowState::is_unknown)
    }

    /// Ends what is known of a flow, as when the node stops, with the records of its end.
    pub(crate) fn end(&mut self, states: &mut [FlowState]) {
        for (function, state) in self.functions.iter_mut().zip(states) {
            function.end(state);
        }
    }

    /// Takes over what the functions of an instance that is gone knew of more than one flow, as
    /// the sweeps go on.
    pub(crate) fn inherit(&mut self, gone: Self) {
        let inherited = Inherited { gone, done: 0, cursor: Cursor::default() };
        self.inherited.push_back(inherited);
    }

    /// Takes over what is inherited, and looks for hosts that may be forgotten: a bounded number
    /// of them in each function.
    pub(crate) fn sweep(&mut self, hosts: usize, now: Nanos) {
        let now = self.moment(now);
        self.take_over(hosts, now);
        self.functions.iter_mut().for_each(|function| function.sweep(hosts, now));
    }

    /// Whether there are records to be taken.
    pub(crate) fn has_records(&self) -> bool {
        self.functions.iter().any(|function| function.waiting() > 0)
    }

    /// Takes the oldest records, so many at most.
    pub(crate) fn take_records(&mut self, most: usize) -> Vec<Record> {
        let mut records = Vec::new();
        for function in &mut self.functions {
            let next = std::iter::from_fn(|| function.next_record());
            records.extend(next.take(most - records.len()));
        }
        records
    }

    /// What each function has counted, by its kind; instances that are gone are among it.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static str, Vec<(String, u64)>)> + '_ {
        self.functions.iter().enumerate().map(|(n, function)| {
            let mut counters = function.counters();
            counters.push(("panics".to_owned(), self.faults.panics(n)));
            (function.kind(), counters)
        })
    }

    /// Whether what instances that are gone knew has not all been taken over.
    pub(super) fn is_inheriting(&self) -> bool {
        !self.inherited.is_empty()
    }

    /// Takes over a piece of what an instance that is gone knew: its hosts, function by function,
    /// and then its totals. What there is no room for is as if it had been forgotten.
    pub(super) fn take_over(&mut self, hosts: usize, now: Moment) {
        let Some(Inherited { gone, done, cursor }) = self.inherited.front_mut() else { return };
        let ended = gone.replica;
        if let Some((here, gone)) = self.functions.get_mut(*done).zip(gone.functions.get(*done)) {
            let filter = StateFilter::default();
            let get = Get { filter: &filter, extent: Extent::Overlaps, max: hosts };
            let (mut chunks, ended) = (Vec::new(), ended.map(life));
            let more = gone.get_multi_flow(&get, cursor, &mut chunks, now);
            chunks.iter().for_each(|chunk| drop(here.inherit(chunk, ended, now)));
            if more == More::No {
                (*done, *cursor) = (*done + 1, Cursor::default());
            }
            return;
        }
        let Some(Inherited { mut gone, .. }) = self.inherited.pop_front() else { return };
        for (here, gone_function) in self.functions.iter_mut().zip(&gone.functions) {
            let totals = gone_function.get_all_flows();
            totals.iter().for_each(|chunk| drop(here.put_all_flows(chunk)));
            gone.replica.into_iter().for_each(|ended| here.take_over(life(ended)));
        }
        self.faults.take_over(&gone.faults);
        self.inherited.append(&mut gone.inherited);
    }

    pub(super) fn moment(&self, now: Nanos) -> Moment {
        Moment { uptime: now, day: Timestamp(self.day.0.saturating_add(now.0)) }
    }
}

impl FunctionConfig {
    /// What the function is called in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Firewall(_) => "firewall",
            Self::Ids(_) => "ids",
            Self::Assets(_) => "assets",
        }
    }

    /// Whether it has something to share: what sources have begun, if that is limited, or have
    /// tried.
    pub(crate) fn shares(&self) -> bool {
        self.asks() || matches!(self, Self::Ids(_))
    }

    /// Whether packets wait for what is shared.
    pub(crate) fn asks(&self) -> bool {
        match self {
            Self::Firewall(config) => !config.limits.is_none(),
            Self::Ids(_) | Self::Assets(_) => false,
        }
    }

    fn check(&self) -> Result<(), ChainError> {
        match self {
            Self::Firewall(config) => Ok(config.tracking.timeouts.check()?),
            Self::Ids(config) => Ok(config.timeouts.check()?),
            Self::Assets(_) => Ok(()),
        }
    }

    /// The function of an instance that counts as a replica.
    fn function(&self, replica: Replica) -> Box<dyn Function> {
        match self {
            Self::Firewall(config) => {
                let firewall = Firewall::new(config.clone(), replica);
                Box::new(firewall.expect("its time-outs have been checked"))
            }
            Self::Ids(config) => Box::new(Ids::new(*config, replica)),
            Self::Assets(config) => Box::new(Assets::new(*config, replica)),
        }
    }
}

#[cfg(test)]
mod lives;
