//! `NfService`: the network functions of the instances, and those in processes of their own.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        ListNfProcessesRequest, ListNfProcessesResponse, ListNfsRequest, ListNfsResponse,
        NfProcess, nf_service_server::NfService,
    },
};

use super::{
    Answer, Api, answer, southbound,
    stream::{self, Answers},
};
use crate::sidecar::Listed;

#[tonic::async_trait]
impl NfService for Api {
    type ListNfsStream = Answers<ListNfsResponse>;

    async fn list_nfs(&self, _: Request<ListNfsRequest>) -> Answer<Answers<ListNfsResponse>> {
        let listed = self.sidecar.southbound().nfs().list_nfs(dataplane::ListNfsRequest {}).await;
        let listed = listed.map_err(southbound)?.into_inner();
        stream::spawn(|sink| {
            stream::forward(listed, sink, |part: dataplane::ListNfsResponse| ListNfsResponse {
                nfs: part.nfs,
            })
        })
    }

    async fn list_nf_processes(
        &self,
        _: Request<ListNfProcessesRequest>,
    ) -> Answer<ListNfProcessesResponse> {
        let listed = self.sidecar.state().ends.list().await;
        let process = |listed: Listed| NfProcess {
            name: listed.name,
            socket: listed.socket.display().to_string(),
            error: listed.description.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            description: listed.description.ok().map(|said| said.to_message()),
        };
        let processes = listed.into_iter().map(process).collect();
        answer(Ok(ListNfProcessesResponse { processes }))
    }
}
