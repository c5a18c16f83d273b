//! Functions that say too much, or what is not so, or nothing for a while.

use weir_nf_api::client::{CallError, Deleted};
use weir_state_transfer::FlowId;

use crate::conformance::running;
use crate::faulty::{Fault, TAKES};
use crate::running::Traffic;

/// Bytes of what a function says that are kept at most.
const KEPT: usize = 1 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_what_a_function_says_only_the_beginning_is_kept() {
    let running = running(Fault::Talkative, Traffic::None);
    let client = running.client();
    let put = client.put_per_flow(tokio_stream::iter([vec![0; 100]])).await.expect("an answer");
    let refusal = put.refusal.expect("that is no chunk");
    assert_eq!(refusal.message, format!("{}...", "R".repeat(KEPT - 3)));
    let failed = client.del_per_flow(&[FlowId::default()]).await.expect_err("it says so");
    assert!(
        matches!(&failed, CallError::Refused { message, .. } if message.len() == KEPT),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn more_deleted_than_there_can_be_is_no_more_than_that() {
    let running = running(Fault::DeletesMore, Traffic::None);
    let two_requests = vec![FlowId::default(); 257];
    let deleted = running.client().del_per_flow(&two_requests).await;
    assert_eq!(deleted, Ok(Deleted { count: u64::MAX, in_use: u64::MAX, in_use_ids: Vec::new() }));
}

/// All its chunks have left long before.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_put_may_take_long_while_other_calls_are_answered() {
    let running = running(Fault::TakesLong, Traffic::None);
    let client = running.client().with_limit(TAKES / 5);
    let put = client.put_per_flow(tokio_stream::iter([vec![0; 100]])).await;
    assert!(put.is_ok_and(|put| put.refusal.is_some()));
}
