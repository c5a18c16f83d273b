//! Ways to break the rules, and a service that breaks those that a function itself can not.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use weir_api::nf::v1 as api;
use weir_api::nf::v1::enable_events_response::Note as Told;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionService;
use weir_api::refusal::refusal;
use weir_nf_api::client::INSTANCE;
use weir_nf_api::server::Service;

/// What is wrong with a function, if anything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    // Of the function: see `counting`.
    GetIgnoresFilter,
    GetIgnoresPorts,
    GetTwice,
    PutAdds,
    PutLosesVersion,
    PutTakesOlder,
    MergeReplaces,
    BodyHalfTaken,
    TakesAnyId,
    DelKeeps,
    DelForgetsAll,
    DropCounts,
    BufferCounts,
    BufferIsLost,
    EventVersion,
    EventsOfAll,
    SnapIgnored,
    OneIsTold,
    Duplicates,
    UnknownIsFine,
    RefusesDrop,
    Fails,
    // No fault: it refuses as it says.
    RefusesDropAsSaid,
    // Nor are these: a share goes on, and there is no such function.
    SharesNow,
    NotThere,
    // As a data plane that is not told which of its instances is asked.
    NoInstanceNamed,
    CountersUntold,
    // Of what serves it.
    CounterNamed,
    CounterTwice,
    DescribesAnother,
    Nameless,
    RulesUntold,
    OtherKinds,
    HidesKinds,
    SinceIgnored,
    ReasonIsFull,
    RefusalForgotten,
    ReasonOfRequests,
    NotInForce,
    StreamStays,
    CancelIgnored,
    GapsUntold,
    CausesMixed,
    Talkative,
    DeletesMore,
    TakesLong,
    TakesLate,
}

/// How long a put takes that takes long: a fifth of it is enough for an answer, however busy the
/// machine is.
pub(crate) const TAKES: Duration = Duration::from_secs(15);

/// How long a put waits that takes late: enough for who looks meanwhile what there is without it.
const LATE: Duration = Duration::from_secs(1);

/// A service that answers as the fault says, and as another one for the rest.
pub(crate) struct Faulty {
    pub(crate) inner: Service,
    pub(crate) fault: Fault,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

impl Faulty {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn get(
        &self,
        got: Answer<impl Stream<Item = Result<api::GetResponse, Status>> + Send + 'static>,
    ) -> Answer<Answers<api::GetResponse>> {
        Ok(got.map_err(|status| self.reason(status))?.map(|stream| Box::pin(stream) as Answers<_>))
    }

    fn put(&self, put: Answer<api::PutResponse>) -> Answer<api::PutResponse> {
        let mut put = put?;
        let answer = put.get_mut();
        if let Some(refusal) = &mut answer.refusal
            && self.is(Fault::Talkative)
        {
            refusal.message = "R".repeat(1_900_000);
        }
        if let Some(refusal) = &mut answer.refusal
            && self.is(Fault::ReasonIsFull)
        {
            refusal.reason = api::RefusalReason::Full.into();
        }
        if self.is(Fault::RefusalForgotten) {
            answer.refusal = None;
        }
        Ok(put)
    }

    fn del(&self, deleted: Answer<api::DelResponse>) -> Answer<api::DelResponse> {
        match self.fault {
            Fault::Talkative => Err(Status::internal("E".repeat(4_000))),
            Fault::DeletesMore => {
                // And some that it was not asked to delete.
                let (deleted, in_use, in_use_ids) = (u64::MAX, u64::MAX, vec![vec![9; 30]; 1_000]);
                Ok(Response::new(api::DelResponse { deleted, in_use, in_use_ids }))
            }
            _ => deleted.map_err(|status| self.reason(status)),
        }
    }

    fn reason(&self, status: Status) -> Status {
        if self.is(Fault::ReasonOfRequests) {
            return Status::new(Code::Internal, status.message());
        }
        status
    }

    fn asked(&self, mut request: Request<api::GetRequest>) -> Request<api::GetRequest> {
        if self.is(Fault::SinceIgnored) {
            request.get_mut().since = 0;
        }
        request
    }
}

#[tonic::async_trait]
impl NetworkFunctionService for Faulty {
    async fn describe(
        &self,
        request: Request<api::DescribeRequest>,
    ) -> Answer<api::DescribeResponse> {
        if self.is(Fault::NotThere) {
            let info = ErrorDetails::with_error_info("NOT_FOUND", "weir", HashMap::new());
            return Err(Status::with_error_details(Code::NotFound, "there is no instance 9", info));
        }
        if self.is(Fault::NoInstanceNamed) {
            let why = format!("{INSTANCE}: say which instance, by its number");
            return Err(refusal(Code::InvalidArgument, &why, "INVALID_FIELD", &[], None));
        }
        let mut answer = self.inner.describe(request).await?;
        let told = answer.get_mut();
        match self.fault {
            Fault::DescribesAnother => told.name = format!("nf {}", weir_seed::any()),
            Fault::Nameless => told.name.clear(),
            Fault::RulesUntold => told.kinds[1].merge_rules.clear(),
            Fault::OtherKinds => told.kinds.iter_mut().for_each(|kind| kind.schema += 100),
            Fault::HidesKinds => told.kinds.retain(|kind| kind.scope != 2),
            Fault::RefusesDropAsSaid => told.refused_actions.push(api::Action::Drop.into()),
            _ => {}
        }
        Ok(answer)
    }

