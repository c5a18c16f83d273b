//! State on its way: got from one end and put into another, piece by piece and bounded.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weir_nf_api::client::{Client, Deleted, Put, Query, Refusal};
use weir_state_transfer::{Chunk, FlowId, chunk::Scope, quote::shortened};

use crate::{
    sidecar::Sidecar,
    state_manager::{
        end::End,
        operation::{ChunkRefusal, Failure, FailureKind},
    },
};

/// Chunks on their way at one time, of at most 1 MiB each, besides one message at each side.
const CARRIED_MAX: usize = 16;

/// Sees that a source gives nothing of what it was not asked for.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Whether the source knows its state by other names too, which filters are compared with; not
    /// known as long as that does not matter.
    other_names: Option<bool>,
}

impl Named {
    /// Checks a chunk that a source has given of a scope.
    ///
    /// # Errors
    /// When the filter names nothing of what it is about, and the source has no other names for it; or
    /// when it does not say.
    pub(super) async fn check(
        &mut self,
        (source, client): (&End, &Client),
        (scope, query): (Scope, &Query),
        chunk: &Chunk,
    ) -> Result<(), Failure> {
        if scope == Scope::AllFlows || query.filter.picks(&chunk.id, query.extent) {
            return Ok(());
        }
        let has_other_names = match self.other_names {
            Some(known) => known,
            None => {
                let said = client.describe().await;
                said.map_err(|error| Failure::of_call(&error, source))?.other_names
            }
        };
        self.other_names = Some(has_other_names);
        if has_other_names {
            return Ok(());
        }
        let id = shortened(&chunk.id.to_string());
        let reason = format!("{source} gives the state of {id}, of which the filter names nothing");
        let failure = Failure::new(FailureKind::Malformed, reason);
        Err(Failure { end: Some(source.clone()), ..failure })
    }
}

/// Both ends of what is carried.
#[derive(Debug)]
pub(super) struct Carrier<'a> {
    pub(super) from: (&'a End, Client),
    pub(super) to: (&'a End, Client),
    pub(super) scope: Scope,
}

/// What has become of what was carried.
#[derive(Debug)]
pub(super) struct Carried {
    /// Chunks that the destination has taken in, the first of those that were kept; none when it has
    /// not said so.
    pub(super) taken: Option<u64>,
    /// Changes of the source before it was read, where it counts them apart from versions.
    pub(super) changes: Option<u64>,
    /// Flows that the source passed over, as they are in use there.
    pub(super) in_use: u64,
    /// Why it is not all.
    pub(super) failure: Option<Failure>,
}

impl Carrier<'_> {
    /// Carries the chunks that `keep` says, from the first to the last, or until something fails.
    pub(super) async fn run(
        self,
        query: &Query,
        mut keep: impl FnMut(&Chunk, usize) -> Result<bool, Failure>,
    ) -> Carried {
        let (source, reader) = &self.from;
        let (destination, writer) = &self.to;
        let failed = |error| Failure::of_call(&error, source);
        let mut chunks = match reader.get(self.scope, query).await {
            Ok(chunks) => chunks,
            Err(error) => return Carried::not_begun(Some(0), failed(error)),
        };
        let (sink, carried) = mpsc::channel(CARRIED_MAX);
        let mut kept = 0_u64;
        // Those that the destination may yet refuse: it names them by their places.
        let mut names = Names::default();
        let mut named = Named::default();
        let read = async {
            let outcome = async {
                while let Some(encoded) = chunks.next_encoded().await.map_err(failed)? {
                    for bytes in encoded {
                        let chunk = decode(&bytes, source)?;
                        let asked = (self.scope, query);
                        named.check((source, reader), asked, &chunk).await?;
                        if !keep(&chunk, bytes.len())? {
                            continue;
                        }
                        kept += 1;
                        names.push(&chunk);
                        if sink.send(bytes).await.is_err() {
                            // The destination has ended the put: it says why.
                            return Ok(());
                        }
                    }
                }
                Ok::<(), Failure>(())
            };
            let outcome = outcome.await;
            // That was all that is put.
            drop(sink);
            outcome
        };
        let (put, read) = tokio::join!(writer.put(self.scope, ReceiverStream::new(carried)), read);
        let put = match put {
            Ok(put) => put,
            Err(error) => {
                let failure = read.err().unwrap_or_else(|| Failure::of_call(&error, destination));
                return Carried::not_begun(None, failure);
            }
        };
        let id = || names.find(put.taken);
        let refused = not_taken(destination, self.scope, (&put, kept), id);
        let failure = refused.or(read.err());
        let (taken, changes) = (Some(put.taken.min(kept)), chunks.changes());
        Carried { taken, changes, in_use: chunks.in_use(), failure }
    }
}

impl Carried {
    fn not_begun(taken: Option<u64>, failure: Failure) -> Self {
        Self { taken, changes: None, in_use: 0, failure: Some(failure) }
    }
}

/// The ids of the last chunks that were sent: more than can be on their way.
#[derive(Debug, Default)]
struct Names {
    last: VecDeque<FlowId>,
    /// The place of the first of them.
    first: u64,
}

/// Chunks of one message, those that wait, and those of the messages that lie between both ends.
const NAMES_MAX: usize = 16 * 256;

impl Names {
    fn push(&mut self, chunk: &Chunk) {
        if self.last.len() >= NAMES_MAX {
            self.last.pop_front();
            self.first += 1;
        }
        self.last.push_back(chunk.id.clone());
    }

