//! A naive data plane: what the southbound API promises, in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;
use weir_api::dataplane::v1::{
    Balance, GetSteeringResponse, Instance, InstanceState, Move, MovePhase, Route, Share,
    WatchNodeResponse, r#move::Selection,
};
use weir_control::scaling::machine::{Action, Request};
use weir_state_transfer::{BUCKETS, BucketSet};

use super::policies::Policies;

/// Declared capacity of every instance, in nanoseconds a second.
pub(crate) const CAPACITY_NS: u64 = 100_000_000;

pub(crate) struct Model {
    pub(crate) incarnation: u64,
    pub(crate) instances: BTreeMap<u32, Instance>,
    pub(crate) owners: Vec<u8>,
    pub(crate) moves: Vec<Move>,
    pub(crate) shares: Vec<Share>,
    /// Shares that are asked for begin, and nobody is told.
    pub(crate) mute: bool,
    /// Who asks for the end of a share is not heard.
    pub(crate) deaf: bool,
    /// How often somebody has asked for the end of a share.
    pub(crate) asked_to_end: u32,
    /// Moves stand still before their first flow leaves.
    pub(crate) stands: bool,
    /// Moves that are asked for begin, and nobody is told.
    pub(crate) mute_moves: bool,
    /// So often the link breaks under who asks for a move to be undone, before that is heard.
    pub(crate) undo_trouble: u32,
    pub(crate) routes: BTreeMap<String, Route>,
    /// Those that it has when it starts: of its configuration.
    pub(crate) configured: BTreeMap<String, Route>,
    pub(crate) policies: Policies,
    /// Names of all instances ever created, in order.
    pub(crate) created: Vec<String>,
    pub(crate) balance: Balance,
    /// The work there is, in instances at full load.
    pub(crate) work: f64,
    /// The chance that the data plane undoes a move by itself.
    pub(crate) undo_chance: f64,
    pub(crate) random: fastrand::Rng,
    /// Buckets that a move in progress has flipped.
    flipped: BTreeMap<u64, Vec<usize>>,
    answered: BTreeMap<String, u64>,
    at_ns: u64,
    ticks: u64,
}

impl Model {
    /// A data plane with `count` ACTIVE instances that share the buckets.
    pub(crate) fn new(count: u32, seed: u64) -> Self {
        let mut model = Self {
            incarnation: seed | 1,
            instances: BTreeMap::new(),
            owners: (0..BUCKETS)
                .map(|bucket| (bucket * count as usize / BUCKETS + 1) as u8)
                .collect(),
            moves: Vec::new(),
            shares: Vec::new(),
            mute: false,
            deaf: false,
            asked_to_end: 0,
            stands: false,
            mute_moves: false,
            undo_trouble: 0,
            routes: BTreeMap::new(),
            configured: BTreeMap::new(),
            policies: Policies::default(),
            created: Vec::new(),
            balance: Balance::default(),
            work: 0.0,
            undo_chance: 0.0,
            random: fastrand::Rng::with_seed(seed),
            flipped: BTreeMap::new(),
            answered: BTreeMap::new(),
            at_ns: 0,
            ticks: 0,
        };
        for id in 1..=count {
            model.insert(id, &format!("sw{id}"), InstanceState::Active);
        }
        model
    }

    /// What a process that died and came back looks like: one instance, nothing remembered.
    pub(crate) fn restart(&mut self) {
        let incarnation = self.incarnation + 2;
        let configured = std::mem::take(&mut self.configured);
        let (routes, work) = (configured.clone(), self.work);
        let new = Self::new(1, self.random.u64(..));
        *self = Self { work, incarnation, routes, configured, ..new };
    }

    pub(crate) fn find_move(&self, id: u64) -> Result<&Move, Status> {
        let found = self.moves.iter().find(|listed| listed.id == id);
        found.ok_or_else(|| Status::not_found(format!("there is no move {id}")))
    }

    /// The moves that a request has begun.
    pub(crate) fn moves_of(&self, request_id: &str) -> Vec<&Move> {
        self.moves.iter().filter(|begun| begun.request_id == request_id).collect()
    }

    /// What a watcher of moves with this prefix is shown.
    pub(crate) fn watched(&self, prefix: &str) -> WatchNodeResponse {
        let asked = self.moves.iter().filter(|shown| shown.request_id.starts_with(prefix));
        WatchNodeResponse {
            incarnation: self.incarnation,
            instances: self.instances.values().cloned().collect(),
            moves: asked.cloned().collect(),
        }
    }

