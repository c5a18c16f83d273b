//! `NfService`: the network functions of the instances, and those in processes of their own.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    nf::v1::{DescribeResponse, StateKind},
    v1::{ListNfsRequest, ListNfsResponse, NfProcess, nf_service_server::NfService},
};
use weir_nf_api::Description;

use super::{Answer, Api, answer, southbound};
use crate::southbound::scope_message;

#[tonic::async_trait]
impl NfService for Api {
    async fn list_nfs(&self, _: Request<ListNfsRequest>) -> Answer<ListNfsResponse> {
        let mut dataplane = self.sidecar.southbound().nfs();
        let listed = dataplane.list_nfs(dataplane::ListNfsRequest {});
        let (listed, processes) = tokio::join!(listed, self.sidecar.state().ends.list());
        let processes: Vec<_> = processes
            .into_iter()
            .map(|listed| NfProcess {
                name: listed.name,
                socket: listed.socket.display().to_string(),
                error: listed
                    .description
                    .as_ref()
                    .err()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                description: listed.description.ok().as_ref().map(description),
            })
            .collect();
        match listed {
            Ok(listed) => answer(Ok(ListNfsResponse {
                nfs: listed.into_inner().nfs,
                processes,
                dataplane_error: String::new(),
            })),
            // Those in processes of their own need no data plane.
            Err(status) if !processes.is_empty() => answer(Ok(ListNfsResponse {
                nfs: Vec::new(),
                processes,
                dataplane_error: southbound(status).message,
            })),
            Err(status) => answer(Err(southbound(status))),
        }
    }
}

fn description(said: &Description) -> DescribeResponse {
    let kinds = said.kinds.iter().map(|kind| StateKind {
        scope: scope_message(kind.scope).into(),
        schema: kind.schema.kind.into(),
        revision: kind.schema.revision.into(),
        name: kind.name.clone(),
    });
    DescribeResponse {
        name: said.name.clone(),
        version: said.version.clone(),
        kinds: kinds.collect(),
        fields: said.fields.clone(),
        common_versions: said.common_versions,
    }
}
