//! `InstanceService`: switch instances with their load.

use tonic::Request;
use weir_api::{
    dataplane::v1::Instance,
    v1::{
        GetInstanceRequest, GetInstanceResponse, InstanceView, ListInstancesRequest,
        ListInstancesResponse, instance_service_server::InstanceService,
    },
};

use super::{Answer, Api, answer, convert, message, southbound};
use crate::{fault::Fault, southbound::find_instance};

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
            let id = id_of(views.iter().filter_map(|view| view.instance.as_ref()), &name)?;
            let wanted = |view: &InstanceView| view.instance.as_ref().is_some_and(|i| i.id == id);
            Ok(GetInstanceResponse { instance: views.into_iter().find(wanted) })
        }))
    }
}

impl Api {
    async fn instance_views(&self) -> Result<Vec<InstanceView>, Fault> {
        let listed = self.sidecar.southbound().list_instances().await.map_err(southbound)?;
        Ok(convert::instances(listed.instances, &self.sidecar.link().borrow()))
    }

    /// The number of the instance of this name or number.
    pub(super) async fn instance_id(&self, name: &str) -> Result<u32, Fault> {
        let listed = self.sidecar.southbound().list_instances().await.map_err(southbound)?;
        id_of(listed.instances.iter(), name)
    }
}

/// The number of the instance of this name or number.
fn id_of<'a>(
    instances: impl Iterator<Item = &'a Instance> + Clone,
    name: &str,
) -> Result<u32, Fault> {
    let found = find_instance(instances.clone(), name);
    found.map(|instance| instance.id).ok_or_else(|| {
        Fault::not_found("instances", name).one_of(instances.map(|instance| &instance.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_found_by_name_or_number_and_the_name_wins() {
        let instances = [(1, "r1"), (2, "3"), (3, "sw2")].map(|(id, name)| Instance {
            id,
            name: name.to_owned(),
            ..Instance::default()
        });
        let id = |name| id_of(instances.iter(), name).ok();
        assert_eq!((id("r1"), id("1"), id("sw2")), (Some(1), Some(1), Some(3)));
        assert_eq!((id("2"), id("3")), (Some(2), Some(2)));
        assert_eq!((id("9"), id("sw9"), id("")), (None, None, None));
    }
}