    /// The id of the chunk of that place; one that says nothing when it is too long ago.
    fn find(&self, place: u64) -> FlowId {
        let found = place
            .checked_sub(self.first)
            .and_then(|place| self.last.get(usize::try_from(place).ok()?));
        found.cloned().unwrap_or_default()
    }
}

/// Why a move does not go on: its source has given a piece again that has not changed.
pub(super) fn repeated(source: &End, id: &FlowId) -> Failure {
    let id = shortened(&id.to_string());
    let reason = format!("{source} gives the state of {id} again, and a get gives each piece once");
    let failure = Failure::new(FailureKind::Malformed, reason);
    Failure { end: Some(source.clone()), ..failure }
}

/// Tells who follows an operation how much has been put, now and then.
#[derive(Debug)]
pub(super) struct Count<'a> {
    sidecar: &'a Sidecar,
    id: u64,
    /// Chunks in all, and those that have been told.
    chunks: u64,
    told: u64,
    /// Bytes that have not been told.
    bytes: u64,
}

/// Chunks from one telling to the next.
const TOLD_EACH: u64 = 1_024;

impl<'a> Count<'a> {
    pub(super) fn new(sidecar: &'a Sidecar, id: u64) -> Self {
        Self { sidecar, id, chunks: 0, told: 0, bytes: 0 }
    }

    /// One more chunk is put.
    pub(super) fn add(&mut self, bytes: usize) {
        self.chunks += 1;
        self.bytes += bytes as u64;
        if self.chunks - self.told >= TOLD_EACH {
            self.tell(self.chunks);
        }
    }

    /// The destination has taken in so many of them; it is not known when it is none.
    pub(super) fn end(&mut self, taken: Option<u64>) {
        self.tell(taken.unwrap_or(0));
    }

    fn tell(&mut self, chunks: u64) {
        let (told, bytes) = (self.told, std::mem::take(&mut self.bytes));
        self.told = chunks;
        self.sidecar.state().progress(self.id, |progress| {
            progress.chunks = progress.chunks - told + chunks;
            progress.bytes += bytes;
        });
    }
}

/// Why an end has not taken in all chunks of a put, of which there were so many: what the first
/// that it did not is about is told by `id`.
pub(super) fn not_taken(
    end: &End,
    scope: Scope,
    (put, count): (&Put, u64),
    id: impl FnOnce() -> FlowId,
) -> Option<Failure> {
    let failure =
        |kind, reason: String| Failure { end: Some(end.clone()), ..Failure::new(kind, reason) };
    if let Some(Refusal { reason, message }) = &put.refusal {
        let said = format!("{end} refuses a chunk: {message}");
        let (reason, message) = (*reason, message.clone());
        let refusal = Box::new(ChunkRefusal { scope, id: id().to_string(), reason, message });
        return Some(failure(FailureKind::ChunkRefused(refusal), said));
    }
    let reason = format!("{end} took in {} of {count} chunks", put.taken);
    (put.taken != count).then(|| failure(FailureKind::Malformed, reason))
}

/// Puts back what an end had of flows before a move, as much of it as it takes in.
///
/// # Errors
/// When a call fails, or it does not take in all: packets may have come since, and made newer state.
pub(super) async fn put_back(
    end: &End,
    client: &Client,
    chunks: Vec<Vec<u8>>,
) -> Result<(), Failure> {
    let client = client.refusing_older();
    let chunks: Arc<[Vec<u8>]> = chunks.into();
    let (mut next, mut refused, mut first) = (0, BTreeSet::new(), None);
    while next < chunks.len() {
        let (all, from) = (Arc::clone(&chunks), next);
        let rest = tokio_stream::iter((from..all.len()).map(move |place| all[place].clone()));
        let put = client.put_per_flow(rest).await.map_err(|error| Failure::of_call(&error, end))?;
        next += usize::try_from(put.taken).unwrap_or(usize::MAX).min(chunks.len() - next);
        let Some(chunk) = chunks.get(next) else { break };
        let id = decode(chunk, end)?.id;
        let why =
            not_taken(end, Scope::PerFlow, (&put, (chunks.len() - from) as u64), || id.clone());
        first = first.or(why);
        refused.insert(id);
        next += 1;
    }
    first.map_or(Ok(()), |first| {
        let (flows, reason) = (refused.len(), &first.reason);
        let reason = format!("{flows} flows of {end} itself are not as they were before: {reason}");
        Err(Failure { reason, ..first })
    })
}

/// Deletes state at an end.
pub(super) async fn delete(
    (end, client): (&End, &Client),
    scope: Scope,
    ids: &[FlowId],
) -> Result<Deleted, Failure> {
    let deleted = client.del(scope, ids).await.map_err(|error| Failure::of_call(&error, end))?;
    let Deleted { count, in_use, .. } = deleted;
    if count.saturating_add(in_use) <= ids.len() as u64 {
        return Ok(deleted);
    }
    let asked = ids.len();
    let reason = format!(
        "{end} was to delete {asked} pieces, and says that it has deleted {count}, and has {in_use} in use"
    );
    let failure = Failure::new(FailureKind::Malformed, reason);
    Err(Failure { end: Some(end.clone()), ..failure })
}

/// The chunk that an end gives.
pub(super) fn decode(bytes: &[u8], source: &End) -> Result<Chunk, Failure> {
    Chunk::decode(bytes).map_err(|error| {
        let reason = format!("{source} gives what is no chunk: {error}");
        let failure = Failure::new(FailureKind::Malformed, reason);
        Failure { end: Some(source.clone()), ..failure }
    })
}
