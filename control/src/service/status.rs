//! `StatusService`: the node as a whole.

use tonic::Request;
use weir_api::v1::{
    DataplaneStatus, GetStatusRequest, GetStatusResponse, status_service_server::StatusService,
};

use super::{Answer, Api, answer, convert, goes_on};
use crate::{
    fault::{Fault, dataplane_fix},
    southbound::why,
};

#[tonic::async_trait]
impl StatusService for Api {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        answer(self.status().await)
    }
}

impl Api {
    async fn status(&self) -> Result<GetStatusResponse, Fault> {
        let desired = self.sidecar.store().run(|database| database.desired()).await?;
        let mut state_operations = self.sidecar.list_state_operations().await?;
        state_operations.retain(|operation| goes_on(operation.state()));
        let southbound = self.sidecar.southbound();
        let (node, listed, workers) =
            tokio::join!(southbound.node(), southbound.list_instances(), southbound.list_workers());
        let mut link = self.sidecar.link().borrow().clone();
        link.instances = listed.map(|listed| listed.instances).unwrap_or_default();
        let (node, error, fix) = match node {
            Ok(node) => (Some(node), String::new(), ""),
            Err(status) => (None, why(&status), dataplane_fix(&status)),
        };
        let mut restarted_workers = workers.unwrap_or_default();
        restarted_workers.retain(|worker| worker.restarts > 0);
        let loads = || link.loads.iter().map(|load| load.load);
        Ok(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: desired.generation,
            uptime_ns: self.sidecar.clock().now_ns(),
            dataplane: Some(DataplaneStatus {
                connected: node.is_some(),
                error,
                fix: fix.to_owned(),
                socket: southbound.socket().display().to_string(),
                node,
            }),
            instances_desired: desired.instances.unwrap_or(0),
            instances_active: link.active(),
            auto: self.sidecar.auto(),
            operation: self.sidecar.operation_in_progress().as_ref().map(convert::operation),
            load_mean: loads().sum::<f64>() / link.loads.len().max(1) as f64,
            load_max: loads().fold(0.0, f64::max),
            restarted_workers,
            state_operations,
        })
    }
}
