//! `weir.dataplane.v1.FlowService`.

use std::sync::Arc;
use std::sync::mpsc::channel;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::report::Report;
use super::status::invalid;
use crate::node::{NodeError, instance_id};
use crate::worker::{FlowQuery, FlowRecord};

/// Serves the flows of the instances.
#[derive(Debug)]
pub(super) struct FlowService {
    node: NodeHandle,
    /// A report may hold every flow of the node while its reader is slow.
    free: Arc<Semaphore>,
}

/// Reports at one time.
const REPORTS_MAX: usize = 4;
/// Flows in one message of a stream.
const FLOWS: usize = 512;
/// Messages that wait for the reader.
const BACKLOG: usize = 4;

impl FlowService {
    pub(super) fn new(node: NodeHandle) -> Self {
        Self { node, free: Arc::new(Semaphore::new(REPORTS_MAX)) }
    }
}

#[tonic::async_trait]
impl api::flow_service_server::FlowService for FlowService {
    type ListFlowsStream = ReceiverStream<Result<api::ListFlowsResponse, Status>>;

    async fn list_flows(
        &self,
        request: Request<api::ListFlowsRequest>,
    ) -> Result<Response<Self::ListFlowsStream>, Status> {
        let api::ListFlowsRequest { filter, instance, limit } = request.into_inner();
        let query = query(&filter, instance)?;
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            Status::from(NodeError::Exhausted {
                what: "the number of flow reports",
                bound: REPORTS_MAX,
                hint: "wait until another is read to its end",
            })
        })?;
        let (from_node, pieces) = channel();
        let report = Report::new(pieces, self.node.changes());
        self.node.change(move |node, _| node.report_flows(query, from_node)).await?;
        let (to, stream) = mpsc::channel(BACKLOG);
        let limit = if limit == 0 { u64::MAX } else { limit };
        tokio::spawn(pass_on(report, limit, to, permit));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Sends flows until the limit, the end, or until nobody reads them.
async fn pass_on(
    mut report: Report<FlowRecord>,
    limit: u64,
    to: mpsc::Sender<Result<api::ListFlowsResponse, Status>>,
    _permit: OwnedSemaphorePermit,
) {
    let mut left = limit;
    loop {
        let piece = tokio::select! {
            piece = report.next() => piece,
            () = to.closed() => return,
        };
        let Some(mut flows) = piece else { return };
        flows.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= flows.len() as u64;
        for some in flows.chunks(FLOWS) {
            let flows = some.iter().map(show).collect();
            if to.send(Ok(api::ListFlowsResponse { flows })).await.is_err() {
                return;
            }
        }
        if left == 0 {
            return;
        }
    }
}

fn query(filter: &str, instance: u32) -> Result<FlowQuery, Status> {
    let filter = match filter {
        "" => None,
        text => Some(text.parse().map_err(|error| invalid("filter", &format!("{error}")))?),
    };
    let instance = match instance {
        0 => None,
        id => Some(instance_id("instance", id)?),
    };
    Ok(FlowQuery { id: 0, filter, instance })
}

fn show(flow: &FlowRecord) -> api::Flow {
    api::Flow {
        instance: u32::from(flow.instance.0),
        src: flow.key.src().to_string(),
        dst: flow.key.dst().to_string(),
        protocol: u32::from(flow.key.protocol()),
        src_port: u32::from(flow.key.src_port()),
        dst_port: u32::from(flow.key.dst_port()),
        bucket: flow.bucket.index() as u32,
        packets: flow.packets,
        bytes: flow.bytes,
        first_seen_ns: flow.first_seen.0,
        last_seen_ns: flow.last_seen.0,
        digest: flow.digest,
    }
}
