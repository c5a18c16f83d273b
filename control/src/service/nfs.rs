//! `NfService`: the network functions of the instances, and those in processes of their own.

use tonic::{Request, Streaming};
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        ListNfProcessesRequest, ListNfProcessesResponse, ListNfsRequest, ListNfsResponse,
        NfProcess, nf_service_server::NfService,
    },
};

use super::{
    Answer, Api, answer, message, southbound,
    stream::{self, Answers},
};
use crate::{fault::Fault, sidecar::Listed};

#[tonic::async_trait]
impl NfService for Api {
    type ListNfsStream = Answers<ListNfsResponse>;

    async fn list_nfs(&self, request: Request<ListNfsRequest>) -> Answer<Answers<ListNfsResponse>> {
        let ListNfsRequest { instance, nf, nonzero } = message(request);
        let instance = match instance.as_str() {
            "" => None,
            name => Some(self.instance_id(name).await?),
        };
        if !nf.is_empty() {
            self.runs_nf(&nf).await?;
        }
        let listed = self.list_nfs_of_dataplane().await?;
        let wanted = move |mut found: dataplane::Nf| {
            found.counters.retain(|counter| !nonzero || counter.value > 0);
            let is_wanted = instance.is_none_or(|id| id == found.instance)
                && (nf.is_empty() || nf == found.kind)
                && !(nonzero && found.counters.is_empty());
            is_wanted.then_some(found)
        };
        stream::spawn(|sink| {
            stream::forward(listed, sink, move |part: dataplane::ListNfsResponse| ListNfsResponse {
                nfs: part.nfs.into_iter().filter_map(&wanted).collect(),
            })
        })
    }

    async fn list_nf_processes(
        &self,
        _: Request<ListNfProcessesRequest>,
    ) -> Answer<ListNfProcessesResponse> {
        let listed = self.sidecar.state().ends.list().await;
        let process = |Listed { name, socket, description, counters }: Listed| {
            let error = description.as_ref().err().or(counters.as_ref().err());
            NfProcess {
                name,
                socket: socket.display().to_string(),
                error: error.map(ToString::to_string).unwrap_or_default(),
                description: description.ok().map(|said| said.to_message()),
                counters: counters.unwrap_or_default(),
            }
        };
        let processes = listed.into_iter().map(process).collect();
        answer(Ok(ListNfProcessesResponse { processes }))
    }
}

impl Api {
    async fn list_nfs_of_dataplane(&self) -> Result<Streaming<dataplane::ListNfsResponse>, Fault> {
        let listed = self.sidecar.southbound().nfs().list_nfs(dataplane::ListNfsRequest {}).await;
        Ok(listed.map_err(southbound)?.into_inner())
    }

    /// Refuses the name of a function that the instances do not run: all run the same, so that the
    /// first tells.
    async fn runs_nf(&self, kind: &str) -> Result<(), Fault> {
        let mut listed = self.list_nfs_of_dataplane().await?;
        let first = listed.message().await.map_err(southbound)?.unwrap_or_default();
        if first.nfs.iter().any(|nf| nf.kind == kind) {
            return Ok(());
        }
        let fault = match first.nfs.is_empty() {
            true => Fault::not_found("nfs", kind)
                .fix("the instances run none: each [[nf]] of the configuration is one"),
            false => Fault::not_found("nfs", kind).one_of(first.nfs.iter().map(|nf| &nf.kind)),
        };
        Err(fault)
    }
}
