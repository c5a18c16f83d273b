//! `weir.nf.v1.NetworkFunctionService`: requests are checked here, and passed on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};
use weir_api::nf::v1 as api;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionService;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::southbound::SubscriptionId;
use weir_state_transfer::state_filter::StateFilter;

use super::Handle;
use super::answers::Answers;
use super::events::Notes;
use super::get::{self, Query};
use super::put::Put;
use crate::convert::{GETS_MAX, IDS_MAX, SNAP_MAX, action_of, extent_of, id_of, id_to};
use crate::counters;
use crate::description::Description;
use crate::status;

/// Answers the requests of a network function; clones answer those of the same one.
#[derive(Clone, Debug)]
pub struct Service {
    description: Arc<Description>,
    function: Handle,
    gets: Arc<Semaphore>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(super) fn new(description: Description, function: Handle) -> Self {
        let gets = Arc::new(Semaphore::new(GETS_MAX));
        Self { description: Arc::new(description), function, gets }
    }

    /// The same, where a call of the network function may take so long, and a peer keep a stream
    /// waiting, and not 10 s.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.function.limit = limit;
        self
    }

    /// Whether the network function serves nothing any more: its desk is gone.
    pub fn is_closed(&self) -> bool {
        self.function.is_closed()
    }

    fn get(&self, query: Query) -> Answer<Answers<api::GetResponse>> {
        let permit = self.permit()?;
        Ok(Response::new(get::begin(self.function.clone(), query, permit)))
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.gets).try_acquire_owned();
        permit.map_err(|_| status::exhausted("gets at one time", GETS_MAX))
    }

    async fn put(
        &self,
        scope: Scope,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        let put = Put { function: &self.function, description: &self.description, scope };
        put.run(request.into_inner()).await.map(Response::new)
    }

    async fn del(
        &self,
        scope: Scope,
        request: Request<api::DelRequest>,
    ) -> Answer<api::DelResponse> {
        let ids = ids(&request.into_inner().ids)?;
        let deleted = self.function.call(move |function, _| {
            let deleted = match scope {
                Scope::PerFlow => function.del_per_flow(&ids),
                Scope::MultiFlow => function.del_multi_flow(&ids),
                Scope::AllFlows => 0,
            };
            let in_use = function.take_in_use();
            api::DelResponse {
                deleted: deleted as u64,
                in_use: in_use.len() as u64,
                in_use_ids: in_use.iter().map(id_to).collect(),
            }
        });
        deleted.await.map(Response::new)
    }
}

#[tonic::async_trait]
impl NetworkFunctionService for Service {
    async fn describe(
        &self,
        _request: Request<api::DescribeRequest>,
    ) -> Answer<api::DescribeResponse> {
        Ok(Response::new(self.description.to_message()))
    }

    async fn get_counters(
        &self,
        _request: Request<api::GetCountersRequest>,
    ) -> Answer<api::GetCountersResponse> {
        let counters = self.function.call(|function, _| function.counters());
        counters.await.map(counters::to_message).map(Response::new)
    }

    type GetPerFlowStream = Answers<api::GetResponse>;

    async fn get_per_flow(
        &self,
        request: Request<api::GetRequest>,
    ) -> Answer<Self::GetPerFlowStream> {
        self.get(query(Scope::PerFlow, &request.into_inner())?)
    }

    async fn put_per_flow(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        self.put(Scope::PerFlow, request).await
    }

    async fn del_per_flow(&self, request: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        self.del(Scope::PerFlow, request).await
    }

    type GetMultiFlowStream = Answers<api::GetResponse>;

    async fn get_multi_flow(
        &self,
        request: Request<api::GetRequest>,
    ) -> Answer<Self::GetMultiFlowStream> {
        self.get(query(Scope::MultiFlow, &request.into_inner())?)
    }

    async fn put_multi_flow(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        self.put(Scope::MultiFlow, request).await
    }

    async fn del_multi_flow(&self, request: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        self.del(Scope::MultiFlow, request).await
    }

    type GetAllFlowsStream = Answers<api::GetResponse>;

    async fn get_all_flows(
        &self,
        request: Request<api::GetAllFlowsRequest>,
    ) -> Answer<Self::GetAllFlowsStream> {
        let since = request.into_inner().since;
        let (filter, extent) = (StateFilter::default(), Extent::Overlaps);
        self.get(Query { scope: Scope::AllFlows, filter, extent, since })
    }

    async fn put_all_flows(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        self.put(Scope::AllFlows, request).await
    }

    type EnableEventsStream = Notes;

    async fn enable_events(
        &self,
        request: Request<api::EnableEventsRequest>,
    ) -> Answer<Self::EnableEventsStream> {
        let request = request.into_inner();
        let id = SubscriptionId(request.subscription);
        let filter = filter(&request.filter)?;
        let action = action_of(request.action())
            .ok_or_else(|| status::invalid("action", "say what becomes of the packets"))?;
        if request.snap > SNAP_MAX {
            return Err(status::invalid("snap", "65535 bytes are the most"));
        }
        let snap = request.snap as usize;
        let enabled = self.function.call(move |function, subscribers| {
            function.enable_events(id, filter, action, snap)?;
            Ok(subscribers.add(id))
        });
        let subscribed = enabled.await?.map_err(|error| status::events(&error))?;
        Ok(Response::new(Notes::new(subscribed, self.function.wake.clone())))
    }

    async fn disable_events(
        &self,
        request: Request<api::DisableEventsRequest>,
    ) -> Answer<api::DisableEventsResponse> {
        let id = SubscriptionId(request.into_inner().subscription);
        let ended = self.function.call(move |function, subscribers| subscribers.end(function, id));
        ended.await?.map_err(|error| status::events(&error))?;
        Ok(Response::new(api::DisableEventsResponse {}))
    }
}

fn query(scope: Scope, request: &api::GetRequest) -> Result<Query, Status> {
    let (extent, since) = (extent_of(request.extent()), request.since);
    Ok(Query { scope, filter: filter(&request.filter)?, extent, since })
}

fn filter(text: &str) -> Result<StateFilter, Status> {
    text.parse().map_err(|error| status::invalid("filter", &format!("{error}")))
}

fn ids(encoded: &[Vec<u8>]) -> Result<Vec<FlowId>, Status> {
    if encoded.len() > IDS_MAX {
        return Err(status::invalid("ids", "256 in one request are the most"));
    }
    let decoded = encoded.iter().map(|bytes| id_of(bytes));
    let ids: Result<Vec<_>, _> = decoded.collect();
    ids.map_err(|error| status::invalid("ids", &format!("one is {error}")))
}
