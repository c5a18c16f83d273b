//! Whether a function has taken all that it was sent.

use std::time::Duration;

use weir_api::dataplane::v1::{NextHop, ProbeNextHopsRequest};

use super::lead::of_status;
use crate::{
    sidecar::Sidecar,
    state_manager::{
        end::End,
        operation::{Failure, FailureKind},
    },
};

/// How long a function may take to answer behind all that it was sent.
const PROBE_LIMIT: Duration = Duration::from_secs(4);

/// Sees that all that was sent to the next hops of a function was taken.
pub(super) async fn probe(
    sidecar: &Sidecar,
    next_hops: &[NextHop],
    end: &End,
) -> Result<(), Failure> {
    let limit_ns = PROBE_LIMIT.as_nanos() as u64;
    let ask = ProbeNextHopsRequest { next_hops: next_hops.to_vec(), limit_ns };
    let answer = sidecar.southbound.policies().probe_next_hops(ask).await.map_err(of_status)?;
    let Some(silent) = answer.into_inner().unanswered.into_iter().next() else { return Ok(()) };
    let reason = match silent.next_hop {
        Some(NextHop { via, port }) => format!(
            "{end} does not answer echo at {via}, by port {port}, behind what worker {} has sent \
             there, within {PROBE_LIMIT:?}",
            silent.worker
        ),
        None => format!("worker {} does not come to what its ports have received", silent.worker),
    };
    Err(Failure { end: Some(end.clone()), ..Failure::new(FailureKind::Late, reason) })
}
