//! One scale operation as data: what was planned and how far it got.

use std::fmt;

use weir_state_transfer::BucketSet;

use super::plan::{Direction, Plan};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepKind {
    /// Creates an instance and waits until it reports itself ready.
    Create,
    /// Lets an instance own flows.
    Activate,
    /// Moves buckets from one instance to another.
    Move,
    /// Takes an instance that owns nothing out of service.
    Pause,
    /// Removes it.
    Remove,
}

impl StepKind {
    /// All kinds in the order in which an operation goes through them.
    pub const ALL: [Self; 5] =
        [Self::Create, Self::Activate, Self::Move, Self::Pause, Self::Remove];

    /// The word for it, as in the step name `move:2`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Activate => "activate",
            Self::Move => "move",
            Self::Pause => "pause",
            Self::Remove => "remove",
        }
    }
}

/// How far a step got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Not begun.
    Planned,
    /// Asked for, or about to be.
    Running,
    /// The data plane shows that it is done.
    Done,
    /// Taken back.
    Undone,
}

/// One step of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// Its place among the steps of its kind, from 1.
    pub ordinal: u32,
    /// Name of the instance that it is about; of a move, the source.
    pub instance: String,
    /// Of a move, the name of the destination; else empty.
    pub destination: String,
    /// Of a move, the buckets; else empty.
    pub buckets: BucketSet,
    /// Of a move: see [`super::plan::PlannedMove::sweep`].
    pub sweep: bool,
    /// How far it got.
    pub state: StepState,
    /// Times that the data plane refused or undid it.
    pub attempts: u32,
    /// Flows moved.
    pub flows: u64,
    /// When it began, in nanoseconds since the operation started.
    pub started_ns: u64,
    /// When it was seen to be done or undone, in nanoseconds since the operation started.
    pub ended_ns: u64,
}

impl Step {
    fn new(kind: StepKind, place: usize, instance: &str) -> Self {
        Self {
            kind,
            ordinal: place as u32 + 1,
            instance: instance.to_owned(),
            destination: String::new(),
            buckets: BucketSet::empty(),
            sweep: false,
            state: StepState::Planned,
            attempts: 0,
            flows: 0,
            started_ns: 0,
            ended_ns: 0,
        }
    }
}

/// The name of a step, as in `move:2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepName {
    /// What it does.
    pub kind: StepKind,
    /// Its place among the steps of its kind, from 1.
    pub ordinal: u32,
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.word(), self.ordinal)
    }
}

impl std::str::FromStr for StepName {
    type Err = StepNameError;

    fn from_str(text: &str) -> Result<Self, StepNameError> {
        let (word, ordinal) = text.split_once(':').ok_or(StepNameError)?;
        let kind = StepKind::ALL.into_iter().find(|kind| kind.word() == word);
        let ordinal = ordinal.parse().map_err(|_| StepNameError)?;
        Ok(Self { kind: kind.ok_or(StepNameError)?, ordinal })
    }
}

/// A text is not the name of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a step is named as in create:1, activate:1, move:2, pause:1 or remove:1")]
pub struct StepNameError;

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// Goes forward.
    Running,
    /// Goes back.
    Undoing,
    /// Reached what was asked for.
    Done,
    /// As if it had not begun.
    Undone,
    /// Neither; every bucket still has a live owner.
    Failed,
}

impl OperationState {
    /// Whether nothing more happens.
    pub fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Undone | Self::Failed)
    }
}

/// Who asked for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A caller of the API.
    Command,
    /// The policy.
    Auto,
    /// The node differed from its desired state.
    Converge,
}

impl Origin {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Auto => "auto",
            Self::Converge => "converge",
        }
    }
}

/// A scale operation: its plan as steps, and how far it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number in the journal.
    pub id: u64,
    /// The caller's id of the request; empty when nobody called.
    pub request_id: String,
    /// Random; the request ids of its steps derive from it, so that a data plane that outlives
    /// the store does not take them for old ones.
    pub token: String,
    /// Who asked.
    pub origin: Origin,
    /// The start of the data plane that it works on.
    pub incarnation: u64,
    /// What it does to the number of instances.
    pub direction: Direction,
    /// Active instances before.
    pub from: u32,
    /// Active instances after.
    pub to: u32,
    /// How it stands.
    pub state: OperationState,
    /// Why it goes back or failed; empty otherwise.
    pub reason: String,
    /// The steps, in the order of [`StepKind::ALL`].
    pub steps: Vec<Step>,
    /// Unix time of its start, in nanoseconds.
    pub started_unix_ns: u64,
    /// From its start to its end or the last step that changed, in nanoseconds.
    pub elapsed_ns: u64,
    /// Times that a sidecar took it over from the journal.
    pub resumed: u32,
}

impl Operation {
    /// An operation that does what the plan says, with nothing begun.
    pub fn new(plan: &Plan, token: String, origin: Origin, incarnation: u64) -> Self {
        let mut steps = Vec::new();
        let named = |kind, names: &[String]| -> Vec<Step> {
            names.iter().enumerate().map(|(place, name)| Step::new(kind, place, name)).collect()
        };
        steps.extend(named(StepKind::Create, &plan.create));
        steps.extend(named(StepKind::Activate, &plan.activate));
        for (place, planned) in plan.moves.iter().enumerate() {
            steps.push(Step {
                destination: planned.destination.clone(),
                buckets: planned.buckets.clone(),
                sweep: planned.sweep,
                ..Step::new(StepKind::Move, place, &planned.source)
            });
        }
        steps.extend(named(StepKind::Pause, &plan.retire));
        steps.extend(named(StepKind::Remove, &plan.retire));
        Self {
            id: 0,
            request_id: String::new(),
            token,
            origin,
            incarnation,
            direction: plan.direction,
            from: plan.from,
            to: plan.to,
            state: OperationState::Running,
            reason: String::new(),
            steps,
            started_unix_ns: 0,
            elapsed_ns: 0,
            resumed: 0,
        }
    }

    /// Whether a move has begun: from then on a restarted sidecar finishes it.
    pub fn moving(&self) -> bool {
        self.of(StepKind::Move).any(|step| step.state != StepState::Planned)
    }

    /// Whether it can still be taken back: no instance has been removed yet.
    pub fn undoable(&self) -> bool {
        !self.state.ended() && self.of(StepKind::Remove).all(|s| s.state == StepState::Planned)
    }

    /// Flows moved by all steps.
    pub fn flows_moved(&self) -> u64 {
        self.steps.iter().map(|step| step.flows).sum()
    }

    /// From the start of the first move to the end of the last, in nanoseconds; 0 before that.
    pub fn moving_ns(&self) -> u64 {
        let begun = || self.of(StepKind::Move).filter(|step| step.state != StepState::Planned);
        let first = begun().map(|step| step.started_ns).min().unwrap_or(0);
        let last = begun().map(|step| step.ended_ns).max().unwrap_or(0);
        last.saturating_sub(first)
    }

    fn of(&self, kind: StepKind) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.kind == kind)
    }
}

impl Step {
    /// Its name, as in `move:2`.
    pub fn name(&self) -> StepName {
        StepName { kind: self.kind, ordinal: self.ordinal }
    }
}
