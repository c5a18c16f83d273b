//! The southbound API of the proxy.

use std::borrow::Cow;

use weir_state_transfer::chunk::Chunk;
use weir_state_transfer::flow_id::FlowId;
use weir_state_transfer::merge::Join as _;
use weir_state_transfer::southbound::{
    Action, Cursor, Event, EventsError, Get, More, Note, PutError, Southbound, StateKind,
    SubscriptionId,
};
use weir_state_transfer::state_filter::StateFilter;

use super::Cache;
use crate::kinds::{ALL, STATISTICS, WITHOUT_CONNECTIONS};
use crate::statistics::Statistics;

impl Southbound for Cache {
    fn kinds(&self) -> &[StateKind] {
        if self.repairs { &ALL } else { &WITHOUT_CONNECTIONS }
    }

    fn counters(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        let figures = self.statistics.named().map(|(name, count)| (name.into(), count));
        let of_reason = |(reason, count): (&str, u64)| {
            (format!("refused_{}", reason.replace('-', "_")).into(), count)
        };
        figures.chain(self.refusals.counts().map(of_reason)).collect()
    }

    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        self.give_connections(get, cursor, out)
    }

    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.take_connection(&chunk)
    }

    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize {
        self.forget_connections(ids)
    }

    fn get_multi_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        self.give_objects(get, cursor, out)
    }

    fn put_multi_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.take_object(&chunk)
    }

    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        self.forget_objects(ids)
    }

    fn get_all_flows(&mut self) -> Vec<Chunk> {
        vec![self.statistics.chunk()]
    }

    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError> {
        STATISTICS.check(&chunk)?;
        let other =
            Statistics::of_chunk(&chunk).map_err(|error| PutError::bad_body(&chunk, &error))?;
        let mut merged = self.statistics.clone();
        merged.join(&other);
        if !merged.fits() {
            let most = weir_state_transfer::merge::REPLICAS_MAX;
            return Err(PutError::full(&chunk, "replicas of statistics", most));
        }
        self.statistics = merged;
        self.updates = self.updates.max(chunk.version);
        Ok(())
    }

    fn enable_events(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        snap: usize,
    ) -> Result<(), EventsError> {
        let since = self.update();
        self.requests.enable(id, filter, action, (snap, since))
    }

    fn disable_events(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        self.requests.disable(id)
    }

    fn poll_event(&mut self, id: SubscriptionId) -> Option<Note> {
        self.requests.poll(id)
    }

    fn give_back(&mut self, event: Event) {
        self.requests.give_back(event);
    }

    fn take_in_use(&mut self) -> Vec<FlowId> {
        std::mem::take(&mut self.passed_over)
    }
}
