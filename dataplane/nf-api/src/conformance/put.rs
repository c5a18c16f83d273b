//! Rules of puts and deletions.

use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::southbound::Action;

use super::refuse::without_its_end;
use super::subject::{State, Subject, encoded, same, state_of};
use super::{Verdict, fail, skip};
use crate::client::RefusalReason;

/// What it has given may be put any number of times, in any order.
pub(super) async fn idempotent(subject: &Subject, scope: Scope) -> Verdict {
    let quiet = subject.quiet().await?;
    let mut all = subject.some(scope).await?;
    let before = state_of(&all, scope);
    for _ in 0..2 {
        subject.put(scope, &all).await?;
        subject.unchanged(scope, &before, "after it was put").await?;
        all.reverse();
    }
    quiet.end().await
}

/// What is deleted is gone, and nothing else.
pub(super) async fn del(subject: &Subject, scope: Scope) -> Verdict {
    let quiet = subject.quiet().await?;
    let all = subject.some(scope).await?;
    // Every other piece, but all kinds of state of what it is about.
    let mut ids: Vec<_> = all.iter().map(|chunk| &chunk.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let chosen: Vec<_> = ids.iter().step_by(2).copied().collect();
    let (gone, left): (Vec<Chunk>, Vec<Chunk>) =
        all.iter().cloned().partition(|chunk| chosen.binary_search(&&chunk.id).is_ok());
    let deleted = subject.del(scope, &gone).await?;
    let after = subject.all(scope).await?;
    let again = subject.del(scope, &gone).await?;
    subject.put(scope, &gone).await?;
    let left = state_of(&left, scope);
    same(&left, &state_of(&after, scope), "after others were deleted")?;
    if deleted != chosen.len() as u64 || again != 0 {
        let count = chosen.len();
        return fail(format!("of {count} it deleted {deleted}, and {again} of them again"));
    }
    quiet.end().await
}

/// What it has given restores all of it.
pub(super) async fn restores(subject: &Subject, scope: Scope) -> Verdict {
    let quiet = subject.quiet().await?;
    let all = subject.some(scope).await?;
    subject.del(scope, &all).await?;
    same(&State::default(), &subject.state(scope).await?, "after all was deleted")?;
    subject.put(scope, &all).await?;
    let before = state_of(&all, scope);
    subject.unchanged(scope, &before, "after it was deleted and put back").await?;
    quiet.end().await
}

/// What is older than what it knows changes nothing, and is refused where that is asked for.
pub(super) async fn older(subject: &Subject) -> Verdict {
    let scope = Scope::PerFlow;
    let early = subject.some(scope).await?;
    if subject.offers(Action::Drop) {
        // What was got before a packet is older; without packets the version before is.
        let _changed = subject.changed(scope, &state_of(&early, scope)).await.ok();
    }
    let quiet = subject.quiet().await?;
    let all = subject.some(scope).await?;
    let older: Vec<Chunk> = all.iter().filter_map(|chunk| before(chunk, &early)).collect();
    if older.is_empty() {
        return skip("there is no version before that of any state: send it packets first");
    }
    let verdict = changes_nothing(subject, &all, &older).await;
    subject.put(scope, &all).await?;
    verdict?;
    quiet.end().await
}

async fn changes_nothing(subject: &Subject, all: &[Chunk], older: &[Chunk]) -> Verdict {
    let (scope, known) = (Scope::PerFlow, state_of(all, Scope::PerFlow));
    let put = subject.put_encoded(scope, encoded(older)?).await?;
    if let Some(refusal) = put.refusal {
        return fail(format!("it refuses what is older, unasked: {refusal}"));
    }
    subject.unchanged(scope, &known, "after older state was put").await?;
    let refusing = subject.client.refusing_older();
    for chunk in [&older[0], &older[older.len() - 1]] {
        let chunks = tokio_stream::iter(encoded(std::slice::from_ref(chunk))?);
        let put = refusing.put(scope, chunks).await?;
        let reason = put.refusal.map(|refusal| refusal.reason);
        if (put.taken, reason) != (0, Some(RefusalReason::Older)) {
            let taken = put.taken;
            return fail(format!("asked to refuse an older chunk: {taken} taken, {reason:?}"));
        }
    }
    subject.unchanged(scope, &known, "after older state was refused").await
}

/// A chunk of the same that is older, and that counts versions.
fn before(chunk: &Chunk, early: &[Chunk]) -> Option<Chunk> {
    let is_before = |found: &&Chunk| {
        (&found.id, found.schema) == (&chunk.id, chunk.schema)
            && (1..chunk.version).contains(&found.version)
    };
    let version = chunk.version.checked_sub(1).filter(|version| *version > 0);
    let got = early.iter().find(is_before).cloned();
    got.or(version.map(|version| Chunk { version, ..chunk.clone() }))
}

/// It takes in what comes before a chunk that it refuses, and nothing behind it.
pub(super) async fn stops(subject: &Subject, scope: Scope) -> Verdict {
    let quiet = subject.quiet().await?;
    let all = subject.some(scope).await?;
    let (first, last) = (&all[0], &all[all.len() - 1]);
    let deletes = scope != Scope::AllFlows && first.id != last.id;
    if deletes {
        subject.del(scope, std::slice::from_ref(last)).await?;
    }
    let mut chunks = encoded(&[first.clone(), first.clone(), last.clone()])?;
    chunks[1] = without_its_end(&chunks[1]);
    let put = subject.put_encoded(scope, chunks).await?;
    let after = subject.all(scope).await?;
    if deletes {
        let of_last: Vec<_> = all.iter().filter(|chunk| chunk.id == last.id).cloned().collect();
        subject.put(scope, &of_last).await?;
    }
    let reason = put.refusal.map(|refusal| refusal.reason);
    if (put.taken, reason) != (1, Some(RefusalReason::Truncated)) {
        let taken = put.taken;
        return fail(format!("of a good, a bad and a good one: {taken} taken, {reason:?}"));
    }
    if deletes && after.iter().any(|chunk| chunk.id == last.id) {
        return fail("it took in a chunk behind the one that it refused");
    }
    quiet.end().await
}
