//! `InstanceService`: switch instances with their load.

use tonic::Request;
use weir_api::v1::{
    GetInstanceRequest, GetInstanceResponse, InstanceView, ListInstancesRequest,
    ListInstancesResponse, instance_service_server::InstanceService,
};

use super::{Answer, Api, answer, convert, message, southbound};
use crate::fault::Fault;

#[tonic::async_trait]
impl InstanceService for Api {
    async fn list_instances(
        &self,
        _: Request<ListInstancesRequest>,
    ) -> Answer<ListInstancesResponse> {
        let instances = self.instance_views().await;
        answer(instances.map(|instances| ListInstancesResponse { instances }))
    }

    async fn get_instance(
        &self,
        request: Request<GetInstanceRequest>,
    ) -> Answer<GetInstanceResponse> {
        let name = message(request).name;
        answer(self.instance_views().await.and_then(|views| {
            let named =
                |view: &InstanceView| view.instance.as_ref().is_some_and(|i| i.name == name);
            let instance = views.into_iter().find(named);
            let instance = instance.ok_or_else(|| Fault::not_found("instances", &name))?;
            Ok(GetInstanceResponse { instance: Some(instance) })
        }))
    }
}

impl Api {
    async fn instance_views(&self) -> Result<Vec<InstanceView>, Fault> {
        let listed = self.sidecar.southbound().list_instances().await.map_err(southbound)?;
        Ok(convert::instances(listed.instances, &self.sidecar.link().borrow()))
    }

    /// The number of the instance of this name.
    pub(super) async fn instance_id(&self, name: &str) -> Result<u32, Fault> {
        let listed = self.sidecar.southbound().list_instances().await.map_err(southbound)?;
        let found = listed.instances.iter().find(|instance| instance.name == name);
        found.map(|instance| instance.id).ok_or_else(|| Fault::not_found("instances", name))
    }
}
