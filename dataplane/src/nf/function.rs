//! A network function as the chain of its instance sees it.

use weir_state_transfer::merge::{Life, Replica};
use weir_state_transfer::share::Slot;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, FlowKey, Nanos, PortId, ShareId};

use super::origin::Origin;
use super::share::{FunctionAnswer, FunctionOperation, FunctionPiece, Giving, Groups, Shareable};
use super::{Record, Timestamp, assets, connection, ids, nat};
use crate::icmp_error::Kind;
use crate::packet::{DropReason, Meta};

/// A network function of one instance: all that it has but what it knows of single flows.
pub(super) trait Function: std::fmt::Debug + Send {
    /// What it is called in the configuration.
    fn kind(&self) -> &'static str;

    /// The kinds of state that it has.
    fn kinds(&self) -> &'static [StateKind];

    /// What it knows of a flow that has not been seen.
    fn unknown(&self) -> FlowState;

    /// Takes in a packet. `state` is what it knows of the flow, and is to know from here on.
    ///
    /// # Errors
    /// Why the packet is not to go on.
    fn packet(
        &mut self,
        state: &mut FlowState,
        packet: Shown<'_>,
        now: Moment,
    ) -> Result<(), Refused>;

    /// Whether it changes packets, and gives flows a second name.
    fn translates(&self) -> bool {
        false
    }

    /// Makes a packet that comes back one of its flow by its first name, before others are shown
    /// it. Whether it has come back: then it is not to [leave](Self::leave).
    ///
    /// # Errors
    /// Why the packet is not to go on.
    fn arrive(
        &mut self,
        _state: &mut FlowState,
        _packet: &mut Passing<'_>,
        _now: Moment,
    ) -> Result<bool, Refused> {
        Ok(false)
    }

    /// Makes a packet that no other function has refused one of its flow by its second name.
    /// `taken` says whether a flow is known by a name that is made the same
    /// [both ways](FlowKey::both_ways), when a free one is looked for.
    ///
    /// # Errors
    /// Why the packet is not to go on.
    fn leave(
        &mut self,
        _state: &mut FlowState,
        _packet: &mut Passing<'_>,
        _taken: &dyn Fn(&FlowKey) -> bool,
        _now: Moment,
    ) -> Result<(), Refused> {
        Ok(())
    }

    /// Another function has refused the packet that has come back last: it has changed nothing.
    fn refused(&mut self, _state: &mut FlowState) {}

    /// A NAT behind it has refused the packet with which what it knows of a flow began: it did not
    /// come to be, and there is no record of it. What was counted as begun must be counted as ended.
    fn withdraw(&mut self, state: &mut FlowState) {
        *state = self.unknown();
    }

    /// What it knows of a flow is kept from here on, and was not: it has begun, or was put here. What
    /// comes with a move is not told.
    fn kept(&mut self, _state: &FlowState) {}

    /// What it knew of a flow is not kept any more, and did not end: it was deleted, or given up.
    fn lost(&mut self, _state: &FlowState) {}

    /// The name that the flow of a packet has for the other functions; none if the packet can not
    /// [arrive](Self::arrive). `state` is what is known of the flow.
    fn known_as(
        &self,
        _state: Option<&FlowState>,
        flow: &FlowKey,
        _now: Moment,
    ) -> Option<FlowKey> {
        Some(*flow)
    }

    /// Whether what it knows of a flow has been idle for too long, if it knows anything.
    fn is_over(&self, state: &FlowState, now: Moment) -> bool;

    /// Ends what has been idle for too long.
    fn expire(&mut self, state: &mut FlowState, now: Moment);

    /// Ends what it knows of a flow, with the records of its end.
    fn end(&mut self, _state: &mut FlowState) {}

    /// Looks for what it may forget among so many of the hosts that it knows; whether what it gives
    /// of several flows is another by that.
    fn sweep(&mut self, _hosts: usize, _now: Moment) -> bool {
        false
    }

