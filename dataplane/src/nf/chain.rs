//! The network functions of an instance, in the order in which packets pass them.
//!
//! A NAT is the last, and the others know each flow by the name that it has for the end that has
//! begun it: what comes back passes the NAT first.

pub(super) mod faults;
mod keeping;
mod memory;

use std::collections::VecDeque;
use std::sync::Arc;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::{Cursor, Get, More, StateKind};
use weir_state_transfer::{FlowKey, Nanos, StateFilter, SteeringHash};

use super::assets::{self, Assets};
use super::connection::TimeoutError;
use super::firewall::{self, Firewall};
use super::function::{FlowState, Function, Moment, Passing, Refused};
use super::ids::{self, Ids};
use super::life::life;
use super::multi_flow::{Piece, next_chunks};
use super::nat::{self, Nat};
use super::share::Sharing;
use super::{Record, Timestamp};
use crate::packet::DropReason;
use faults::Faults;
pub(crate) use faults::{Caught, During};
pub(crate) use memory::kept;

/// Functions that an instance has at most.
pub const FUNCTIONS_MAX: usize = 8;

/// What the functions of every instance of a node are, and how they are set up.
#[derive(Clone, Debug, Default)]
pub struct ChainConfig {
    pub(super) functions: Vec<FunctionConfig>,
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
    /// Addresses that flows have on the other side.
    Nat(nat::Config),
}

/// The network functions of one instance: all that they have but what they know of single flows.
#[derive(Debug, Default)]
pub struct Chain {
    pub(super) functions: Vec<Box<dyn Function>>,
    /// Whether the last of them is a NAT.
    has_nat: bool,
    replica: Option<Replica>,
    day: Timestamp,
    pub(super) faults: Faults,
    /// Shares that it takes part in.
    pub(super) sharing: Vec<Arc<Sharing>>,
    /// Whether what they know of sources was changed by a share, and not by a packet.
    pub(super) changed_by_share: bool,
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
    /// There is a function behind a NAT.
    #[error("a NAT is the last of the network functions, and there is one only")]
    NatNotLast,
}

impl ChainConfig {
    /// Functions in the order in which packets pass them; `day` is what the time of day is ahead of
    /// the time of the packets.
    ///
    /// # Errors
    /// When there are too many, one can not be set up like that, or one is behind a NAT.
    pub fn new(functions: Vec<FunctionConfig>, day: Timestamp) -> Result<Self, ChainError> {
        if functions.len() > FUNCTIONS_MAX {
            return Err(ChainError::TooMany(functions.len()));
        }
        functions.iter().try_for_each(FunctionConfig::check)?;
        let is_nat = |function: &FunctionConfig| matches!(function, FunctionConfig::Nat(_));
        match functions.iter().position(is_nat) {
            Some(place) if place + 1 < functions.len() => Err(ChainError::NatNotLast),
            Some(_) | None => Ok(Self { functions, day }),
        }
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

    /// Whether there is a NAT.
    pub fn has_nat(&self) -> bool {
        self.nat_rules().is_some()
    }

    /// The rules of the NAT, if there is one.
    pub fn nat_rules(&self) -> Option<&nat::Rules> {
        match self.functions.last()? {
            FunctionConfig::Nat(config) => Some(&config.rules),
            FunctionConfig::Firewall(_) | FunctionConfig::Ids(_) | FunctionConfig::Assets(_) => {
                None
            }
        }
    }

    /// The kinds of state that the functions have.
    pub fn kinds(&self) -> Vec<StateKind> {
        let kinds = |function: &FunctionConfig| -> &[StateKind] {
            match function {
                FunctionConfig::Firewall(_) => &Firewall::KINDS,
                FunctionConfig::Ids(_) => &Ids::KINDS,
                FunctionConfig::Assets(_) => &Assets::KINDS,
                FunctionConfig::Nat(_) => &Nat::KINDS,
            }
        };
        self.functions.iter().flat_map(kinds).copied().collect()
    }
}

impl Chain {
    /// The functions of an instance that counts as a replica, at a node with a steering hash.
    pub fn new(config: &ChainConfig, hash: &SteeringHash, replica: Replica) -> Self {
        let function = |function: &FunctionConfig| function.function(hash, replica);
        let functions: Vec<_> = config.functions.iter().map(function).collect();
        let has_nat = functions.last().is_some_and(|last| last.translates());
        let (replica, day) = (Some(replica), config.day);
        Self { functions, has_nat, replica, day, ..Self::default() }
    }

