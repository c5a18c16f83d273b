//! The network functions of an instance, in the order in which packets pass them.
//!
//! A NAT is the last, and the others know each flow by the name that it has for the end that has
//! begun it: what comes back passes the NAT first.

use std::collections::VecDeque;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::{Cursor, Get, More};
use weir_state_transfer::{FlowKey, Nanos, PortId, StateFilter, SteeringHash, protocol};

use super::FlowState;
use super::connection::{self, TimeoutError};
use super::firewall::{self, Firewall, Reason, Verdict};
use super::ids::{self, Ids, Record, Timestamp};
use super::nat::{self, Nat};
use crate::icmp_error::Kind;
use crate::packet::{DropReason, Flags, Meta};

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
    /// Addresses that flows have on the other side.
    Nat(nat::Config),
}

/// The network functions of one instance: all that they have but what they know of single flows.
#[derive(Debug, Default)]
pub struct Chain {
    functions: Vec<Function>,
    replica: Option<Replica>,
    day: Timestamp,
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

#[derive(Debug)]
enum Function {
    Firewall(Box<Firewall>),
    Ids(Box<Ids>),
    Nat(Box<Nat>),
}

/// A packet that functions are shown, and that a NAT changes.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) frame: &'a mut [u8],
    pub(crate) meta: &'a mut Meta,
    pub(crate) port: PortId,
    pub(crate) now: Nanos,
}

/// A function has refused a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: DropReason,
    /// What its sender is told.
    pub(crate) answer: Option<Kind>,
}

