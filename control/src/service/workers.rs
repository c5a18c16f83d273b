//! `WorkerService`: the pinned threads that move packets.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        AddWorkerRequest, AddWorkerResponse, ListWorkersRequest, ListWorkersResponse,
        RemoveWorkerRequest, RemoveWorkerResponse, worker_service_server::WorkerService,
    },
};

use super::{Answer, Api, answer, message, southbound};

#[tonic::async_trait]
impl WorkerService for Api {
    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Answer<ListWorkersResponse> {
        let workers = self.sidecar.southbound().list_workers().await.map_err(southbound);
        answer(workers.map(|workers| ListWorkersResponse { workers }))
    }

    async fn add_worker(&self, request: Request<AddWorkerRequest>) -> Answer<AddWorkerResponse> {
        let request = message(request);
        let job = async {
            self.sidecar.refuse_during_operation("add a worker")?;
            let ask = dataplane::AddWorkerRequest {
                change: forwarded(request.change.as_ref()),
                core: request.core,
            };
            let added = self.sidecar.southbound().workers().add_worker(ask).await;
            Ok(AddWorkerResponse { worker: added.map_err(southbound)?.into_inner().worker })
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }

    async fn remove_worker(
        &self,
        request: Request<RemoveWorkerRequest>,
    ) -> Answer<RemoveWorkerResponse> {
        let request = message(request);
        let job = async {
            self.sidecar.refuse_during_operation("remove a worker")?;
            let ask = dataplane::RemoveWorkerRequest {
                change: forwarded(request.change.as_ref()),
                id: request.id,
            };
            let removed = self.sidecar.southbound().workers().remove_worker(ask).await;
            removed.map_err(southbound)?;
            Ok(RemoveWorkerResponse {})
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }
}

/// The change as the data plane gets it: its generations are not the caller's.
pub(super) fn forwarded(change: Option<&dataplane::Change>) -> Option<dataplane::Change> {
    change.map(|change| dataplane::Change { generation: 0, ..change.clone() })
}