    /// Whether it decides by what it knows of a flow, and so refuses it when there is no room for
    /// that.
    fn decides(&self, _flow: &FlowKey) -> bool {
        false
    }

    /// Records that wait to be taken.
    fn waiting(&self) -> usize {
        0
    }

    /// Takes the oldest record.
    fn next_record(&mut self) -> Option<Record> {
        None
    }

    /// What it has counted, by name.
    fn counters(&self) -> Vec<(String, u64)>;

    /// What it knows of a flow, as it is now, if it knows anything.
    fn chunk_of(&self, state: &FlowState, now: Moment) -> Option<Chunk>;

    /// What another instance knows of a flow.
    ///
    /// # Errors
    /// Why the chunk is not that.
    fn state_of(&self, chunk: &Chunk, now: Moment) -> Result<FlowState, PutError>;

    /// What it knows of several flows.
    fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        now: Moment,
    ) -> More;

    /// Joins what another instance knows of several flows.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    fn put_multi_flow(&mut self, chunk: &Chunk, now: Moment) -> Result<(), PutError>;

    /// Forgets what it knows of several flows; how many pieces of it there were.
    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize;

    /// What it knows of all flows.
    fn get_all_flows(&self) -> Vec<Chunk>;

    /// Joins what another instance knows of all flows.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError>;

    /// As which replica it counts what it knows of several flows, where that makes a difference to
    /// who takes it in when it is given away.
    fn counted_as(&self, _id: &FlowId) -> Option<Replica> {
        None
    }

    /// Takes in what an instance knew of several flows, counting as a replica, and has given away:
    /// it is no copy.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    fn inherit(&mut self, chunk: &Chunk, _by: Replica, now: Moment) -> Result<(), PutError> {
        self.put_multi_flow(chunk, now)
    }

    /// Takes over the counts of a life that has ended, all of which were joined.
    fn take_over(&mut self, _ended: Life) {}

    /// By how many bytes what is kept of the streams of all flows is more than it may be.
    fn excess(&self, _kept: usize) -> usize {
        0
    }

    /// Gives up what is kept of the streams of a flow; it goes on without.
    fn give_up(&mut self, _state: &mut FlowState) {}

    /// The sources that it knows, if it can share them.
    fn sources(&self) -> Option<&dyn Shareable> {
        None
    }

    /// The same, to be changed.
    fn sources_mut(&mut self) -> Option<&mut dyn Shareable> {
        None
    }

    /// The shared source that a packet is about, and the operation on it without whose answer it
    /// can not be processed. `state` is what is known of its flow.
    fn concern(
        &self,
        _state: Option<&FlowState>,
        _packet: Shown<'_>,
        _now: Moment,
    ) -> Option<(Origin, Option<FunctionOperation>)> {
        None
    }

    /// The next packet is judged by what is shared: by this answer, or without one.
    fn judge_by(&mut self, _answer: Option<&FunctionAnswer>) {}

    /// The packet has been judged, or will not be: an answer that is left is taken back.
    fn judged(&mut self) {}

    /// Executes an operation on what it knows of a source.
    fn execute(
        &mut self,
        _origin: Origin,
        _operation: &FunctionOperation,
        _now: Moment,
    ) -> FunctionAnswer {
        FunctionAnswer::Nothing
    }

    /// The next piece of what it knows of the sources of a slot; none when that was all.
    fn copy(&self, _share: ShareId, _slot: Slot, _cursor: &mut Cursor) -> Option<FunctionPiece> {
        None
    }

    /// Joins what another instance knows of sources: it gives it away, or keeps it.
    fn join(&mut self, _piece: FunctionPiece, _giving: Option<Giving>) {}

    /// All of what was given away has come, and its giver knows it no more: it is no copy.
    fn given(&mut self, _giving: Giving) {}
}

impl dyn Function {
    /// What it shares of the sources that it knows, if it can share them.
    pub(super) fn shared(&self) -> Option<&Groups> {
        self.sources().map(|known| known.groups())
    }

