//! What a node in these tests is, what it receives, and what is asked of it.

use std::time::Duration;

use weir_state_transfer::chunk::Scope as StateScope;
use weir_state_transfer::share::{Limits, Mode, Request, Slot, View};
use weir_state_transfer::{InstanceId, StateFilter};

/// Packets that a steerer receives, changes of the share, and bounds.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) mode: Mode,
    pub(crate) instances: usize,
    /// Those that share at first.
    pub(crate) members: Vec<u8>,
    /// Draws the homes.
    pub(crate) key: u64,
    /// Of each steerer, in the order in which it receives them.
    pub(crate) script: Vec<Vec<Load>>,
    /// What is done with the share, in this order.
    pub(crate) acts: Vec<Act>,
    /// The share has started before the first packet.
    pub(crate) started: bool,
    /// Slots are handed over by one piece at a time.
    pub(crate) stepped: bool,
    /// Time may pass at any moment.
    pub(crate) timeouts: bool,
    /// Every operation comes twice.
    pub(crate) repeated: bool,
    /// What an instance has sent comes though it has failed since.
    pub(crate) late: bool,
    pub(crate) limits: Limits,
    pub(crate) fault: Option<Fault>,
}

/// A packet that is received: to which instance it is steered, and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Load {
    pub(crate) to: u8,
    pub(crate) slot: Slot,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// It needs nothing of the shared state.
    Plain,
    /// It visits, and does not wait.
    Blind,
    /// It visits, and waits for the answer.
    Wait,
    /// It waits for its turn, and only then knows that it visits.
    Lazy,
    /// It is dropped on its way to the instance.
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// From here on these share.
    Change(Vec<u8>),
    End,
    /// An instance is gone, with what it had and what it had sent.
    Fail(u8),
}

/// What the node does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The home takes a repeated operation for another one.
    RetryExecuted,
    /// An instance answers by itself, as its state was when it last was told.
    StaleReplica,
    /// A packet that needs nothing does not wait for those before it.
    Overtakes,
    /// The answer to one operation is taken for that to the next.
    AnswersSwapped,
    /// The home executes in the order in which operations come.
    NoWindow,
    /// One instance thinks that the homes are others.
    TwoHomes,
    /// A fence does not say what is owed.
    NothingOwed,
    /// A fence overtakes the operations in front of it.
    FenceEarly,
    /// State is deleted instead of handed over.
    PieceDropped,
    /// Packets without an operation are not told of.
    NoopUntold,
}

impl Scope {
    /// Two steerers and these packets, strong, among instances 0 and 1 of three, without changes.
    pub(crate) fn small(script: &[&[Load]]) -> Self {
        let patience = Duration::from_millis(1);
        let limits = Limits { slots: 2, steerers: 2, waiting: 16, window: 16, patience };
        Self {
            mode: Mode::Strong,
            instances: 3,
            members: vec![0, 1],
            key: 0,
            script: script.iter().map(|loads| loads.to_vec()).collect(),
            acts: Vec::new(),
            started: true,
            stepped: false,
            timeouts: false,
            repeated: false,
            late: false,
            limits,
            fault: None,
        }
    }

    pub(crate) fn strict(self) -> Self {
        Self { mode: Mode::Strict, ..self }
    }

    /// With one slot only.
    pub(crate) fn one_slot(self) -> Self {
        Self { limits: Limits { slots: 1, ..self.limits }, ..self }
    }

    /// With such a key that among these members the slots have these homes.
    pub(crate) fn homes(self, wanted: &[(&[u8], [u8; 2])]) -> Self {
        let fits = |key: &u64| {
            wanted.iter().all(|(members, homes)| {
                let view = View::new(1, &instances(members), &[], (self.limits.slots, *key));
                let home = |slot| view.home(Slot(slot), InstanceId(99)).0;
                (0..self.limits.slots).all(|slot| home(slot as u16) == homes[slot])
            })
        };
        let key = (0..100_000).find(fits).expect("some key has these homes");
        Self { key, ..self }
    }

    /// Packets in all.
    pub(crate) fn packets(&self) -> usize {
        self.script.iter().map(Vec::len).sum()
    }

    /// The number of the `n`th packet of a steerer.
    pub(crate) fn packet(&self, steerer: usize, n: usize) -> u8 {
        (self.script[..steerer].iter().map(Vec::len).sum::<usize>() + n) as u8
    }

    /// Whether some packets get a stamp only if they come at the right time.
    pub(crate) fn stamps_change(&self) -> bool {
        self.mode == Mode::Strict && (!self.started || !self.acts.is_empty())
    }

    /// Whether an instance fails.
    pub(crate) fn fails(&self) -> bool {
        self.acts.iter().any(|act| matches!(act, Act::Fail(_)))
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            members: instances(&self.members),
            filter: StateFilter::default(),
            scopes: vec![StateScope::MultiFlow],
            mode: self.mode,
            limits: self.limits,
            key: self.key,
        }
    }
}

pub(crate) fn instances(numbers: &[u8]) -> Vec<InstanceId> {
    numbers.iter().copied().map(InstanceId).collect()
}

/// A packet of slot 0 or 1.
pub(crate) const fn load(to: u8, slot: u16, kind: Kind) -> Load {
    Load { to, slot: Slot(slot), kind }
}

/// The same limits with these bounds on what waits at an instance and in a window.
pub(crate) fn bounded(limits: Limits, waiting: usize, window: usize) -> Limits {
    Limits { waiting, window, ..limits }
}
