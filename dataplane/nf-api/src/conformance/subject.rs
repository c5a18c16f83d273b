//! The function under test, and what rules do with it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::iter;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::{Chunk, Schema, Scope};
use weir_state_transfer::quote::quoted;
use weir_state_transfer::southbound::Action;
use weir_state_transfer::state_filter::StateFilter;

use super::subscription::Subscriptions;
use super::{INTERRUPTED, Stop, Verdict, fail, skip, until};
use crate::client::{CallError, Client, Put, Query};
use crate::description::Description;

/// Chunks of one scope that the kit looks at, at most.
const CHUNKS_MAX: usize = 100_000;
/// How often state is looked at that is to change.
const LOOK: Duration = Duration::from_millis(20);

/// What state is, apart from what time changes: by what it is about and its schema, its version and
/// its body.
pub(super) type State = BTreeMap<(FlowId, Schema), (u64, Vec<u8>)>;

#[derive(Debug)]
pub(super) struct Subject {
    pub(super) client: Client,
    pub(super) description: Description,
    pub(super) patience: Duration,
    /// Whether the run is to end.
    pub(super) interrupted: watch::Receiver<bool>,
    pub(super) subscriptions: Subscriptions,
}

impl Subject {
    /// What the client asks, with what it has said of itself.
    pub(super) fn new(
        client: Client,
        description: Description,
        patience: Duration,
        interrupted: watch::Receiver<bool>,
    ) -> Self {
        let subscriptions = Subscriptions::default();
        Self { client, description, patience, interrupted, subscriptions }
    }

    /// It has to say the same of itself again.
    pub(super) async fn describes_the_same(&self) -> Verdict {
        let again = self.client.describe().await?;
        if again != self.description {
            return fail(format!("it says {:?}, and then {again:?}", self.description));
        }
        Ok(())
    }

    /// What it has counted has to be bounded, and well named. It need not tell any.
    pub(super) async fn tells_its_counters(&self) -> Verdict {
        self.client.counters().await?;
        Ok(())
    }

    /// It has to say by which rules each kind of its state is merged.
    pub(super) fn says_its_merge_rules(&self) -> Verdict {
        match self.description.kinds.iter().find(|kind| kind.merge_rules.is_empty()) {
            None => Ok(()),
            Some(kind) => fail(format!("it does not say how {} is merged", quoted(&kind.name))),
        }
    }

    /// Whether it says that it has state of a scope.
    pub(super) fn has(&self, scope: Scope) -> bool {
        self.description.kinds.iter().any(|kind| kind.scope == scope)
    }

    /// Whether it does not say that it refuses subscriptions with an action.
    pub(super) fn offers(&self, action: Action) -> bool {
        !self.description.refused_actions.contains(&action)
    }

    /// All state of a scope.
    pub(super) async fn all(&self, scope: Scope) -> Result<Vec<Chunk>, CallError> {
        self.get(scope, &Query::new(StateFilter::default())).await
    }

    /// What a query gives.
    pub(super) async fn get(&self, scope: Scope, query: &Query) -> Result<Vec<Chunk>, CallError> {
        self.client.get(scope, query).await?.all(CHUNKS_MAX).await
    }

    /// How many changes there were, where it counts them apart from versions.
    pub(super) async fn changes(&self, scope: Scope) -> Result<Option<u64>, CallError> {
        let mut chunks = self.client.get(scope, &Query::new(StateFilter::default())).await?;
        while chunks.next().await?.is_some() {}
        Ok(chunks.changes())
    }

