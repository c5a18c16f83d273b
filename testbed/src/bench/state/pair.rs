//! Two network functions of one kind, and the state that goes from the first to the second.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::{Builder, Runtime};
use weir_nf_api::client::{Client, Query};
use weir_state_transfer::StateFilter;
use weir_state_transfer::chunk::{Chunk, Scope};

use super::Plan;
use super::table::Row;
use crate::wait::{LIMIT, now, until};

/// Two network functions of one kind, as one who moves state between them asks them.
#[derive(Debug)]
pub(super) struct Pair {
    from: Client,
    to: Client,
    /// Dropped after the clients, whose connections are its tasks.
    runtime: Runtime,
}

/// Which state is measured.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) function: &'static str,
    pub(super) scope: Scope,
    pub(super) filter: &'a str,
    /// How many pieces of it there are.
    pub(super) flows: usize,
}

/// What a round has taken, and the bytes of all chunks.
#[derive(Clone, Copy, Debug)]
struct Round {
    get: Duration,
    put: Duration,
    bytes: usize,
}

impl Pair {
    /// Of clients that are made where they are asked.
    ///
    /// # Errors
    /// When this process can not wait for events.
    pub(super) fn new(clients: impl FnOnce() -> [Client; 2]) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let within = runtime.enter();
        let [from, to] = clients();
        drop(within);
        Ok(Self { from, to, runtime })
    }

    /// Waits until all state is there, and measures.
    ///
    /// # Errors
    /// When it does not come, something fails, or state is missing, refused or not deleted.
    pub(super) fn measure(&self, wanted: &Wanted<'_>, plan: &Plan) -> Result<Row> {
        let filter: StateFilter = wanted.filter.parse().context("a filter of this bench")?;
        let query = Query::new(filter);
        let Wanted { function, scope, flows, .. } = *wanted;
        let mut found = 0;
        let all = until("all state to be there", LIMIT, || {
            let got = self.runtime.block_on(get(&self.from, scope, &query)).ok()?;
            found = got.len();
            (found == flows).then_some(())
        });
        all.with_context(|| format!("{function}: {found} of {flows} flows"))?;
        let mut row = Row { function, scope, flows, get_us: vec![], put_us: vec![], bytes: 0.0 };
        let a_flow = |time: Duration| time.as_secs_f64() * 1e6 / flows as f64;
        for round in 0..=plan.rounds {
            let work = self.round(scope, &query, flows);
            let took = self.runtime.block_on(work).with_context(|| function.to_owned())?;
            row.bytes = took.bytes as f64 / flows as f64;
            if round > 0 {
                row.get_us.push(a_flow(took.get));
                row.put_us.push(a_flow(took.put));
            }
        }
        Ok(row)
    }

    async fn round(&self, scope: Scope, query: &Query, flows: usize) -> Result<Round> {
        let began = now();
        let chunks = get(&self.from, scope, query).await?;
        let get = began.elapsed();
        ensure!(chunks.len() == flows, "{} of {flows} flows are left", chunks.len());
        let bytes = chunks.iter().map(Vec::len).sum();
        let decoded: Result<Vec<_>, _> = chunks.iter().map(|chunk| Chunk::decode(chunk)).collect();
        let ids: Vec<_> = decoded?.into_iter().map(|chunk| chunk.id).collect();
        let began = now();
        let done = self.to.put(scope, tokio_stream::iter(chunks)).await?;
        let put = began.elapsed();
        ensure!(done.taken == flows as u64, "{} of {flows} taken: {done:?}", done.taken);
        let deleted = self.to.del(scope, &ids).await?.count;
        ensure!(deleted == flows as u64, "{deleted} of {flows} were there to be deleted");
        Ok(Round { get, put, bytes })
    }
}

/// All chunks that are asked for, as they travel.
async fn get(from: &Client, scope: Scope, query: &Query) -> Result<Vec<Vec<u8>>> {
    let mut chunks = from.get(scope, query).await?;
    let mut all = Vec::new();
    while let Some(some) = chunks.next_encoded().await? {
        all.extend(some);
    }
    Ok(all)
}
