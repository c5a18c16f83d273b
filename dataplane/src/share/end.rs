//! One instance's end of a share, as it travels: made by the node, at work on a worker, and handed
//! back.

use std::sync::Arc;

use weir_state_transfer::share::{Limits, Member, Mode};
use weir_state_transfer::{InstanceId, Nanos, ShareId, WorkerId};

use super::Waiting;
use crate::nf::{Answer, Chain, Group, Operation, Piece, Shared, Sharing};

/// What an instance asks others of a share, and executes for them.
pub(crate) type Asker = Member<Operation, Answer, Piece, Waiting>;

/// An instance's end of a share with the memory that it needs.
#[derive(Debug)]
pub struct ShareEnd {
    sharing: Arc<Sharing>,
    pub(crate) me: InstanceId,
    member: Asker,
    /// The worker of each instance, by instance number.
    pub(crate) workers: Arc<[WorkerId; 256]>,
    pub(crate) stage: Stage,
    /// Packets that wait.
    pub(crate) packets: usize,
    /// What the functions need for it: with them while it is at work.
    pub(crate) groups: Vec<Option<Group>>,
    /// Operations and packets that may wait.
    waiting_max: usize,
    /// It was called and has not returned: after a panic there is no telling what it knows.
    at_work: bool,
}

/// How far an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The functions look at what they know.
    Indexing,
    Sharing,
    /// It goes when so many rounds have taken what is in the rings to it.
    Leaving(usize),
}

impl ShareEnd {
    /// The end of an instance that does not share yet.
    pub(crate) fn new(
        sharing: Arc<Sharing>,
        me: InstanceId,
        (mode, limits): (Mode, Limits),
        (workers, groups): (Arc<[WorkerId; 256]>, Vec<Option<Group>>),
    ) -> Self {
        Self {
            sharing,
            me,
            member: Member::new(me, mode, limits),
            workers,
            stage: Stage::Indexing,
            packets: 0,
            groups,
            waiting_max: limits.waiting,
            at_work: false,
        }
    }

    pub(crate) fn id(&self) -> ShareId {
        self.sharing.id
    }

    pub(crate) fn sharing(&self) -> &Arc<Sharing> {
        &self.sharing
    }

    /// Lets it act, on what the functions know.
    pub(crate) fn act<R>(
        &mut self,
        chain: &mut Chain,
        act: impl FnOnce(&mut Asker, &mut Shared<'_>) -> R,
    ) -> R {
        self.at_work = true;
        let result = act(&mut self.member, &mut Shared { chain, share: self.sharing.id });
        self.at_work = false;
        result
    }

    /// Whether a panic has left it half done.
    pub(crate) fn is_broken(&self) -> bool {
        self.at_work
    }

    /// Whether it can be given a change that keeps no packet.
    pub(crate) fn has_room(&self) -> bool {
        self.member.waiting() + 2 <= self.waiting_max
    }

    /// Whether so many changes wait outside that no packet may make more.
    pub(crate) fn is_behind(&self, updates: usize) -> bool {
        updates > self.waiting_max
    }

    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        self.member.poll_timeout().is_some_and(|due| due <= now)
    }

    pub(crate) fn member(&mut self) -> &mut Asker {
        &mut self.member
    }

    /// The packets that wait at one that has failed.
    pub(crate) fn into_packets(self) -> impl Iterator<Item = Waiting> {
        self.member.into_packets()
    }
}
