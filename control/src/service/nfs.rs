//! `NfService`: the network functions of the instances.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{ListNfsRequest, ListNfsResponse, nf_service_server::NfService},
};

use super::{Answer, Api, answer, southbound};

#[tonic::async_trait]
impl NfService for Api {
    async fn list_nfs(&self, _: Request<ListNfsRequest>) -> Answer<ListNfsResponse> {
        let listed = self.sidecar.southbound().nfs().list_nfs(dataplane::ListNfsRequest {}).await;
        let listed = listed.map_err(southbound);
        answer(listed.map(|listed| ListNfsResponse { nfs: listed.into_inner().nfs }))
    }
}
