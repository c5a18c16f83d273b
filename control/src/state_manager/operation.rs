//! Operations on state: what was asked for, how far it has come, and how it ended.

use std::collections::BTreeSet;

use weir_api::{
    dataplane::v1::{Guarantee, Move, Share, ShareMode},
    nf::v1::RefusalReason,
};
use weir_nf_api::client::CallError;
use weir_state_transfer::{BucketSet, FlowId, Nanos, StateFilter, chunk::Scope, filter};

use super::end::End;

/// Pieces that are left behind and listed; the others are counted.
pub const LISTED_MAX: usize = 64;

/// A move, a copy, a share or a notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Its number; never used again.
    pub id: u64,
    /// Of the request; empty for a notification.
    pub request_id: String,
    /// What was asked for.
    pub asked: Asked,
    /// Where it stands.
    pub state: State,
    /// How far it has come.
    pub progress: Progress,
    /// Why it ended otherwise than done, is being undone, or does not come further now.
    pub failure: Option<Failure>,
    /// When it began, since the sidecar started.
    pub started: Nanos,
    /// When it ended.
    pub ended: Option<Nanos>,
    /// When it began, by the clock on the wall.
    pub started_unix_ns: u64,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Change the owner of state.
    Move(MoveAsked),
    /// Merge state with that of another.
    Copy(CopyAsked),
    /// Have instances act on the same state.
    Share(ShareAsked),
    /// Tell of packets.
    Notify {
        /// Where.
        end: End,
        /// Which.
        filter: StateFilter,
        /// Bytes of each.
        snap: u32,
    },
}

/// A move that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveAsked {
    /// The source.
    pub from: End,
    /// The destination.
    pub to: End,
    /// Which state.
    pub selection: Selection,
    /// Of which scopes.
    pub scopes: BTreeSet<Scope>,
    /// What is promised of packets; never unspecified.
    pub guarantee: Guarantee,
}

/// A copy that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyAsked {
    /// The source.
    pub from: End,
    /// The destination.
    pub to: End,
    /// Which state.
    pub filter: StateFilter,
    /// Of which scopes.
    pub scopes: BTreeSet<Scope>,
}

/// A share that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareAsked {
    /// The instances, at least two.
    pub instances: Vec<End>,
    /// Which state.
    pub filter: StateFilter,
    /// Of which scopes.
    pub scopes: BTreeSet<Scope>,
    /// The order of operations; never unspecified.
    pub mode: ShareMode,
}

impl Asked {
    /// The instances of a share; none of others.
    pub fn instances(&self) -> &[End] {
        match self {
            Self::Share(asked) => &asked.instances,
            Self::Move(_) | Self::Copy(_) | Self::Notify { .. } => &[],
        }
    }
}

/// The state that a move names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// What a filter picks.
    Filter(StateFilter),
    /// Steering buckets: between instances only.
    Buckets(BucketSet),
}

impl Selection {
    /// The flows that it is about.
    pub fn flows(&self) -> filter::Selection {
        match self {
            Self::Filter(filter) => filter::Selection::Filter(filter.flows),
            Self::Buckets(buckets) => filter::Selection::Buckets(buckets.clone()),
        }
    }
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running,
    /// A move: it goes back.
    Undoing,
    /// It has done what was asked.
    Done,
    /// A move: all is as it was before.
    Undone,
    /// A copy, a share or a notification that was told to end.
    Cancelled,
    /// Neither done nor undone.
    Failed,
}

impl State {
    /// Whether nothing more comes.
    pub fn ended(self) -> bool {
        match self {
            Self::Running | Self::Undoing => false,
            Self::Done | Self::Undone | Self::Cancelled | Self::Failed => true,
        }
    }
}

/// How far an operation has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Chunks that the destination has taken in.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rounds of a copy that are done.
    pub rounds: u64,
    /// Chunks of the last of them.
    pub chunks_of_round: u64,
    /// Events that were told.
    pub events: u64,
    /// Events that were lost.
    pub events_lost: u64,
    /// What stays at the source, as the filter names only some of it, or as it has changed there since it
    /// was moved.
    pub left_behind: LeftBehind,
    /// Flows that finish at the source, as they are in use there; of the last round of a copy.
    pub in_use: u64,
    /// What the data plane tells of a move between instances.
    pub moved: Option<Move>,
    /// What it tells of a share.
    pub shared: Option<Share>,
}

/// Pieces of state that stay at the source of a move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// How many.
    pub count: u64,
    /// The first of them, [`LISTED_MAX`] at most.
    pub listed: Vec<FlowId>,
}

impl LeftBehind {
    /// One more.
    pub fn add(&mut self, id: FlowId) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(id);
        }
    }
}

/// Why an operation ended otherwise than done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What programs match on.
    pub kind: FailureKind,
    /// The same for people.
    pub reason: String,
    /// Which end it is about, if it is about one.
    pub end: Option<End>,
}

/// The kinds of failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// It was told to end.
    Cancelled,
    /// It took too long.
    Late,
    /// An end is not reached.
    Unreachable,
    /// An end refuses a call.
    Refused,
    /// The destination refuses a chunk.
    ChunkRefused(Box<ChunkRefusal>),
    /// An end answers what it must not.
    Malformed,
    /// There is more state than an operation carries.
    TooMuch,
    /// The data plane undid the move, or ended it without all that it was to take along; or it ended the
    /// share.
    Dataplane,
    /// The sidecar stops.
    Stopping,
    /// The sidecar itself has a fault.
    Internal,
    /// The other node refuses, or breaks off.
    PeerRefused {
        /// What programs match on.
        reason: String,
        /// What it is about there, as in `operations/7`; empty when nothing is named.
        object: String,
    },
}

/// A chunk that the destination refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRefusal {
    /// Its scope.
    pub scope: Scope,
    /// What it is about, in the words of filters.
    pub id: String,
    /// Why.
    pub reason: RefusalReason,
    /// The same for people.
    pub message: String,
}

impl Failure {
    /// A failure that is about no end.
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), end: None }
    }

    /// What it comes to when an end does not do what it was asked.
    pub fn of_call(error: &CallError, end: &End) -> Self {
        let kind = match error {
            CallError::Unreachable { .. } => FailureKind::Unreachable,
            CallError::Late { .. } => FailureKind::Late,
            CallError::Refused { .. } => FailureKind::Refused,
            CallError::Malformed { .. } => FailureKind::Malformed,
        };
        Self { kind, reason: format!("{end}: {error}"), end: Some(end.clone()) }
    }
}

impl Operation {
    /// The end that it takes state from, or is told of; none of a share.
    pub fn from(&self) -> Option<&End> {
        match &self.asked {
            Asked::Move(asked) => Some(&asked.from),
            Asked::Copy(asked) => Some(&asked.from),
            Asked::Notify { end, .. } => Some(end),
            Asked::Share(_) => None,
        }
    }

    /// The end that it brings state to.
    pub fn to(&self) -> Option<&End> {
        match &self.asked {
            Asked::Move(asked) => Some(&asked.to),
            Asked::Copy(asked) => Some(&asked.to),
            Asked::Share(_) | Asked::Notify { .. } => None,
        }
    }

    /// How long it has taken until `now`, or took in all.
    pub fn elapsed_ns(&self, now: Nanos) -> u64 {
        self.ended.unwrap_or(now).0.saturating_sub(self.started.0)
    }
}