    /// Whether there is a NAT, so that what begins must not begin twice: it takes what others could
    /// take.
    #[inline]
    pub(crate) fn has_nat(&self) -> bool {
        self.has_nat
    }

    /// Whether a flow that begins may be given another name: a rule of the NAT is about it.
    pub(crate) fn may_translate(&self, flow: &FlowKey) -> bool {
        self.has_nat && self.functions.last().is_some_and(|nat| nat.decides(flow))
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
        packet: &mut Passing<'_>,
        taken: &dyn Fn(&FlowKey) -> bool,
    ) -> (Result<(), Refused>, Option<Box<[FlowState]>>) {
        let mut states = std::mem::take(&mut self.blank);
        if states.len() != self.functions.len() {
            // The first, and after a panic.
            states = self.unknown();
        }
        let verdict = self.process(&mut states, packet, taken);
        if self.has_nat && verdict.is_err_and(|refused| refused.reason == DropReason::Nat) {
            // Others have seen the first packet of a flow that does not begin.
            let others = self.functions.iter_mut().rev().zip(states.iter_mut().rev()).skip(1);
            let known = others.filter(|(_, state)| !state.is_unknown());
            known.for_each(|(function, state)| function.withdraw(state));
        }
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
    pub(crate) fn process_without_room(&self, flow: &FlowKey) -> Result<(), Refused> {
        let full = Refused { reason: DropReason::FunctionFull, answer: None };
        let decides = self.functions.iter().any(|function| function.decides(flow));
        if decides { Err(full) } else { Ok(()) }
    }

    /// Shows a packet to each function until one refuses it. `states` is what they know of its
    /// flow; `taken` says whether anything is known by a name, when a NAT looks for a free one.
    ///
    /// # Errors
    /// Which function has refused the packet.
    #[inline]
    pub(crate) fn process(
        &mut self,
        states: &mut [FlowState],
        packet: &mut Passing<'_>,
        taken: &dyn Fn(&FlowKey) -> bool,
    ) -> Result<(), Refused> {
        if self.has_nat {
            return self.process_with_nat(states, packet, taken);
        }
        self.show_to(self.functions.len(), states, packet, true)
    }

    /// Shows a packet to the first functions. `last` says whether no other is asked about it then.
    #[inline]
    fn show_to(
        &mut self,
        functions: usize,
        states: &mut [FlowState],
        packet: &Passing<'_>,
        last: bool,
    ) -> Result<(), Refused> {
        let now = self.moment(packet.now);
        let Self { functions: all, faults, .. } = self;
        for (n, (function, state)) in all.iter_mut().zip(states).take(functions).enumerate() {
            faults.begin(n);
            let verdict = function.packet(state, packet.shown(), now);
            faults.end(During::Packet, (last && n + 1 == functions) || verdict.is_err());
            verdict?;
        }
        Ok(())
    }

    /// Shows a packet to the functions in front of the NAT as one of its flow by its first name.
    fn process_with_nat(
        &mut self,
        states: &mut [FlowState],
        packet: &mut Passing<'_>,
        taken: &dyn Fn(&FlowKey) -> bool,
    ) -> Result<(), Refused> {
        let (now, others) = (self.moment(packet.now), self.functions.len().saturating_sub(1));
        let mut came_back = false;
        if let Some((nat, state)) = self.functions.last_mut().zip(states.last_mut()) {
            self.faults.begin(others);
            let verdict = nat.arrive(state, packet, now);
            self.faults
                .end(During::Packet, verdict.is_err() || (others == 0 && verdict == Ok(true)));
            came_back = verdict?;
        }
        if let Err(refused) = self.show_to(others, states, packet, came_back) {
            if came_back
                && let Some((nat, state)) = self.functions.last_mut().zip(states.last_mut())
            {
                nat.refused(state);
            }
            return Err(refused);
        }
        if !came_back && let Some((nat, state)) = self.functions.last_mut().zip(states.last_mut()) {
            self.faults.begin(others);
            let verdict = nat.leave(state, packet, taken, now);
            self.faults.end(During::Packet, true);
            verdict?;
        }
        Ok(())
    }

    /// Has the NAT alone translate an ICMP error of the router itself.
    ///
    /// # Errors
    /// When the flow is not known to it.
    pub(crate) fn translate_own(
        &mut self,
        states: &mut [FlowState],
        error: &mut Passing<'_>,
    ) -> Result<(), Refused> {
        let (now, place) = (self.moment(error.now), self.functions.len().saturating_sub(1));
        let Some((nat, state)) = self.functions.last_mut().zip(states.last_mut()) else {
            return Ok(());
        };
        self.faults.begin(place);
        let came_back = nat.arrive(state, error, now);
        let verdict = came_back.and_then(|came_back| match came_back {
            true => Ok(()),
            false => nat.leave(state, error, &|_| true, now),
        });
        self.faults.end(During::Packet, false);
        verdict
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

    /// Ends what is known of a flow, as when the node stops, with the records of its end. A function
    /// that panics has no record of it.
    pub(crate) fn end(&mut self, states: &mut [FlowState]) {
        let Self { functions, faults, .. } = self;
        for (n, (function, state)) in functions.iter_mut().zip(states).enumerate() {
            _ = faults.guard(n, During::End, || function.end(state));
        }
    }

    /// Takes over what the functions of an instance that is gone knew of more than one flow, as
    /// the sweeps go on.
    pub(crate) fn inherit(&mut self, gone: Self) {
        let inherited = Inherited { gone, done: 0, cursor: Cursor::default() };
        self.inherited.push_back(inherited);
    }

    /// Takes over what is inherited, and looks for hosts that may be forgotten: a bounded number
    /// of them in each function. Whether what they know of several flows is another by that.
    pub(crate) fn sweep(&mut self, hosts: usize, now: Nanos) -> bool {
        let now = self.moment(now);
        let mut changed = self.is_inheriting();
        self.take_over(hosts, now);
        self.functions.iter_mut().for_each(|function| changed |= function.sweep(hosts, now));
        changed
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
    pub(crate) fn is_inheriting(&self) -> bool {
        !self.inherited.is_empty()
    }

    /// Takes over a piece of what an instance that is gone knew: its hosts, function by function,
    /// and then its totals. What there is no room for, or at which a function panics, is as if it had
    /// been forgotten.
    pub(super) fn take_over(&mut self, hosts: usize, now: Moment) {
        let Self { functions, faults, inherited, .. } = self;
        let Some(Inherited { gone, done, cursor }) = inherited.front_mut() else { return };
        let place = *done;
        if let Some((here, gone)) = functions.get_mut(place).zip(gone.functions.get(place)) {
            let filter = StateFilter::default();
            let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: hosts };
            let mut chunks = Vec::new();
            let next = next_chunks(faults, (place, &**gone), &get, cursor, &mut chunks, now);
            for chunk in chunks {
                let join = || Piece::of(&**gone, chunk).join(&mut **here, now);
                drop(faults.guard(place, During::MultiFlow, join));
            }
            if next.more == More::No {
                (*done, *cursor) = (*done + 1, Cursor::default());
            }
            return;
        }
        let Some(Inherited { mut gone, .. }) = inherited.pop_front() else { return };
        for (n, (here, from)) in functions.iter_mut().zip(&gone.functions).enumerate() {
            _ = faults.guard(n, During::MultiFlow, || {
                from.get_all_flows().iter().for_each(|chunk| drop(here.put_all_flows(chunk)));
                gone.replica.into_iter().for_each(|ended| here.take_over(life(ended)));
            });
        }
        faults.take_over(&gone.faults);
        inherited.append(&mut gone.inherited);
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
            Self::Nat(_) => "nat",
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
            Self::Ids(_) | Self::Assets(_) | Self::Nat(_) => false,
        }
    }

    fn check(&self) -> Result<(), ChainError> {
        match self {
            Self::Firewall(config) => Ok(config.tracking.timeouts.check()?),
            Self::Ids(config) => Ok(config.timeouts.check()?),
            Self::Assets(_) => Ok(()),
            Self::Nat(config) => Ok(config.tracking.timeouts.check()?),
        }
    }

    /// The function of an instance that counts as a replica.
    fn function(&self, hash: &SteeringHash, replica: Replica) -> Box<dyn Function> {
        match self {
            Self::Firewall(config) => {
                let firewall = Firewall::new(config.clone(), replica);
                Box::new(firewall.expect("its time-outs have been checked"))
            }
            Self::Ids(config) => Box::new(Ids::new(*config, replica)),
            Self::Assets(config) => Box::new(Assets::new(*config, replica)),
            Self::Nat(config) => {
                let nat = Nat::new(config.clone(), hash, replica);
                Box::new(nat.expect("its time-outs have been checked"))
            }
        }
    }
}

#[cfg(test)]
mod copies;
#[cfg(test)]
mod forgotten;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod withdrawn;
