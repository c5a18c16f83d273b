//! Rules of state that is merged.

use weir_state_transfer::chunk::{Chunk, Scope};

use super::Verdict;
use super::subject::{State, Subject, same, state_of};

/// Copies of two times make the later one, in whatever order and however often they are put.
pub(super) async fn join(subject: &Subject, scope: Scope) -> Verdict {
    let (early, late) = two_times(subject, scope).await?;
    let quiet = subject.quiet().await?;
    // What packets have done meanwhile is in it too.
    let now = subject.all(scope).await?;
    let last = state_of(&now, scope);
    if scope == Scope::AllFlows {
        for copy in [&early, &late, &early] {
            subject.put(scope, copy).await?;
        }
        subject.unchanged(scope, &last, "after older copies were put").await?;
        return quiet.end().await;
    }
    let orders: [&[&[Chunk]]; 3] =
        [&[&early, &late], &[&late, &early], &[&late, &early, &early, &late]];
    let mut results = Vec::new();
    for order in orders {
        subject.del(scope, &subject.all(scope).await?).await?;
        for copy in order {
            subject.put(scope, copy).await?;
        }
        results.push(subject.state(scope).await?);
    }
    subject.put(scope, &now).await?;
    for result in &results[1..] {
        same(&results[0], result, "after copies were put in another order")?;
    }
    let of_late = |state: &State| {
        let late = state_of(&late, scope);
        state.clone().into_iter().filter(|(key, _)| late.contains_key(key)).collect::<State>()
    };
    same(&state_of(&late, scope), &of_late(&results[0]), "after an older copy was put too")?;
    subject.unchanged(scope, &last, "after all was put back").await?;
    quiet.end().await
}

/// State, and what packets have made of it later.
async fn two_times(
    subject: &Subject,
    scope: Scope,
) -> Result<(Vec<Chunk>, Vec<Chunk>), super::Stop> {
    let early = subject.some(scope).await?;
    let late = subject.changed(scope, &state_of(&early, scope)).await?;
    Ok((early, late))
}