    /// The same, to be changed.
    pub(super) fn shared_mut(&mut self) -> Option<&mut Groups> {
        self.sources_mut().map(|known| known.groups_mut())
    }
}

/// What one function knows of a flow, in both directions.
#[derive(Debug)]
pub enum FlowState {
    /// The connection as the firewall tracks it.
    Firewall(Option<connection::Connection>),
    /// The connection as the intrusion detection sees it.
    Ids(Option<ids::Connection>),
    /// The flow as the asset detection sees it.
    Assets(Option<assets::Connection>),
    /// What the NAT translates the flow to.
    Nat(Option<nat::Translation>),
}

/// A packet that functions are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) frame: &'a [u8],
    pub(super) meta: &'a Meta,
    pub(super) port: PortId,
}

/// A packet on its way through the functions, some of which may change it.
#[derive(Debug)]
pub(crate) struct Passing<'a> {
    pub(crate) frame: &'a mut [u8],
    pub(crate) meta: &'a mut Meta,
    pub(crate) port: PortId,
    pub(crate) now: Nanos,
}

/// A time, as the node counts it and as people do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) uptime: Nanos,
    pub(super) day: Timestamp,
}

/// A function has refused a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: DropReason,
    /// What its sender is told.
    pub(crate) answer: Option<Kind>,
}

impl Passing<'_> {
    /// The packet as it is now, to look at.
    #[inline]
    pub(super) fn shown(&self) -> Shown<'_> {
        let Self { frame, meta, port, .. } = self;
        Shown { frame, meta, port: *port }
    }
}

impl FlowState {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Firewall(connection) => connection.is_none(),
            Self::Ids(connection) => connection.is_none(),
            Self::Assets(connection) => connection.is_none(),
            Self::Nat(translation) => translation.is_none(),
        }
    }

    /// Which flow it is about, if anything is known.
    pub(super) fn id(&self) -> Option<FlowId> {
        match self {
            Self::Firewall(known) => known.as_ref().map(|known| FlowId::flow(known.key())),
            Self::Ids(known) => known.as_ref().map(|known| FlowId::flow(known.key())),
            Self::Assets(known) => known.as_ref().map(|known| FlowId::flow(known.key())),
            Self::Nat(known) => known.as_ref().map(|known| FlowId::flow(known.original())),
        }
    }

    /// What a NAT knows of the flow, if this is of one.
    fn translation(&self) -> Option<&nat::Translation> {
        match self {
            Self::Nat(translation) => translation.as_ref(),
            Self::Firewall(_) | Self::Ids(_) | Self::Assets(_) => None,
        }
    }

    /// Whether this is a translation whose time is over.
    pub(crate) fn is_translation_over(&self, now: Nanos) -> bool {
        self.translation().is_some_and(|known| known.is_over(now))
    }

    /// The second name of a flow, in the direction of its first packet: what a NAT translates it
    /// to.
    pub(crate) fn translated(&self) -> Option<&FlowKey> {
        self.translation().map(nat::Translation::translated)
    }

    /// The second name of a flow, made the same [both ways](FlowKey::both_ways), if it is another
    /// than the first.
    pub(crate) fn second_key(&self) -> Option<FlowKey> {
        self.translation()?.second_key()
    }

    /// Whether the next packet may begin a translation, though the flow is known already.
    #[inline]
    pub(crate) fn may_translate_anew(&self, now: Nanos) -> bool {
        match self {
            Self::Nat(known) => {
                known.as_ref().is_none_or(|known| known.is_plain() || known.is_over(now))
            }
            Self::Firewall(_) | Self::Ids(_) | Self::Assets(_) => false,
        }
    }

    /// Notes that a function was given the state of another: all instances of a node have the same
    /// functions in the same order, so that there is none.
    pub(super) fn is_of_another(&self) {
        debug_assert!(false, "the state of another function: {self:?}");
    }
}
