//! The network functions of an instance, in the order in which packets pass them.

use std::collections::VecDeque;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError};
use weir_state_transfer::{Chunk, FlowId, Nanos, PortId, StateFilter};

use super::connection::{self, TimeoutError};
use super::firewall::{self, Firewall, Reason, Verdict};
use super::ids::{self, Ids, Record, Timestamp};
use crate::icmp_error::Kind;
use crate::packet::{DropReason, Meta};

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
}

/// The network functions of one instance: all that they have but what they know of single flows.
#[derive(Debug, Default)]
pub struct Chain {
    pub(super) functions: Vec<Function>,
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
pub(super) enum Function {
    Firewall(Box<Firewall>),
    Ids(Box<Ids>),
}

/// What one function knows of a flow, in both directions.
#[derive(Debug)]
pub enum FlowState {
    /// The connection as the firewall tracks it.
    Firewall(Option<connection::Connection>),
    /// The connection as the intrusion detection sees it.
    Ids(Option<ids::Connection>),
}

/// A packet that functions are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) frame: &'a [u8],
    pub(crate) meta: &'a Meta,
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
    /// A time-out of the firewall is not in its bounds.
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
        for function in &functions {
            match function {
                FunctionConfig::Firewall(config) => config.tracking.timeouts.check()?,
                FunctionConfig::Ids(_) => {}
            }
        }
        Ok(Self { functions, day })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

impl Chain {
    /// The functions of an instance that counts as a replica.
    pub fn new(config: &ChainConfig, replica: Replica) -> Self {
        let make = |function: &FunctionConfig| match function {
            FunctionConfig::Firewall(config) => {
                let firewall = Firewall::new(config.clone(), replica);
                Function::Firewall(Box::new(firewall.expect("its time-outs have been checked")))
            }
            FunctionConfig::Ids(config) => Function::Ids(Box::new(Ids::new(*config, replica))),
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
        };
        self.functions.iter().map(unknown).collect()
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
        let decides = |function: &Function| matches!(function, Function::Firewall(_));
        let full = Refused { reason: DropReason::FunctionFull, answer: None };
        if self.functions.iter().any(decides) { Err(full) } else { Ok(()) }
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
        let day = self.day;
        for (function, state) in self.functions.iter_mut().zip(states) {
            match (function, state) {
                (Function::Firewall(firewall), FlowState::Firewall(connection)) => {
                    judge(firewall, connection, packet)?;
                }
                (Function::Ids(ids), FlowState::Ids(connection)) => {
                    ids.packet(connection, packet.meta, packet.frame, at(day, packet.now));
                }
                (Function::Firewall(_) | Function::Ids(_), _) => {
                    debug_assert!(false, "all instances of a node have the same functions");
                }
            }
        }
        Ok(())
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
                (Function::Firewall(_) | Function::Ids(_), _) => {}
            }
        }
        states.iter().all(FlowState::is_unknown)
    }

    /// Ends what is known of a flow, as when the node stops, with the records of its end.
    pub(crate) fn end(&mut self, states: &mut [FlowState]) {
        for (function, state) in self.functions.iter_mut().zip(states) {
            if let (Function::Ids(ids), FlowState::Ids(connection)) = (function, state) {
                ids.end(connection);
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
                Function::Ids(_) => {}
            }
        }
    }

    /// Whether there are records to be taken.
    pub(crate) fn has_records(&self) -> bool {
        self.functions.iter().any(|function| match function {
            Function::Ids(ids) => ids.waiting() > 0,
            Function::Firewall(_) => false,
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
                Function::Firewall(_) => {}
            }
        }
        records
    }

    /// What each function has counted, by its kind; instances that are gone are among it.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static str, Vec<(String, u64)>)> + '_ {
        self.functions.iter().map(|function| match function {
            Function::Firewall(firewall) => ("firewall", firewall.counters()),
            Function::Ids(ids) => ("ids", ids.counters()),
        })
    }

    /// Whether what instances that are gone knew has not all been taken over.
    pub(super) fn is_inheriting(&self) -> bool {
        !self.inherited.is_empty()
    }

    /// Takes over a piece of what an instance that is gone knew: its sources, function by function,
    /// and then its totals.
    pub(super) fn take_over(&mut self, sources: usize, now: Nanos) {
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
            if let (Function::Firewall(here), Some(ended)) = (here, gone.replica) {
                here.take_over(ended);
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
        let more = gone.get_multi_flow(&get, cursor, &mut chunks, now);
        chunks.iter().for_each(|chunk| drop(self.put_multi_flow(chunk, now)));
        more
    }

    /// What is known of several flows and a filter picks.
    pub(super) fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        now: Nanos,
    ) -> More {
        match self {
            Self::Firewall(firewall) => firewall.get_multi_flow(get, cursor, out, now),
            Self::Ids(ids) => ids.get_multi_flow(get, cursor, out),
        }
    }

    /// Joins what another knows of several flows.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub(super) fn put_multi_flow(&mut self, chunk: &Chunk, now: Nanos) -> Result<(), PutError> {
        match self {
            Self::Firewall(firewall) => firewall.put_multi_flow(chunk, now),
            Self::Ids(ids) => ids.put_multi_flow(chunk),
        }
    }

    /// Forgets what is known of several flows; how much that was.
    pub(super) fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        match self {
            Self::Firewall(firewall) => firewall.del_multi_flow(ids),
            Self::Ids(of) => of.del_multi_flow(ids),
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
            (Self::Firewall(_) | Self::Ids(_), _) => {}
        }
    }
}

impl FlowState {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Firewall(connection) => connection.is_none(),
            Self::Ids(connection) => connection.is_none(),
        }
    }
}

fn judge(
    firewall: &mut Firewall,
    connection: &mut Option<connection::Connection>,
    packet: Shown<'_>,
) -> Result<(), Refused> {
    let Shown { frame, meta, port, now } = packet;
    match firewall.judge(&connection::Packet::new(frame, meta, port), connection, now) {
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
