//! `weir.dataplane.v1.NfService`.

use std::sync::mpsc::channel;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;
use weir_state_transfer::InstanceId;

use super::NodeHandle;
use super::report::Report;
use crate::worker::NfReport;

/// Serves what network functions have counted.
#[derive(Debug)]
pub(super) struct NfService(pub(super) NodeHandle);

/// Messages that wait for the reader.
const BACKLOG: usize = 1;

#[tonic::async_trait]
impl api::nf_service_server::NfService for NfService {
    type ListNfsStream = ReceiverStream<Result<api::ListNfsResponse, Status>>;

    async fn list_nfs(
        &self,
        _request: Request<api::ListNfsRequest>,
    ) -> Result<Response<Self::ListNfsStream>, Status> {
        let instances = self.0.read(|node, _| node.instance_ids()).await?;
        let (to, stream) = mpsc::channel(BACKLOG);
        tokio::spawn(pass_on(self.0.clone(), instances, to));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Sends what the functions of each instance have counted. An instance is asked when there is room
/// for its answer, so that neither a worker nor a message has to do with more than one.
async fn pass_on(
    node: NodeHandle,
    instances: Vec<InstanceId>,
    to: mpsc::Sender<Result<api::ListNfsResponse, Status>>,
) {
    for id in instances {
        let Ok(place) = to.reserve().await else { return };
        match ask(&node, id).await {
            // One that has gone meanwhile, or that has no functions.
            Ok(nfs) if nfs.is_empty() => {}
            Ok(nfs) => place.send(Ok(api::ListNfsResponse { nfs })),
            Err(status) => {
                place.send(Err(status));
                return;
            }
        }
    }
}

async fn ask(node: &NodeHandle, id: InstanceId) -> Result<Vec<api::Nf>, Status> {
    let (from_node, pieces) = channel();
    let mut report = Report::new(pieces, node.changes());
    node.change(move |node, _| node.report_nfs(id, from_node)).await?;
    let mut nfs = Vec::new();
    while let Some(piece) = report.next().await {
        nfs.extend(piece.into_iter().map(show));
    }
    Ok(nfs)
}

fn show(report: NfReport) -> api::Nf {
    let counter = |(name, value)| api::NfCounter { name, value };
    api::Nf {
        instance: u32::from(report.instance.0),
        kind: report.kind.to_owned(),
        counters: report.counters.into_iter().map(counter).collect(),
    }
}
