//! The steps of a move whose packets are held meanwhile, and led where their state is.
//!
//! What is deleted at the source is known to be at the destination. Where packets may have come to the
//! source since its state was carried, as when a data plane was started again or a hold was over, each
//! piece is compared with what has moved before it is deleted; what has changed stays, and is told.

use super::*;

/// The versions of the pieces of an id, by its scope and itself.
pub(super) type Moved = BTreeMap<(Scope, FlowId), BTreeSet<u64>>;

/// How packets are led, before anything is deleted at the source. That it was done is written down behind
/// it: no packet waits for that.
const LEAD: [Task; 3] = [Task::Lead, Task::Note(LeadStep::Led), Task::Recognise];

impl Steps {
    /// A move whose packets are held meanwhile, and led where their state is.
    pub fn led(filter: StateFilter, scopes: &BTreeSet<Scope>) -> Self {
        let (survey, carry) = (each(Task::Survey, scopes), each(Task::Carry, scopes));
        let note = |step| vec![Task::Note(step)];
        let tasks = [
            [survey, note(LeadStep::Hold), vec![Task::Stop, Task::Drain]].concat(),
            [note(LeadStep::Carry), carry, vec![Task::Assure]].concat(),
            [note(LeadStep::Lead), LEAD.to_vec()].concat(),
            [each(Task::Delete, scopes), vec![Task::Close]].concat(),
        ];
        Self { leads: true, ..Self::of_tasks(filter, tasks) }
    }

    /// What is left of such a move that an earlier sidecar has left, which had come so far and has
    /// written down what has moved. Per-flow state that the destination had of the same is lost with
    /// that sidecar.
    pub fn taken_up(
        filter: StateFilter,
        scopes: &BTreeSet<Scope>,
        step: LeadStep,
        moved: Vec<Piece>,
    ) -> Self {
        let per_flow: BTreeSet<_> =
            scopes.iter().copied().filter(|scope| *scope == Scope::PerFlow).collect();
        let tasks = match step {
            LeadStep::Hold => vec![vec![Task::GoBack]],
            LeadStep::Carry => {
                let (list, remove) = (each(Task::List, &per_flow), each(Task::Remove, &per_flow));
                vec![vec![Task::GoBack], list, remove]
            }
            LeadStep::Lead | LeadStep::Led => {
                vec![LEAD.to_vec(), compares(scopes), each(Task::Delete, scopes)]
            }
        };
        let is_led = matches!(step, LeadStep::Lead | LeadStep::Led);
        let reason = "the sidecar was started again, or had a fault, before all state had moved";
        let failure = (!is_led).then(|| Failure::new(FailureKind::Cancelled, reason));
        let moved = is_led.then(|| versions(moved));
        let tasks = tasks.into_iter().chain([vec![Task::Close]]);
        Self { leads: true, failure, moved, ..Self::of_tasks(filter, tasks) }
    }

    /// It goes on, and has not kept its promise: nothing else is written down.
    pub fn broke_its_promise(&mut self, failure: Failure) {
        self.falls_short(failure);
        self.todo.retain(|task| *task != Task::Note(LeadStep::Led));
        self.compares();
    }

    /// Packets may have come to the source since its state was carried: nothing is deleted there that is
    /// not as it has moved.
    pub fn compares(&mut self) {
        let deletes = |task: &Task| match task {
            Task::Delete(scope) => Some(*scope),
            _ => None,
        };
        let next = self.todo.iter().skip(1).position(|task| deletes(task).is_some());
        let Some(next) = next.map(|place| place + 1) else { return };
        if self.moved.is_some() && next > 1 {
            // That is to come yet.
            return;
        }
        let put = std::mem::take(&mut self.put);
        self.moved.get_or_insert_with(|| versions(put));
        let behind = self.todo.split_off(next);
        let scopes = behind.iter().filter_map(deletes).collect();
        self.todo.extend(compares(&scopes).into_iter().chain(behind));
    }

    /// Packets that were to be led have gone on to the source, and none has been led: in the place of the
    /// task in hand it goes back.
    pub fn lets_go(&mut self, failure: Failure) {
        self.failure = Some(failure);
        if let Some(moved) = self.moved.take() {
            // What was merged stays, as nobody knows any more what the destination had of its own.
            let piece = |(scope, id)| Piece { scope, id, version: 0 };
            let pieces = moved.into_keys().map(piece);
            self.put = pieces.filter(|piece| piece.scope == Scope::PerFlow).collect();
        }
        self.todo.truncate(1);
        self.todo.extend([Task::Unlead, Task::GoBack]);
        let undoes = self.undoes();
        self.todo.extend(undoes);
    }
}

/// Sees what the source has, behind all that it was sent, and once more that the destination is the same.
fn compares(scopes: &BTreeSet<Scope>) -> Vec<Task> {
    [vec![Task::Settle], each(Task::List, scopes), vec![Task::Recognise]].concat()
}

fn versions(pieces: Vec<Piece>) -> Moved {
    let mut versions = Moved::new();
    for Piece { scope, id, version } in pieces {
        versions.entry((scope, id.one_way())).or_default().insert(version);
    }
    versions
}
