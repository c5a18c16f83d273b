//! Changes asked for by callers: each once, on the generation that it was based on.

use prost::{Message, Name};
use tonic::Code;
use weir_api::dataplane::v1::Change;

use super::Sidecar;
use crate::{
    fault::Fault,
    store::{Answer, StoreError},
};

/// The longest request id, in bytes.
const REQUEST_ID_MAX: usize = 64;

impl Sidecar {
    /// Makes a change unless it was made before; then answers as before.
    ///
    /// `job` checks and begins the change. It runs while no other change does.
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
        let change = change.cloned().unwrap_or_default();
        check_request_id(&change.request_id)?;
        let mut answer = Answer {
            request_id: change.request_id.clone(),
            method: Q::full_name(),
            request: request.encode_to_vec(),
            response: Vec::new(),
            goes_on: false,
        };
        let _guard = self.changes.lock().await;
        let id = change.request_id.clone();
        let (before, generation) = self
            .store
            .run(move |database| Ok((database.answer(&id)?, database.desired()?.generation)))
            .await?;
        if let Some(before) = before {
            return repeat(&before, &answer);
        }
        if change.generation != 0 && change.generation != generation {
            let message = format!(
                "the change is based on generation {}, but the node is at {generation}",
                change.generation
            );
            return Err(Fault::new(Code::Aborted, "GENERATION_STALE", message)
                .object("generation")
                .fix("read the state again (weir status), then ask for the change again"));
        }
        let (id, length) = (answer.request_id.clone(), answer.request.len());
        self.store.run(move |database| database.reserve(&id, length)).await?;
        match job.await {
            Ok(response) => {
                answer.response = response.encode_to_vec();
                answer.goes_on = self.state.goes_on(&answer.request_id);
                let kept = self.store.run(move |database| database.accept(&answer)).await;
                kept.map(|()| response).map_err(not_kept)
            }
            Err(fault) => {
                let id = answer.request_id;
                // One that stays takes room until it is among the oldest.
                let _ = self.store.run(move |database| database.forget(&id)).await;
                Err(fault)
            }
        }
    }
}

fn not_kept(error: StoreError) -> Fault {
    let message = format!("the change was made, and that it was cannot be kept: {error}");
    Fault { message, ..error.into() }
        .fix("see that the disk of the store has room, then repeat it with the same request id")
}

fn check_request_id(id: &str) -> Result<(), Fault> {
    if id.is_empty() {
        return Err(Fault::invalid("REQUEST_ID_MISSING", "the change has no request id")
            .object("change.request_id")
            .fix("choose one for each change, so that repeating it is harmless"));
    }
    if id.len() > REQUEST_ID_MAX {
        let message = format!("the request id is longer than {REQUEST_ID_MAX} characters");
        return Err(Fault::invalid("REQUEST_ID_LONG", message).object("change.request_id"));
    }
    Ok(())
}

fn repeat<R: Message + Default>(before: &Answer, asked: &Answer) -> Result<R, Fault> {
    if before.method != asked.method || before.request != asked.request {
        let message = format!("request id {} was used for another change", before.request_id);
        return Err(Fault::invalid("REQUEST_ID_REUSED", message)
            .object("change.request_id")
            .fix("choose a new request id"));
    }
    R::decode(before.response.as_slice())
        .map_err(|error| Fault::new(Code::Internal, "STORE_FAILED", error.to_string()))
}
