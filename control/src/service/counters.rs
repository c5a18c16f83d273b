//! `CounterService`: drops, frames by place, and whether the packets balance.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{GetCountersRequest, GetCountersResponse, counter_service_server::CounterService},
};

use super::{Answer, Api, answer, southbound};
use crate::fault::Fault;

#[tonic::async_trait]
impl CounterService for Api {
    async fn get_counters(&self, _: Request<GetCountersRequest>) -> Answer<GetCountersResponse> {
        answer(self.balanced_counters().await)
    }
}

impl Api {
    /// The counters, and whether they balance. They are not read at one instant, so a difference
    /// is judged against what arrived while they were read; at rest it must be zero.
    async fn balanced_counters(&self) -> Result<GetCountersResponse, Fault> {
        let before = self.sidecar.southbound().counters().await.map_err(southbound)?;
        let unaccounted = unaccounted(&before);
        if unaccounted == 0 {
            return Ok(verdict(before, 0));
        }
        let after = self.sidecar.southbound().counters().await.map_err(southbound)?;
        let arrived = received(&after).saturating_sub(received(&before));
        let tolerance = if arrived == 0 { 0 } else { arrived + in_rings(&before) };
        Ok(verdict(if arrived == 0 { after } else { before }, tolerance))
    }
}

fn verdict(counters: dataplane::GetCountersResponse, tolerance: u64) -> GetCountersResponse {
    let balanced = unaccounted(&counters).unsigned_abs() <= tolerance;
    GetCountersResponse { counters: Some(counters), balanced, tolerance }
}

fn unaccounted(counters: &dataplane::GetCountersResponse) -> i64 {
    counters.balance.as_ref().map_or(0, |balance| balance.unaccounted)
}

fn received(counters: &dataplane::GetCountersResponse) -> u64 {
    counters.balance.as_ref().map_or(0, |balance| balance.received)
}

fn in_rings(counters: &dataplane::GetCountersResponse) -> u64 {
    counters.balance.as_ref().map_or(0, |balance| balance.in_rings)
}
