//! Changes asked for by callers: each once, on the generation that it was based on.

use std::time::Duration;

use prost::{Message, Name};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout_at},
};
use tonic::Code;
use weir_api::dataplane::v1::Change;

use super::Sidecar;
use crate::{fault::Fault, store::Answer};

/// How long a change may take to be begun, with the wait for others before it: less than its caller
/// waits for the answer (10 s where `weir` is not told otherwise), so that the answer says what is
/// known.
pub(super) const LIMIT: Duration = Duration::from_secs(8);
/// The longest request id, in bytes.
const REQUEST_ID_MAX: usize = 64;

impl Sidecar {
    /// Makes a change unless it was made before; then answers as before.
    ///
    /// `job` checks and begins the change. It runs while no other change does.
    ///
    /// # Errors
    /// Those of the job; when the change can not be judged, or kept; and when all that takes longer
    /// than [`LIMIT`], NOT_BEGUN if others before it did, else NOT_KNOWN.
    pub(crate) async fn change<Q, R>(
        &self,
        request: &Q,
        change: Option<&Change>,
        job: impl Future<Output = Result<R, Fault>>,
    ) -> Result<R, Fault>
    where
        Q: Message + Name,
        R: Message + Default,
    {
        self.change_in_turn(&self.changes, request, change, job).await
    }

    /// The same of a change for which the data plane is not asked: it waits for no other.
    pub(crate) async fn change_here<Q, R>(
        &self,
        request: &Q,
        change: Option<&Change>,
        job: impl Future<Output = Result<R, Fault>>,
    ) -> Result<R, Fault>
    where
        Q: Message + Name,
        R: Message + Default,
    {
        self.change_in_turn(&self.changes_here, request, change, job).await
    }

    /// The right to change what the data plane is asked for.
    ///
    /// # Errors
    /// NOT_BEGUN when others have it for [`LIMIT`].
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, ()>, Fault> {
        in_turn(&self.changes, Instant::now() + LIMIT).await
    }

    async fn change_in_turn<Q, R>(
        &self,
        turn: &Mutex<()>,
        request: &Q,
        change: Option<&Change>,
        job: impl Future<Output = Result<R, Fault>>,
    ) -> Result<R, Fault>
    where
        Q: Message + Name,
        R: Message + Default,
    {
        let until = Instant::now() + LIMIT;
        let change = change.cloned().unwrap_or_default();
        check_request_id(&change.request_id)?;
        let asked = Asked {
            id: change.request_id,
            method: Q::full_name(),
            request: request.encode_to_vec(),
        };
        let _guard = in_turn(turn, until).await?;
        let id = asked.id.clone();
        let (before, generation) = self
            .store
            .run(move |database| Ok((database.answer(&id)?, database.desired()?.generation)))
            .await?;
        match &before {
            Some(before) => {
                asked.is_of(before)?;
                if before.answered {
                    return decoded(&before.response);
                }
                if let Some(begun) = self.state_answer(&asked.id) {
                    return self.answer_late(asked, &begun).await;
                }
            }
            None => on_generation(change.generation, generation)?,
        }
        let place = asked.clone();
        self.store
            .run(move |database| database.reserve(&place.id, &place.method, &place.request))
            .await?;
        match timeout_at(until, job).await.unwrap_or_else(|_| Err(Fault::late(LIMIT))) {
            Ok(response) => {
                let goes_on = self.state.goes_on(&asked.id);
                let answer = asked.answer(response.encode_to_vec(), goes_on);
                let kept = self.store.keep(move |database| database.accept(&answer)).await;
                kept.map(|()| response).map_err(Fault::not_kept)
            }
            Err(fault) => {
                // What may have been begun, now or before, must be found again.
                if before.is_none() && !fault.is_unsure() {
                    // One that stays takes room until it is among the oldest.
                    let _ = self.store.keep(move |database| database.forget(&asked.id)).await;
                }
                Err(fault)
            }
        }
    }

    /// Answers what has become of an operation that was begun, and whose answer could not be kept.
    async fn answer_late<R: Message + Default>(
        &self,
        asked: Asked,
        begun: &[u8],
    ) -> Result<R, Fault> {
        let response = decoded(begun)?;
        let answer = asked.answer(begun.to_vec(), self.state.goes_on(&asked.id));
        if let Err(error) = self.store.keep(move |database| database.accept(&answer)).await {
            tracing::warn!(%error, "an answer is still not kept");
        }
        Ok(response)
    }
}

/// The right to change, unless others before it have it for too long.
async fn in_turn(turn: &Mutex<()>, until: Instant) -> Result<MutexGuard<'_, ()>, Fault> {
    timeout_at(until, turn.lock()).await.map_err(|_| Fault::not_begun(LIMIT))
}

/// A change that is asked for.
#[derive(Clone)]
struct Asked {
    id: String,
    method: String,
    request: Vec<u8>,
}

impl Asked {
    /// A request id is of one request. What an early version has not answered has no method.
    fn is_of(&self, before: &Answer) -> Result<(), Fault> {
        let is_same = before.method == self.method && before.request == self.request;
        if is_same || before.method.is_empty() {
            return Ok(());
        }
        let message = format!("request id {} was used for another change", self.id);
        Err(Fault::invalid("REQUEST_ID_REUSED", message)
            .object("change.request_id")
            .fix("choose a new request id"))
    }

    fn answer(&self, response: Vec<u8>, goes_on: bool) -> Answer {
        Answer {
            request_id: self.id.clone(),
            method: self.method.clone(),
            request: self.request.clone(),
            response,
            goes_on,
            operation: 0,
            answered: true,
        }
    }
}

fn on_generation(asked: u64, is: u64) -> Result<(), Fault> {
    if asked == 0 || asked == is {
        return Ok(());
    }
    let message = format!("the change is based on generation {asked}, but the node is at {is}");
    Err(Fault::new(Code::Aborted, "GENERATION_STALE", message)
        .object("generation")
        .fix("read the state again (weir status), then ask for the change again"))
}

fn check_request_id(id: &str) -> Result<(), Fault> {
    if id.is_empty() {
        return Err(Fault::invalid("REQUEST_ID_MISSING", "the change has no request id")
            .object("change.request_id")
            .fix("choose one for each change, so that repeating it is harmless"));
    }
    if id.len() > REQUEST_ID_MAX {
        let message = format!("the request id is longer than {REQUEST_ID_MAX} characters");
        let fault = Fault::invalid("REQUEST_ID_LONG", message).object("change.request_id");
        return Err(fault.fix("choose a shorter one"));
    }
    Ok(())
}

fn decoded<R: Message + Default>(response: &[u8]) -> Result<R, Fault> {
    R::decode(response)
        .map_err(|error| Fault::new(Code::Internal, "STORE_FAILED", error.to_string()))
}