    /// Waits until packets have made state of a scope, so that its rules need not be skipped.
    pub(super) async fn wait_for_state(&self, scope: Scope) {
        let some = async {
            // What goes wrong is told by the rules that ask the same.
            while self.all(scope).await.is_ok_and(|chunks| chunks.is_empty()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            _some = tokio::time::timeout(self.patience, some) => {}
            () = until(self.interrupted.clone()) => {}
        }
    }

    /// All state of a scope, of which there must be some.
    pub(super) async fn some(&self, scope: Scope) -> Result<Vec<Chunk>, Stop> {
        match self.all(scope).await? {
            chunks if !chunks.is_empty() => Ok(chunks),
            _ => skip(format!("there is no {scope} state: send it packets first")),
        }
    }

    /// All state of a scope, to be compared.
    pub(super) async fn state(&self, scope: Scope) -> Result<State, CallError> {
        Ok(state_of(&self.all(scope).await?, scope))
    }

    /// Puts bytes as they are.
    pub(super) async fn put_encoded(
        &self,
        scope: Scope,
        chunks: Vec<Vec<u8>>,
    ) -> Result<Put, CallError> {
        self.client.put(scope, iter(chunks)).await
    }

    /// Puts chunks, all of which have to be taken in.
    pub(super) async fn put(&self, scope: Scope, chunks: &[Chunk]) -> Verdict {
        let put = self.put_encoded(scope, encoded(chunks)?).await?;
        if let Some(refusal) = put.refusal {
            let index = usize::try_from(put.taken).unwrap_or(usize::MAX);
            let id = chunks.get(index).map(|chunk| chunk.id.to_string()).unwrap_or_default();
            return fail(format!("it refuses what it gave of {id}: {refusal}"));
        }
        if put.taken != chunks.len() as u64 {
            return fail(format!("it took {} of {} chunks in", put.taken, chunks.len()));
        }
        Ok(())
    }

    /// Deletes what chunks are about; how much there was.
    pub(super) async fn del(&self, scope: Scope, chunks: &[Chunk]) -> Result<u64, CallError> {
        let mut ids: Vec<FlowId> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        self.client.del(scope, &ids).await.map(|deleted| deleted.count)
    }

    /// Fails when state is not what it was.
    pub(super) async fn unchanged(&self, scope: Scope, before: &State, by: &str) -> Verdict {
        same(before, &self.state(scope).await?, by)
    }

    /// Waits until packets have changed state, and gives what it is then.
    pub(super) async fn changed(&self, scope: Scope, before: &State) -> Result<Vec<Chunk>, Stop> {
        let change = async {
            loop {
                let now = self.all(scope).await?;
                if state_of(&now, scope) != *before {
                    return Ok(now);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let changed = tokio::select! {
            changed = tokio::time::timeout(self.patience, change) => changed,
            () = until(self.interrupted.clone()) => return skip(INTERRUPTED),
        };
        match changed {
            Ok(changed) => changed,
            Err(_) => skip(format!("no packet changes {scope} state in {:?}", self.patience)),
        }
    }
}

/// Chunks as bytes.
pub(super) fn encoded(chunks: &[Chunk]) -> Result<Vec<Vec<u8>>, Stop> {
    let encoded: Result<_, _> = chunks.iter().map(Chunk::encode).collect();
    encoded.map_err(|error| Stop::Fail(format!("what it gave can not be put: {error}")))
}

/// Chunks, to be compared. Versions of what is merged are each function's own.
pub(super) fn state_of(chunks: &[Chunk], scope: Scope) -> State {
    let version = |chunk: &Chunk| if scope == Scope::PerFlow { chunk.version } else { 0 };
    let item =
        |chunk: &Chunk| ((chunk.id.clone(), chunk.schema), (version(chunk), chunk.body.clone()));
    chunks.iter().map(item).collect()
}

/// Fails when two states differ, and says in what.
pub(super) fn same(before: &State, after: &State, by: &str) -> Verdict {
    let differs = |key: &&(FlowId, Schema)| before.get(*key) != after.get(*key);
    let Some((id, schema)) = before.keys().chain(after.keys()).find(differs) else { return Ok(()) };
    let key = &(id.clone(), *schema);
    fail(match (before.get(key), after.get(key)) {
        (Some(_), None) => format!("{by} the state of {id} is gone"),
        (None, _) => format!("{by} there is state of {id}, which there was not"),
        (Some((version, old)), Some((now, new))) if old == new => {
            format!("{by} the state of {id} is of version {now}, and was of {version}")
        }
        (Some(_), Some(_)) => format!("{by} the state of {id} is another"),
    })
}
