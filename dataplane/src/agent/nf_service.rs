//! `weir.dataplane.v1.NfService`.

use std::sync::mpsc::channel;

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::report::Report;
use crate::worker::NfReport;

/// Serves what network functions have counted.
#[derive(Debug)]
pub(super) struct NfService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::nf_service_server::NfService for NfService {
    async fn list_nfs(
        &self,
        _request: Request<api::ListNfsRequest>,
    ) -> Result<Response<api::ListNfsResponse>, Status> {
        let (from_node, pieces) = channel();
        let mut report = Report::new(pieces, self.0.changes());
        self.0.change(move |node, _| node.report_nfs(from_node)).await?;
        let mut nfs = Vec::new();
        while let Some(piece) = report.next().await {
            nfs.extend(piece.into_iter().map(show));
        }
        // Those of one instance come together, in their order.
        nfs.sort_by_key(|nf| nf.instance);
        Ok(Response::new(api::ListNfsResponse { nfs }))
    }
}

fn show(report: NfReport) -> api::Nf {
    let counter = |(name, value)| api::NfCounter { name, value };
    api::Nf {
        instance: u32::from(report.instance.0),
        kind: report.kind.to_owned(),
        counters: report.counters.into_iter().map(counter).collect(),
    }
}
