//! `TransferService`: state that other nodes bring.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weir_api::v1::{
    SettleTransferRequest, SettleTransferResponse, TransferRequest, TransferResponse,
    TransferVerdict, transfer_request::Part, transfer_service_server::TransferService,
};
use weir_state_transfer::transfer::{Outcome, Verdict, WINDOW};

use super::{Answer, Api, stream::Answers};
use crate::{fault::Fault, listen::Caller, sidecar::outcome_message};

/// How long a node may take to say what its transfer is about.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Replies that wait for a node to read them: as many as it can have messages on their way, and the
/// last.
const WAITING_MAX: usize = WINDOW.chunks as usize + 8;

#[tonic::async_trait]
impl TransferService for Api {
    type TransferStream = Answers<TransferResponse>;

    async fn transfer(
        &self,
        request: Request<Streaming<TransferRequest>>,
    ) -> Answer<Answers<TransferResponse>> {
        let peer = self.peer(&request)?;
        let mut requests = request.into_inner();
        let opened = tokio::time::timeout(OPEN_LIMIT, requests.message()).await;
        let opened = opened.map_err(|_| Fault::invalid("OPEN_MISSING", "nothing is opened"))?;
        let Some(TransferRequest { part: Some(Part::Open(open)) }) = opened? else {
            let message = "the first message of a transfer opens it";
            return Err(Fault::invalid("OPEN_MISSING", message).object("open").into());
        };
        let (replies, answers) = mpsc::channel(WAITING_MAX);
        self.sidecar.begin_arrival(&peer, open, (requests, replies)).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn settle_transfer(
        &self,
        request: Request<SettleTransferRequest>,
    ) -> Answer<SettleTransferResponse> {
        let peer = self.peer(&request)?;
        let request = request.into_inner();
        let verdict = match request.verdict() {
            TransferVerdict::Keep => Verdict::Keep,
            TransferVerdict::Undo => Verdict::Undo,
            TransferVerdict::Unspecified => {
                let fault = Fault::invalid("VERDICT", "a transfer is kept or undone");
                return Err(fault.object("verdict").into());
            }
        };
        let settled = self.sidecar.state().arrivals.settle(&peer, request.id, verdict);
        let outcome: Outcome = settled.await.map_err(Status::from)?;
        let outcome = outcome_message(outcome).into();
        Ok(Response::new(SettleTransferResponse { outcome }))
    }
}

impl Api {
    /// What the node that calls is called here.
    fn peer<T>(&self, request: &Request<T>) -> Result<String, Fault> {
        let Some(Caller::Node { name }) = request.extensions().get() else {
            return Err(Fault::unknown_peer("only nodes bring state"));
        };
        let known = self.sidecar.state().peers.name_of(name);
        known.map(str::to_owned).ok_or_else(|| {
            Fault::unknown_peer(&format!("node {name} is none that this one takes state from"))
        })
    }
}
