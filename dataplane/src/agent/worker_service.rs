//! `weir.dataplane.v1.WorkerService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;
use weir_state_transfer::WorkerId;

use super::NodeHandle;
use super::status::{change, invalid};
use crate::driver::Cores;
use crate::node::NodeError;

/// Serves the workers.
#[derive(Debug)]
pub(super) struct WorkerService {
    pub(super) node: NodeHandle,
    /// The cores that workers may be pinned to.
    pub(super) cores: Cores,
}

#[tonic::async_trait]
impl api::worker_service_server::WorkerService for WorkerService {
    async fn list_workers(
        &self,
        _request: Request<api::ListWorkersRequest>,
    ) -> Result<Response<api::ListWorkersResponse>, Status> {
        let workers = self.node.read(|node, _| node.list_workers()).await?;
        Ok(Response::new(api::ListWorkersResponse { workers }))
    }

    async fn add_worker(
        &self,
        request: Request<api::AddWorkerRequest>,
    ) -> Result<Response<api::AddWorkerResponse>, Status> {
        let api::AddWorkerRequest { change: named, core } = request.into_inner();
        let change = change(named)?;
        let core = self.core(core)?;
        let added = self.node.change(move |node, _| node.add_worker(&change, core)).await??;
        let worker = Some(added);
        Ok(Response::new(api::AddWorkerResponse { worker }))
    }

    async fn remove_worker(
        &self,
        request: Request<api::RemoveWorkerRequest>,
    ) -> Result<Response<api::RemoveWorkerResponse>, Status> {
        let api::RemoveWorkerRequest { change: named, id } = request.into_inner();
        let change = change(named)?;
        let id = worker_id(id)?;
        self.node.change(move |node, _| node.remove_worker(&change, id)).await??;
        Ok(Response::new(api::RemoveWorkerResponse {}))
    }
}

impl WorkerService {
    /// The core to pin to, `None` for no pinning.
    fn core(&self, core: i32) -> Result<Option<usize>, Status> {
        if core == -1 {
            return Ok(None);
        }
        match u16::try_from(core) {
            Ok(core) if self.cores.contains(core) => Ok(Some(usize::from(core))),
            Ok(_) | Err(_) => {
                let reason = format!("{core} is not among {}; -1 pins to none", self.cores);
                Err(invalid("core", &reason))
            }
        }
    }
}

/// The worker that a request names.
pub(super) fn worker_id(id: u32) -> Result<WorkerId, NodeError> {
    u8::try_from(id).map(WorkerId).map_err(|_| NodeError::no("worker", id))
}