    async fn get_counters(
        &self,
        request: Request<api::GetCountersRequest>,
    ) -> Answer<api::GetCountersResponse> {
        if self.is(Fault::CountersUntold) {
            return Err(Status::unimplemented("it is of before there were counters"));
        }
        let mut answer = self.inner.get_counters(request).await?;
        let counters = &mut answer.get_mut().counters;
        match self.fault {
            Fault::CounterNamed => counters[0].name = "Packets".to_owned(),
            Fault::CounterTwice => counters.push(counters[0].clone()),
            _ => {}
        }
        Ok(answer)
    }

    type GetPerFlowStream = Answers<api::GetResponse>;

    async fn get_per_flow(
        &self,
        request: Request<api::GetRequest>,
    ) -> Answer<Self::GetPerFlowStream> {
        self.get(self.inner.get_per_flow(self.asked(request)).await)
    }

    async fn put_per_flow(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        if self.is(Fault::TakesLate) {
            tokio::time::sleep(LATE).await;
        }
        let put = self.inner.put_per_flow(request).await;
        if self.is(Fault::TakesLong) {
            tokio::time::sleep(TAKES).await;
        }
        self.put(put)
    }

    async fn del_per_flow(&self, request: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        self.del(self.inner.del_per_flow(request).await)
    }

    type GetMultiFlowStream = Answers<api::GetResponse>;

    async fn get_multi_flow(
        &self,
        request: Request<api::GetRequest>,
    ) -> Answer<Self::GetMultiFlowStream> {
        self.get(self.inner.get_multi_flow(self.asked(request)).await)
    }

    async fn put_multi_flow(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        self.put(self.inner.put_multi_flow(request).await)
    }

    async fn del_multi_flow(&self, request: Request<api::DelRequest>) -> Answer<api::DelResponse> {
        self.del(self.inner.del_multi_flow(request).await)
    }

    type GetAllFlowsStream = Answers<api::GetResponse>;

    async fn get_all_flows(
        &self,
        request: Request<api::GetAllFlowsRequest>,
    ) -> Answer<Self::GetAllFlowsStream> {
        let mut request = request;
        if self.is(Fault::SinceIgnored) {
            request.get_mut().since = 0;
        }
        self.get(self.inner.get_all_flows(request).await)
    }

    async fn put_all_flows(
        &self,
        request: Request<Streaming<api::PutRequest>>,
    ) -> Answer<api::PutResponse> {
        self.put(self.inner.put_all_flows(request).await)
    }

    type EnableEventsStream = Answers<api::EnableEventsResponse>;

    async fn enable_events(
        &self,
        request: Request<api::EnableEventsRequest>,
    ) -> Answer<Self::EnableEventsStream> {
        let enabled = self.inner.enable_events(request).await.map_err(|s| self.reason(s))?;
        let fault = self.fault;
        let notes = enabled.into_inner().filter_map(move |answer| told(fault, answer));
        if fault == Fault::CancelIgnored {
            return Ok(Response::new(Box::pin(kept_up(notes))));
        }
        if fault == Fault::StreamStays {
            let notes = notes.chain(tokio_stream::pending());
            return Ok(Response::new(Box::pin(notes)));
        }
        Ok(Response::new(Box::pin(notes)))
    }

    async fn disable_events(
        &self,
        request: Request<api::DisableEventsRequest>,
    ) -> Answer<api::DisableEventsResponse> {
        self.inner.disable_events(request).await
    }
}

/// The same stream, read to its end whether its reader is there or not.
fn kept_up<T: Send + 'static>(
    stream: impl Stream<Item = T> + Send + 'static,
) -> impl Stream<Item = T> {
    let (to, from) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = stream.next().await {
            let _gone = to.send(item).await;
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(from)
}

/// What a subscriber is told by a service with that fault.
fn told(
    fault: Fault,
    mut answer: Result<api::EnableEventsResponse, Status>,
) -> Option<Result<api::EnableEventsResponse, Status>> {
    let note = answer.as_mut().ok()?.note.as_mut();
    match (fault, note) {
        (Fault::NotInForce, Some(Told::Enabled(_))) | (Fault::GapsUntold, Some(Told::Gap(_))) => {
            return None;
        }
        (Fault::CausesMixed, Some(Told::Event(event))) => event.cause = 3 - event.cause,
        _ => {}
    }
    Some(answer)
}