    fn insert(&mut self, id: u32, name: &str, state: InstanceState) {
        let instance = Instance {
            id,
            name: name.to_owned(),
            state: state as i32,
            capacity_ns: CAPACITY_NS,
            worker: id % 2,
            ..Instance::default()
        };
        self.instances.insert(id, instance);
    }

    fn once(
        &mut self,
        request_id: &str,
        job: impl FnOnce(&mut Self) -> Result<u64, Status>,
    ) -> Result<u64, Status> {
        if let Some(answer) = self.answered.get(request_id) {
            return Ok(*answer);
        }
        assert!(!request_id.is_empty() && request_id.len() <= 64, "request id {request_id:?}");
        let answer = job(self)?;
        self.answered.insert(request_id.to_owned(), answer);
        Ok(answer)
    }

    pub(crate) fn create(&mut self, request_id: &str, name: &str) -> Result<u64, Status> {
        self.once(request_id, |model| {
            if model.instances.values().any(|instance| instance.name == name) {
                return Err(Status::already_exists(format!("instance {name} exists")));
            }
            let id = (1..=255).find(|id| !model.instances.contains_key(id)).unwrap();
            model.insert(id, name, InstanceState::Starting);
            model.created.push(name.to_owned());
            Ok(u64::from(id))
        })
    }

    pub(crate) fn set_state(
        &mut self,
        request_id: &str,
        id: u32,
        to: InstanceState,
    ) -> Result<u64, Status> {
        self.once(request_id, |model| {
            let from = model.find(id)?.state();
            let allowed = match to {
                InstanceState::Active => {
                    matches!(from, InstanceState::Ready | InstanceState::Paused)
                }
                InstanceState::Paused => from == InstanceState::Active && !model.owns(id),
                _ => false,
            };
            if !allowed {
                return Err(Status::failed_precondition(format!("{id}: {from:?} to {to:?}")));
            }
            model.find(id)?.state = to as i32;
            Ok(u64::from(id))
        })
    }

    pub(crate) fn remove(&mut self, request_id: &str, id: u32) -> Result<u64, Status> {
        self.once(request_id, |model| {
            let state = model.find(id)?.state();
            if !matches!(state, InstanceState::Ready | InstanceState::Paused) || model.owns(id) {
                return Err(Status::failed_precondition(format!("{id} is {state:?}")));
            }
            model.instances.remove(&id);
            Ok(u64::from(id))
        })
    }

    pub(crate) fn start_move(
        &mut self,
        request_id: &str,
        from: u32,
        to: u32,
        selection: Selection,
    ) -> Result<u64, Status> {
        self.once(request_id, |model| {
            for id in [from, to] {
                if model.find(id)?.state() != InstanceState::Active {
                    return Err(Status::failed_precondition(format!("{id} is not active")));
                }
            }
            if let Selection::Buckets(text) = &selection {
                text.parse::<BucketSet>()
                    .map_err(|error| Status::invalid_argument(error.to_string()))?;
            }
            let id = model.moves.len() as u64 + 1;
            model.moves.push(Move {
                id,
                request_id: request_id.to_owned(),
                from,
                to,
                selection: Some(selection),
                phase: MovePhase::Queued as i32,
                started_ns: model.ticks,
                ..Move::default()
            });
            Ok(id)
        })
    }

    pub(crate) fn undo_move(&mut self, id: u64) -> Result<u64, Status> {
        if self.undo_trouble > 0 {
            self.undo_trouble -= 1;
            return Err(Status::unknown("transport error"));
        }
        let found = self.moves.iter_mut().find(|listed| listed.id == id);
        let found = found.ok_or_else(|| Status::not_found(format!("there is no move {id}")))?;
        match found.phase() {
            MovePhase::Queued | MovePhase::Preparing | MovePhase::Draining => {
                found.phase = MovePhase::Undoing as i32;
                found.reason = "undone on request".to_owned();
                Ok(id)
            }
            MovePhase::Undoing => Ok(id),
            _ => Err(Status::failed_precondition("its first flow has left")),
        }
    }

    /// Lets time pass: instances get ready, moves go on, some or all of them.
    pub(crate) fn tick(&mut self) {
        self.ticks += 1;
        for instance in self.instances.values_mut() {
            if instance.state() == InstanceState::Starting && self.random.bool() {
                instance.state = InstanceState::Ready as i32;
            }
        }
        for place in 0..self.moves.len() {
            if self.random.bool() {
                self.step_move(place);
            }
        }
    }

