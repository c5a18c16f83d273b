//! `weir.nf.v1` of the instances: each is a network function, chosen by the metadata of a request.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming};
use weir_api::nf::v1 as api;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionService;
use weir_nf_api::Description;
use weir_nf_api::client::{INSTANCE, LIFE};
use weir_nf_api::server::{self, Service};
use weir_state_transfer::InstanceId;

use super::NodeHandle;
use super::status::invalid;
use crate::driver::Waker;
use crate::node::{InstanceAsNf, NodeError, instance_id};

/// The instances of the node as network functions.
///
/// What an instance is asked for, its worker does between two poll rounds. An instance that nobody
/// asks costs nothing.
#[derive(Debug)]
pub(super) struct InstanceNfs {
    node: NodeHandle,
    /// By worker number.
    wakers: Arc<[Waker]>,
    served: Mutex<BTreeMap<InstanceId, Served>>,
}

/// An instance that has been asked.
#[derive(Debug)]
struct Served {
    life: u64,
    service: Service,
}

impl InstanceNfs {
    pub(super) fn new(node: NodeHandle, wakers: Arc<[Waker]>) -> Self {
        Self { node, wakers, served: Mutex::default() }
    }

    /// The instance that a request is for.
    async fn of<T>(&self, request: &Request<T>) -> Result<Service, Status> {
        let number = number(request, INSTANCE)?;
        let number =
            number.ok_or_else(|| invalid(INSTANCE, "say which instance, by its number"))?;
        let id = instance_id(INSTANCE, number)?;
        let wanted: Option<u64> = self::number(request, LIFE)?;
        // Held while it is found: two requests make no two desks.
        let mut served = self.served.lock().await;
        let found = self.node.read(move |node, _| node.describe_instance(id)).await?;
        let Ok(InstanceAsNf { name, kinds, other_names, life, worker }) = found else {
            served.remove(&id);
            return Err(found.err().map_or_else(|| Status::internal("no error"), Status::from));
        };
        if wanted.is_some_and(|wanted| wanted != life) {
            return Err(NodeError::no("instance", id).into());
        }
        let serves = |served: &&Served| served.life == life && !served.service.is_closed();
        if let Some(served) = served.get(&id).filter(serves) {
            return Ok(served.service.clone());
        }
        let mut description = Description::new(&name, env!("CARGO_PKG_VERSION"), &kinds);
        description.common_versions = true;
        description.other_names = other_names;
        let waker = self.wakers.get(usize::from(worker.0)).cloned();
        let wake = move || waker.iter().for_each(Waker::wake);
        let (service, desk) = server::pair(description, wake);
        self.node.change(move |node, _| node.serve_instance(id, life, desk)).await??;
        served.insert(id, Served { life, service: service.clone() });
        Ok(service)
    }
}

/// The number that the metadata of a request has under a name, if it has any.
fn number<T, N: FromStr>(request: &Request<T>, name: &str) -> Result<Option<N>, Status> {
    let Some(value) = request.metadata().get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| invalid(name, "this is no number"))
}

/// Answers of each call with what the service of its instance answers.
macro_rules! forward {
    ($self:ident . $call:ident ($request:ident)) => {
        $self.of(&$request).await?.$call($request).await
    };
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl NetworkFunctionService for InstanceNfs {
    async fn describe(
        &self,
        request: Request<api::DescribeRequest>,
    ) -> Answer<api::DescribeResponse> {
        forward!(self.describe(request))
    }

    async fn get_counters(
        &self,
        request: Request<api::GetCountersRequest>,
    ) -> Answer<api::GetCountersResponse> {
        forward!(self.get_counters(request))
    }

    type GetPerFlowStream = <Service as NetworkFunctionService>::GetPerFlowStream;

    async fn get_per_flow(
        &self,
        request: Request<api::GetRequest>,
    ) -> Answer<Self::GetPerFlowStream> {
        forward!(self.get_per_flow(request))
    }

    async fn put_per_flow(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        forward!(self.put_per_flow(request))
    }

    async fn del_per_flow(&self, request: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        forward!(self.del_per_flow(request))
    }

    type GetMultiFlowStream = <Service as NetworkFunctionService>::GetMultiFlowStream;

    async fn get_multi_flow(
        &self,
        request: Request<api::GetRequest>,
    ) -> Answer<Self::GetMultiFlowStream> {
        forward!(self.get_multi_flow(request))
    }

    async fn put_multi_flow(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        forward!(self.put_multi_flow(request))
    }

    async fn del_multi_flow(&self, request: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        forward!(self.del_multi_flow(request))
    }

    type GetAllFlowsStream = <Service as NetworkFunctionService>::GetAllFlowsStream;

    async fn get_all_flows(
        &self,
        request: Request<api::GetAllFlowsRequest>,
    ) -> Answer<Self::GetAllFlowsStream> {
        forward!(self.get_all_flows(request))
    }

    async fn put_all_flows(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        forward!(self.put_all_flows(request))
    }

    type EnableEventsStream = <Service as NetworkFunctionService>::EnableEventsStream;

    async fn enable_events(
        &self,
        request: Request<api::EnableEventsRequest>,
    ) -> Answer<Self::EnableEventsStream> {
        forward!(self.enable_events(request))
    }

    async fn disable_events(
        &self,
        request: Request<api::DisableEventsRequest>,
    ) -> Answer<api::DisableEventsResponse> {
        forward!(self.disable_events(request))
    }
}
