//! `weir.dataplane.v1.NeighbourService`.

use std::sync::mpsc::channel;

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::report::Report;

/// Serves the neighbours of the ports.
#[derive(Debug)]
pub(super) struct NeighbourService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::neighbour_service_server::NeighbourService for NeighbourService {
    async fn list_neighbours(
        &self,
        _request: Request<api::ListNeighboursRequest>,
    ) -> Result<Response<api::ListNeighboursResponse>, Status> {
        let (from_node, pieces) = channel();
        let mut report = Report::new(pieces, self.0.changes());
        self.0.change(move |node, _| node.report_neighbours(from_node)).await?;
        let mut records = Vec::new();
        while let Some(piece) = report.next().await {
            records.extend(piece);
        }
        let neighbours = self
            .0
            .read(move |node, now| {
                records.iter().map(|record| node.show_neighbour(record, now)).collect()
            })
            .await?;
        Ok(Response::new(api::ListNeighboursResponse { neighbours }))
    }
}
