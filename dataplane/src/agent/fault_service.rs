//! `weir.dataplane.v1.FaultService`: only with `--faults`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::worker_service::worker_id;
use crate::worker::{Fault, FaultStage};

/// Makes faults for tests.
#[derive(Debug)]
pub(super) struct FaultService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::fault_service_server::FaultService for FaultService {
    async fn panic_worker(
        &self,
        request: Request<api::PanicWorkerRequest>,
    ) -> Result<Response<api::PanicWorkerResponse>, Status> {
        let request = request.into_inner();
        let worker = worker_id(request.worker)?;
        let fault = Fault { stage: stage(request.stage)?, packets: request.after_packets };
        self.0.change(move |node, _| node.panic_worker(worker, fault)).await??;
        Ok(Response::new(api::PanicWorkerResponse {}))
    }
}

fn stage(named: i32) -> Result<FaultStage, Status> {
    match api::FaultStage::try_from(named) {
        Ok(api::FaultStage::Unspecified | api::FaultStage::Forwarding) => {
            Ok(FaultStage::Forwarding)
        }
        Ok(api::FaultStage::Received) => Ok(FaultStage::Received),
        Ok(api::FaultStage::Taken) => Ok(FaultStage::Taken),
        Ok(api::FaultStage::Delivered) => Ok(FaultStage::Delivered),
        Ok(api::FaultStage::Function) => Ok(FaultStage::Function),
        Ok(api::FaultStage::Sweep) => Ok(FaultStage::Sweep),
        Ok(api::FaultStage::Local) => Ok(FaultStage::Local),
        Ok(api::FaultStage::Resolved) => Ok(FaultStage::Resolved),
        Ok(api::FaultStage::Transmitted) => Ok(FaultStage::Transmitted),
        Err(_unknown) => Err(Status::invalid_argument(format!("{named} is no stage"))),
    }
}