/// Why functions can not be set up as asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There are too many.
    #[error("there are {0} network functions, and {FUNCTIONS_MAX} are the most")]
    TooMany(usize),
    /// A time-out of a function is not in its bounds.
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
    /// When there are too many, or one can not be set up like that.
    pub fn new(functions: Vec<FunctionConfig>, day: Timestamp) -> Result<Self, ChainError> {
        if functions.len() > FUNCTIONS_MAX {
            return Err(ChainError::TooMany(functions.len()));
        }
        for function in &functions {
            match function {
                FunctionConfig::Firewall(config) => config.tracking.timeouts.check()?,
                FunctionConfig::Nat(config) => config.tracking.timeouts.check()?,
                FunctionConfig::Ids(_) => {}
            }
        }
        let is_nat = |function: &FunctionConfig| matches!(function, FunctionConfig::Nat(_));
        match functions.iter().position(is_nat) {
            Some(place) if place + 1 < functions.len() => Err(ChainError::NatNotLast),
            Some(_) | None => Ok(Self { functions, day }),
        }
    }

    /// The rules of the NAT, if there is one.
    pub fn nat_rules(&self) -> Option<&nat::Rules> {
        match self.functions.last() {
            Some(FunctionConfig::Nat(config)) => Some(&config.rules),
            Some(FunctionConfig::Firewall(_) | FunctionConfig::Ids(_)) | None => None,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

impl Chain {
    /// The functions of an instance that counts as a replica, at a node with a steering hash.
    pub fn new(config: &ChainConfig, hash: &SteeringHash, replica: Replica) -> Self {
        let make = |function: &FunctionConfig| match function {
            FunctionConfig::Firewall(config) => {
                let firewall = Firewall::new(config.clone(), replica);
                Function::Firewall(Box::new(firewall.expect("its time-outs have been checked")))
            }
            FunctionConfig::Ids(config) => Function::Ids(Box::new(Ids::new(*config, replica))),
            FunctionConfig::Nat(config) => {
                let nat = Nat::new(config.clone(), hash, replica);
                Function::Nat(Box::new(nat.expect("its time-outs have been checked")))
            }
        };
        let functions = config.functions.iter().map(make).collect();
        Self { functions, replica: Some(replica), day: config.day, ..Self::default() }
    }

    /// Whether there are none: packets need not be shown.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// What the functions know of a flow that has not been seen.
    pub(crate) fn unknown(&self) -> Box<[FlowState]> {
        let unknown = |function: &Function| match function {
            Function::Firewall(_) => FlowState::Firewall(None),
            Function::Ids(_) => FlowState::Ids(None),
            Function::Nat(_) => FlowState::Nat(None),
        };
        self.functions.iter().map(unknown).collect()
    }

    /// Whether there is a NAT, so that what begins must not begin twice: it takes what others could
    /// take.
    pub(crate) fn has_nat(&self) -> bool {
        matches!(self.functions.last(), Some(Function::Nat(_)))
    }

    /// Shows a packet of a flow that is not known. What is known of it from here on comes back: of
    /// a packet that begins nothing, as of one that is refused, nothing is kept or allocated.
    pub(crate) fn process_first(
        &mut self,
        packet: Shown<'_>,
        taken: impl Fn(&FlowKey) -> bool,
    ) -> (Result<(), Refused>, Option<Box<[FlowState]>>) {
        let mut states = std::mem::take(&mut self.blank);
        if states.len() != self.functions.len() {
            // The first, and after a panic.
            states = self.unknown();
        }
        let verdict = self.process(&mut states, packet, taken);
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
    pub(crate) fn process_without_room(&self, meta: &Meta) -> Result<(), Refused> {
        let decides = |function: &Function| match function {
            Function::Firewall(_) => true,
            Function::Nat(nat) => nat.rules().concern(&meta.key),
            Function::Ids(_) => false,
        };
        let full = Refused { reason: DropReason::FunctionFull, answer: None };
        if self.functions.iter().any(decides) { Err(full) } else { Ok(()) }
    }

    /// Shows a packet to each function until one refuses it. `states` is what they know of its
    /// flow; `taken` says whether anything is known under a key, when a NAT looks for a free one.
    ///
    /// # Errors
    /// Which function has refused the packet.
    pub(crate) fn process(
        &mut self,
        states: &mut [FlowState],
        mut packet: Shown<'_>,
        taken: impl Fn(&FlowKey) -> bool,
    ) -> Result<(), Refused> {
        let came_back = match self.nat_with(states) {
            Some((nat, translation)) => {
                let Shown { frame, meta, now, .. } = &mut packet;
                let verdict = nat.arrive(frame, meta, translation, *now);
                verdict.map(|verdict| translated(verdict, meta)).transpose()?.is_some()
            }
            None => false,
        };
        self.show_others(states, &packet)?;
        if !came_back && let Some((nat, translation)) = self.nat_with(states) {
            let Shown { frame, meta, now, .. } = packet;
            let verdict = nat.leave(frame, meta, translation, taken, now);
            translated(verdict, meta)?;
        }
        Ok(())
    }

    /// Whether a flow may begin at the NAT with the next packet, though others know it already.
    pub(crate) fn may_translate_anew(&self, states: &[FlowState]) -> bool {
        matches!(states.last(), Some(FlowState::Nat(known))
            if known.as_ref().is_none_or(nat::Translation::is_plain))
    }

    /// Shows a packet to the functions that change none.
    fn show_others(&mut self, states: &mut [FlowState], packet: &Shown<'_>) -> Result<(), Refused> {
        let day = self.day;
        for (function, state) in self.functions.iter_mut().zip(states) {
            match (function, state) {
                (Function::Firewall(firewall), FlowState::Firewall(connection)) => {
                    judge(firewall, connection, packet)?;
                }
                (Function::Ids(ids), FlowState::Ids(connection)) => {
                    ids.packet(connection, packet.meta, packet.frame, at(day, packet.now));
                }
                (Function::Nat(_), FlowState::Nat(_)) => {}
                (Function::Firewall(_) | Function::Ids(_) | Function::Nat(_), _) => {
                    debug_assert!(false, "all instances of a node have the same functions");
                }
            }
        }
        Ok(())
    }

    /// The NAT and what it knows of a flow.
    fn nat_with<'a>(
        &'a mut self,
        states: &'a mut [FlowState],
    ) -> Option<(&'a mut Nat, &'a mut Option<nat::Translation>)> {
        match (self.functions.last_mut()?, states.last_mut()?) {
            (Function::Nat(nat), FlowState::Nat(translation)) => Some((nat, translation)),
            (Function::Firewall(_) | Function::Ids(_) | Function::Nat(_), _) => None,
        }
    }

    /// Ends what has been idle for too long in each function; whether nothing is left.
    pub(crate) fn expire(&mut self, states: &mut [FlowState], now: Nanos) -> bool {
        let day = self.day;
        for (function, state) in self.functions.iter_mut().zip(states.iter_mut()) {
            match (function, state) {
                (Function::Firewall(firewall), FlowState::Firewall(connection)) => {
                    firewall.end_if_over(connection, now);
                }
                (Function::Ids(ids), FlowState::Ids(connection)) => {
                    ids.expire(connection, at(day, now));
                }
                (Function::Nat(nat), FlowState::Nat(translation)) => {
                    nat.end_if_over(translation, now);
                }
                (Function::Firewall(_) | Function::Ids(_) | Function::Nat(_), _) => {}
            }
        }
        states.iter().all(FlowState::is_unknown)
    }

    /// Ends what is known of a flow, as when the node stops, with the records of its end.
    pub(crate) fn end(&mut self, states: &mut [FlowState]) {
        for (function, state) in self.functions.iter_mut().zip(states) {
            match (function, state) {
                (Function::Ids(ids), FlowState::Ids(connection)) => ids.end(connection),
                (Function::Nat(nat), FlowState::Nat(translation)) => nat.end(translation),
                (Function::Firewall(_) | Function::Ids(_) | Function::Nat(_), _) => {}
            }
        }
    }

    /// Takes over what the functions of an instance that is gone knew of more than one flow, as
    /// the sweeps go on.
    pub(crate) fn inherit(&mut self, gone: Self) {
        let inherited = Inherited { gone, done: 0, cursor: Cursor::default() };
        self.inherited.push_back(inherited);
    }

    /// Takes over what is inherited, and looks for sources that may be forgotten: a bounded number
    /// of them in each function.
    pub(crate) fn sweep(&mut self, sources: usize, now: Nanos) {
        self.take_over(sources, now);
        for function in &mut self.functions {
            match function {
                Function::Firewall(firewall) => firewall.sweep_sources(sources, now),
                Function::Ids(_) | Function::Nat(_) => {}
            }
        }
    }

    /// Whether there are records to be taken.
    pub(crate) fn has_records(&self) -> bool {
        self.functions.iter().any(|function| match function {
            Function::Ids(ids) => ids.waiting() > 0,
            Function::Firewall(_) | Function::Nat(_) => false,
        })
    }

    /// Takes the oldest records, so many at most.
    pub(crate) fn take_records(&mut self, most: usize) -> Vec<Record> {
        let mut records = Vec::new();
        for function in &mut self.functions {
            match function {
                Function::Ids(ids) => {
                    let next = std::iter::from_fn(|| ids.next_record());
                    records.extend(next.take(most - records.len()));
                }
                Function::Firewall(_) | Function::Nat(_) => {}
            }
        }
        records
    }

    /// What each function has counted, by its kind; instances that are gone are among it.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static str, Vec<(String, u64)>)> + '_ {
        self.functions.iter().map(|function| match function {
            Function::Firewall(firewall) => ("firewall", firewall.counters()),
            Function::Ids(ids) => ("ids", ids.counters()),
            Function::Nat(nat) => ("nat", nat.counters()),
        })
    }

    /// Takes over a piece of what an instance that is gone knew: its sources, function by function,
    /// and then its totals.
    fn take_over(&mut self, sources: usize, now: Nanos) {
        let Some(Inherited { gone, done, cursor }) = self.inherited.front_mut() else { return };
        if let Some((here, gone)) = self.functions.get_mut(*done).zip(gone.functions.get(*done)) {
            if here.join_sources(gone, cursor, sources, now) == More::No {
                (*done, *cursor) = (*done + 1, Cursor::default());
            }
            return;
        }
        let Some(Inherited { mut gone, .. }) = self.inherited.pop_front() else { return };
        for (here, gone_function) in self.functions.iter_mut().zip(&gone.functions) {
            here.join_totals(gone_function);
            match (here, gone.replica) {
                (Function::Firewall(here), Some(ended)) => here.take_over(ended),
                (Function::Nat(here), Some(ended)) => here.take_over(ended),
                (Function::Firewall(_) | Function::Ids(_) | Function::Nat(_), _) => {}
            }
        }
        self.inherited.append(&mut gone.inherited);
    }
}

impl Function {
    /// Joins some of what another knows of sources. What there is no room for is as if it had been
    /// forgotten.
    fn join_sources(&mut self, gone: &Self, cursor: &mut Cursor, max: usize, now: Nanos) -> More {
        let get = Get { filter: &StateFilter::default(), extent: Extent::Overlaps, max };
        let mut chunks = Vec::new();
        match (self, gone) {
            (Self::Firewall(here), Self::Firewall(gone)) => {
                let more = gone.get_multi_flow(&get, cursor, &mut chunks, now);
                chunks.iter().for_each(|chunk| drop(here.put_multi_flow(chunk, now)));
                more
            }
            (Self::Ids(here), Self::Ids(gone)) => {
                let more = gone.get_multi_flow(&get, cursor, &mut chunks);
                chunks.iter().for_each(|chunk| drop(here.put_multi_flow(chunk)));
                more
            }
            (Self::Nat(here), Self::Nat(gone)) => {
                let more = gone.get_multi_flow(&get, cursor, &mut chunks);
                chunks.iter().for_each(|chunk| drop(here.put_multi_flow(chunk)));
                more
            }
            (Self::Firewall(_) | Self::Ids(_) | Self::Nat(_), _) => More::No,
        }
    }

    /// Joins what another has counted altogether.
    fn join_totals(&mut self, gone: &Self) {
        match (self, gone) {
            (Self::Firewall(here), Self::Firewall(gone)) => {
                gone.get_all_flows().iter().for_each(|chunk| drop(here.put_all_flows(chunk)));
            }
            (Self::Ids(here), Self::Ids(gone)) => {
                gone.get_all_flows().iter().for_each(|chunk| drop(here.put_all_flows(chunk)));
            }
            (Self::Nat(here), Self::Nat(gone)) => {
                gone.get_all_flows().iter().for_each(|chunk| drop(here.put_all_flows(chunk)));
            }
            (Self::Firewall(_) | Self::Ids(_) | Self::Nat(_), _) => {}
        }
    }
}

/// Marks a packet that a NAT has translated.
///
/// # Errors
/// That the NAT has refused it.
fn translated(verdict: nat::Verdict, meta: &mut Meta) -> Result<(), Refused> {
    let reason = match verdict {
        nat::Verdict::Pass => return Ok(()),
        nat::Verdict::Translate => {
            meta.flags = meta.flags.with(Flags::TRANSLATED, true);
            return Ok(());
        }
        nat::Verdict::Drop(reason) => reason,
    };
    let answer = match reason {
        // RFC 5508, REQ-8.
        nat::Reason::Exhausted => Some(Kind::Prohibited),
        // Nothing listens there; senders of TCP are not answered (RFC 5382, REQ-4).
        nat::Reason::Unsolicited if meta.protocol == protocol::UDP => Some(Kind::PortUnreachable),
        nat::Reason::Unsolicited
        | nat::Reason::Invalid(_)
        | nat::Reason::Bypass
        | nat::Reason::Protocol => None,
    };
    Err(Refused { reason: DropReason::Nat, answer })
}

fn judge(
    firewall: &mut Firewall,
    connection: &mut Option<connection::Connection>,
    packet: &Shown<'_>,
) -> Result<(), Refused> {
    let Shown { frame, meta, port, now } = packet;
    match firewall.judge(&connection::Packet::new(frame, meta, *port), connection, *now) {
        Verdict::Accept => Ok(()),
        Verdict::Drop(reason) => Err(Refused {
            reason: DropReason::Firewall,
            answer: (reason == Reason::RuleReject).then_some(Kind::Prohibited),
        }),
    }
}

/// The time of day at a time of the packets.
fn at(day: Timestamp, now: Nanos) -> Timestamp {
    Timestamp(day.0.saturating_add(now.0))
}
