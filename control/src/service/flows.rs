//! `FlowService`: per-flow state of the instances.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{ListFlowsRequest, ListFlowsResponse, flow_service_server::FlowService},
};

use super::{
    Answer, Api, message, southbound,
    stream::{self, Answers},
};
use crate::filters;

#[tonic::async_trait]
impl FlowService for Api {
    type ListFlowsStream = Answers<ListFlowsResponse>;

    async fn list_flows(
        &self,
        request: Request<ListFlowsRequest>,
    ) -> Answer<Answers<ListFlowsResponse>> {
        let request = message(request);
        let instance = match request.instance.as_str() {
            "" => 0,
            name => self.instance_id(name).await?,
        };
        let filter = match request.filter.as_str() {
            "" => String::new(),
            filter => filters::flows(filter)?.to_string(),
        };
        let ask = dataplane::ListFlowsRequest { filter, instance, limit: request.limit };
        let listed = self.sidecar.southbound().flows().list_flows(ask).await;
        let listed = listed.map_err(southbound)?.into_inner();
        stream::spawn(|sink| {
            stream::forward(listed, sink, |part: dataplane::ListFlowsResponse| ListFlowsResponse {
                flows: part.flows,
            })
        })
    }
}
