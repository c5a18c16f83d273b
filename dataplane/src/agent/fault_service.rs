//! `weir.dataplane.v1.FaultService`: only with `--faults`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::worker_service::worker_id;

/// Makes faults for tests.
#[derive(Debug)]
pub(super) struct FaultService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::fault_service_server::FaultService for FaultService {
    async fn panic_worker(
        &self,
        request: Request<api::PanicWorkerRequest>,
    ) -> Result<Response<api::PanicWorkerResponse>, Status> {
        let api::PanicWorkerRequest { worker, after_packets } = request.into_inner();
        let worker = worker_id(worker)?;
        self.0.change(move |node, _| node.panic_worker(worker, after_packets)).await??;
        Ok(Response::new(api::PanicWorkerResponse {}))
    }
}
