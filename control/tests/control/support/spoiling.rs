//! A network function in a process of its own whose state is spoilt on its way out.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use weir_api::nf::v1::{
    self as api, network_function_service_server::NetworkFunctionService as Api,
};
use weir_nf_api::server::Service;
use weir_state_transfer::chunk::Scope;

/// What becomes of the encoded chunks of one message.
pub(crate) type Spoil = fn(&mut Vec<Vec<u8>>);

/// A service that answers as another one, but for the state of a scope that it gives.
#[derive(Debug)]
pub(crate) struct Spoiling {
    pub(crate) inner: Service,
    pub(crate) spoil: Arc<Mutex<Option<(Scope, Spoil)>>>,
    pub(crate) lies: Arc<Lies>,
}

/// What it says that is not so, of per-flow state where nothing else is said.
#[derive(Debug, Default)]
pub(crate) struct Lies {
    /// It has taken in one chunk less.
    pub(crate) took_less: AtomicBool,
    /// It deletes nothing, and says that it has.
    pub(crate) keeps: AtomicBool,
    /// It deletes no state of several flows, and says that all of it is in use.
    pub(crate) hosts_in_use: AtomicBool,
    /// With each message of a get, of any scope, it has passed over more flows than there can be.
    pub(crate) passes_over: AtomicBool,
    /// It has deleted so many, and has so many in use, whatever it was asked for.
    pub(crate) boasts: Mutex<Option<(u64, u64)>>,
    /// Deletions of per-flow state up to one that does not come to it; 0 where all do.
    pub(crate) deletions_to_lost: AtomicU32,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

impl Spoiling {
    fn given(
        &self,
        scope: Scope,
        got: Response<impl Stream<Item = Result<api::GetResponse, Status>> + Send + 'static>,
    ) -> Response<Answers<api::GetResponse>> {
        let spoil = *self.spoil.lock().expect("nobody panics here");
        let spoil = spoil.filter(|(of, _)| *of == scope);
        let passes_over = self.lies.passes_over.load(Ordering::Relaxed);
        got.map(|stream| {
            let spoilt = stream.map(move |message| {
                message.map(|mut message| {
                    if let Some((_, spoil)) = spoil
                        && !message.chunks.is_empty()
                    {
                        spoil(&mut message.chunks);
                    }
                    if passes_over {
                        message.in_use = u64::MAX;
                    }
                    message
                })
            });
            Box::pin(spoilt) as Answers<_>
        })
    }
}

#[tonic::async_trait]
impl Api for Spoiling {
    async fn describe(&self, ask: Request<api::DescribeRequest>) -> Answer<api::DescribeResponse> {
        self.inner.describe(ask).await
    }

    async fn get_counters(
        &self,
        ask: Request<api::GetCountersRequest>,
    ) -> Answer<api::GetCountersResponse> {
        self.inner.get_counters(ask).await
    }

    type GetPerFlowStream = Answers<api::GetResponse>;

    async fn get_per_flow(&self, ask: Request<api::GetRequest>) -> Answer<Self::GetPerFlowStream> {
        Ok(self.given(Scope::PerFlow, self.inner.get_per_flow(ask).await?))
    }

    async fn put_per_flow(
        &self,
        ask: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        let mut put = self.inner.put_per_flow(ask).await?;
        if self.lies.took_less.load(Ordering::Relaxed) {
            put.get_mut().taken -= 1;
        }
        Ok(put)
    }

    async fn del_per_flow(&self, ask: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        if self.lies.keeps.load(Ordering::Relaxed) {
            return Ok(Response::new(api::DelResponse::default()));
        }
        if let Some((deleted, in_use)) = *self.lies.boasts.lock().expect("nobody panics here") {
            return Ok(Response::new(api::DelResponse { deleted, in_use, in_use_ids: Vec::new() }));
        }
        let left = |left: u32| left.checked_sub(1);
        let to_be_lost = &self.lies.deletions_to_lost;
        if to_be_lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) == Ok(1) {
            return Err(Status::unavailable("nobody hears it"));
        }
        self.inner.del_per_flow(ask).await
    }

    type GetMultiFlowStream = Answers<api::GetResponse>;

    async fn get_multi_flow(
        &self,
        ask: Request<api::GetRequest>,
    ) -> Answer<Self::GetMultiFlowStream> {
        Ok(self.given(Scope::MultiFlow, self.inner.get_multi_flow(ask).await?))
    }

    async fn put_multi_flow(
        &self,
        ask: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        self.inner.put_multi_flow(ask).await
    }

    async fn del_multi_flow(&self, ask: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        if self.lies.hosts_in_use.load(Ordering::Relaxed) {
            let (deleted, in_use_ids) = (0, ask.into_inner().ids);
            let in_use = in_use_ids.len() as u64;
            return Ok(Response::new(api::DelResponse { deleted, in_use, in_use_ids }));
        }
        self.inner.del_multi_flow(ask).await
    }

    type GetAllFlowsStream = Answers<api::GetResponse>;

    async fn get_all_flows(
        &self,
        ask: Request<api::GetAllFlowsRequest>,
    ) -> Answer<Self::GetAllFlowsStream> {
        Ok(self.given(Scope::AllFlows, self.inner.get_all_flows(ask).await?))
    }

    async fn put_all_flows(
        &self,
        ask: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        self.inner.put_all_flows(ask).await
    }

    type EnableEventsStream = Answers<api::EnableEventsResponse>;

    async fn enable_events(
        &self,
        ask: Request<api::EnableEventsRequest>,
    ) -> Answer<Self::EnableEventsStream> {
        let enabled = self.inner.enable_events(ask).await?;
        Ok(enabled.map(|notes| Box::pin(notes) as Answers<_>))
    }

    async fn disable_events(
        &self,
        ask: Request<api::DisableEventsRequest>,
    ) -> Answer<api::DisableEventsResponse> {
        self.inner.disable_events(ask).await
    }
}
