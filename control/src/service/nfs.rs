//! `NfService`: the network functions of the instances.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{ListNfsRequest, ListNfsResponse, nf_service_server::NfService},
};

use super::{
    Answer, Api, southbound,
    stream::{self, Answers},
};

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
}