    fn step_move(&mut self, place: usize) {
        let undone = self.random.f64() < self.undo_chance;
        let current = &mut self.moves[place];
        let next = match current.phase() {
            MovePhase::Queued => MovePhase::Preparing,
            MovePhase::Preparing => {
                let mut flipped = Vec::new();
                if let Some(Selection::Buckets(text)) = &current.selection {
                    for bucket in text.parse::<BucketSet>().unwrap().iter().map(|b| b.index()) {
                        if u32::from(self.owners[bucket]) == current.from {
                            self.owners[bucket] = current.to as u8;
                            flipped.push(bucket);
                        }
                    }
                }
                self.flipped.insert(current.id, flipped);
                MovePhase::Draining
            }
            MovePhase::Draining if self.stands => MovePhase::Draining,
            MovePhase::Draining if undone => MovePhase::Undoing,
            MovePhase::Draining => MovePhase::Exporting,
            MovePhase::Exporting => {
                current.flows = self.flipped[&current.id].len() as u64;
                current.buckets_moved = current.flows as u32;
                current.ended_ns = self.ticks;
                MovePhase::Done
            }
            MovePhase::Undoing => {
                for bucket in self.flipped.remove(&current.id).unwrap_or_default() {
                    self.owners[bucket] = current.from as u8;
                }
                MovePhase::Undone
            }
            ended => ended,
        };
        current.phase = next as i32;
    }

    /// Does what a scale operation asks for.
    pub(crate) fn perform(&mut self, action: &Action) -> Result<u64, Status> {
        let id = action.request_id.as_str();
        match &action.request {
            Request::Create(name) => self.create(id, name),
            Request::Activate(instance) => self.set_state(id, *instance, InstanceState::Active),
            Request::Pause(instance) => self.set_state(id, *instance, InstanceState::Paused),
            Request::Remove(instance) => self.remove(id, *instance),
            Request::Move { source, destination, buckets } => {
                self.start_move(id, *source, *destination, Selection::Buckets(buckets.to_string()))
            }
            Request::UndoMove(moving) => self.undo_move(*moving),
        }
    }

    /// The instances with their counters, `at_ns` after the start.
    pub(crate) fn list(&mut self, at_ns: u64) -> Vec<Instance> {
        let active = self.instances.values().filter(|i| i.state() == InstanceState::Active).count();
        let elapsed = at_ns.saturating_sub(self.at_ns) as f64;
        self.at_ns = self.at_ns.max(at_ns);
        let busy = elapsed * self.work / active.max(1) as f64 * CAPACITY_NS as f64 / 1e9;
        for (id, instance) in &mut self.instances {
            instance.buckets =
                self.owners.iter().filter(|owner| u32::from(**owner) == *id).count() as u32;
            if instance.state() == InstanceState::Active {
                instance.busy_ns += busy as u64;
            }
        }
        self.instances.values().cloned().collect()
    }

    pub(crate) fn steering(&self) -> GetSteeringResponse {
        GetSteeringResponse { generation: 1, owners: self.owners.clone(), ..Default::default() }
    }

    /// Names of the ACTIVE instances.
    pub(crate) fn active(&self) -> BTreeSet<String> {
        let active = self.instances.values().filter(|i| i.state() == InstanceState::Active);
        active.map(|instance| instance.name.clone()).collect()
    }

    /// Every bucket has a live owner.
    pub(crate) fn assert_sound(&self) {
        for owner in &self.owners {
            let owner = &self.instances[&u32::from(*owner)];
            assert_eq!(owner.state(), InstanceState::Active, "owner {}", owner.name);
        }
    }

    /// No operation started the same instance twice.
    pub(crate) fn assert_created_once(&self) {
        let names: BTreeSet<&String> = self.created.iter().collect();
        assert_eq!(names.len(), self.created.len(), "created twice: {:?}", self.created);
    }

    /// The fewest and the most buckets that an instance owns.
    pub(crate) fn spread(&self) -> (usize, usize) {
        let counts = self
            .instances
            .keys()
            .map(|id| self.owners.iter().filter(|owner| u32::from(**owner) == *id).count());
        let counts: Vec<usize> = counts.collect();
        (*counts.iter().min().unwrap(), *counts.iter().max().unwrap())
    }

    fn find(&mut self, id: u32) -> Result<&mut Instance, Status> {
        let found = self.instances.get_mut(&id);
        found.ok_or_else(|| Status::not_found(format!("there is no instance {id}")))
    }

    fn owns(&self, id: u32) -> bool {
        let ended = |phase| matches!(phase, MovePhase::Done | MovePhase::Undone);
        let moving =
            |listed: &Move| (listed.from == id || listed.to == id) && !ended(listed.phase());
        self.owners.iter().any(|owner| u32::from(*owner) == id) || self.moves.iter().any(moving)
    }
}
