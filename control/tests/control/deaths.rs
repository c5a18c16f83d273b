//! Sidecars that die at any moment of an operation, one after the other, and what the last one tells.

use std::{cell::Cell, time::Duration};

use tonic::Status;
use weir_api::{
    dataplane::v1::{MovePhase, SharePhase},
    v1::{GetStatusResponse, ShareRequest, StateOperation, StateOperationState as State},
};

use crate::{
    share::{TWO, until},
    state::refusal,
    support::{
        node::{Node, Running, block_on, limited},
        state::shared,
    },
    uncertain::between,
};

/// Rounds of each test.
const ROUNDS: usize = 12;
/// Sidecars that die in a round.
const DEATHS: usize = 3;

/// What callers of the sidecars that have died were told.
#[derive(Default)]
struct Told {
    /// The number of the operation.
    id: Cell<Option<u64>>,
    /// A cancel of it was asked for, and was answered.
    cancels: Cell<bool>,
    cancelled: Cell<bool>,
}

impl Told {
    fn begun(&self, id: u64) {
        let before = self.id.replace(Some(id)).unwrap_or(id);
        assert_eq!(before, id, "a request is of one operation");
    }
}

/// Starts sidecars that die after a random time; each is asked by a caller, who may cancel.
fn deaths(
    node: &Node,
    random: &mut fastrand::Rng,
    begin: &impl AsyncFn(&Running) -> Result<StateOperation, Status>,
) -> Told {
    let told = Told::default();
    // The first one knows how many instances there are to be.
    let running = node.start();
    block_on(running.until(|status| status.instances_desired == 2));
    running.kill();
    for _ in 0..DEATHS {
        let running = node.start();
        let (cancels, lives) = (random.bool(), Duration::from_micros(random.u64(0..30_000)));
        let caller = async {
            let begun = begin(&running).await;
            if let Ok(begun) = &begun {
                told.begun(begun.id);
                if cancels {
                    told.cancels.set(true);
                    let answered = running.cancel(begun.id).await.is_ok();
                    told.cancelled.set(told.cancelled.get() || answered);
                }
            }
            std::future::pending::<()>().await;
        };
        // It is dead then, whoever it answers.
        let _dead = block_on(async { tokio::time::timeout(lives, caller).await });
        running.kill();
    }
    told
}

#[test]
fn a_share_is_followed_or_ended_whenever_its_sidecars_die_and_told_as_it_ended() {
    let mut random = weir_seed::rng();
    for round in 0..ROUNDS {
        let node = Node::new(2);
        let limit_ns = if random.bool() { random.u64(1..60_000_000) } else { 0 };
        let ask = ShareRequest { limit_ns, ..shared("s", TWO, "any") };
        let told = deaths(&node, &mut random, &async |running: &Running| {
            Ok(running.shares(ask.clone()).await?.0)
        });
        let running = node.start();
        block_on(async {
            let case = format!("round {round}, limit {limit_ns}, {:?}", told.cancelled);
            match running.shares(ask.clone()).await {
                Ok((begun, _stream)) => {
                    told.begun(begun.id);
                    let goes_on = limit_ns == 0 && !told.cancels.get();
                    if goes_on {
                        until(&node, 1, &[SharePhase::Steady]).await;
                    }
                    if limit_ns == 0 && !told.cancelled.get() {
                        // It may be, although nobody was told so.
                        let _ended = running.cancel(begun.id).await;
                    }
                    let ended = match begun.state() {
                        State::Running => running.state_ended(begun.id).await,
                        _ => begun,
                    };
                    let fits = match ended.state() {
                        State::Done => limit_ns > 0,
                        State::Cancelled => goes_on || told.cancels.get(),
                        _ => false,
                    };
                    assert!(fits, "{case}: {ended:?}");
                }
                // Nobody was told of it, and it is over.
                Err(status) => {
                    assert_eq!(refusal(&status).0, "SHARE_ENDED", "{case}: {status:?}");
                    assert_eq!(told.id.get(), None, "{case}");
                }
            }
            until(&node, 1, &[SharePhase::Ended]).await;
            assert_eq!(node.fake.model().shares.len(), 1, "{case}");
        });
    }
}

#[test]
fn a_move_between_instances_begins_once_and_goes_back_when_that_was_answered() {
    let mut random = weir_seed::rng();
    for round in 0..ROUNDS {
        let node = Node::new(2);
        let stands = random.bool();
        node.fake.model().stands = stands;
        let dies = random.bool();
        let begin = async |running: &Running| {
            let mut stream = running.state().await.r#move(between("m")).await?.into_inner();
            Ok(stream.message().await?.and_then(|first| first.operation).unwrap_or_default())
        };
        let told = deaths(&node, &mut random, &begin);
        if dies {
            // Its instances come again by moves of their own.
            node.fake.model().restart();
        }
        let running = node.start();
        block_on(async {
            let cancelled = told.cancelled.get();
            let case = format!("round {round}, stands {stands}, dies {dies}, {cancelled}");
            let settled = |status: &GetStatusResponse| {
                status.instances_active == 2 && status.operation.is_none()
            };
            running.until(settled).await;
            node.fake.model().stands = stands;
            let begun = begin(&running).await.unwrap();
            told.begun(begun.id);
            if stands && !cancelled && begun.state() == State::Running {
                running.cancel(begun.id).await.unwrap();
            }
            let ended = limited(running.moves(between("m"))).await.unwrap();
            let phases: Vec<MovePhase> =
                node.fake.model().moves_of("m").iter().map(|begun| begun.phase()).collect();
            let fits = match (ended.state(), phases.as_slice()) {
                (State::Done, [MovePhase::Done]) => !stands,
                (State::Undone, [MovePhase::Undone]) => stands || told.cancels.get(),
                // What a data plane has done that has died is told, or not known.
                (State::Done | State::Undone, []) => dies,
                (State::Failed, []) => dies && told.cancels.get(),
                _ => false,
            };
            assert!(fits, "{case}: {phases:?} {ended:?}");
        });
    }
}
