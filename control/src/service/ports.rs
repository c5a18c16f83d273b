//! `PortService` and `NeighbourService`: where packets enter and leave, and who is beyond.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        GetPortRequest, GetPortResponse, ListNeighboursRequest, ListNeighboursResponse,
        ListPortsRequest, ListPortsResponse, neighbour_service_server::NeighbourService,
        port_service_server::PortService,
    },
};

use super::{Answer, Api, answer, message, southbound};
use crate::fault::Fault;

#[tonic::async_trait]
impl PortService for Api {
    async fn list_ports(&self, _: Request<ListPortsRequest>) -> Answer<ListPortsResponse> {
        let ports = self.sidecar.southbound().list_ports().await.map_err(southbound);
        answer(ports.map(|ports| ListPortsResponse { ports }))
    }

    async fn get_port(&self, request: Request<GetPortRequest>) -> Answer<GetPortResponse> {
        let name = message(request).name;
        let ports = self.sidecar.southbound().list_ports().await.map_err(southbound);
        answer(ports.and_then(|ports| {
            let port = ports.iter().find(|port| port.name == name);
            let port = port.cloned().ok_or_else(|| {
                Fault::not_found("ports", &name).one_of(ports.iter().map(|port| &port.name))
            })?;
            Ok(GetPortResponse { port: Some(port) })
        }))
    }
}

#[tonic::async_trait]
impl NeighbourService for Api {
    async fn list_neighbours(
        &self,
        _: Request<ListNeighboursRequest>,
    ) -> Answer<ListNeighboursResponse> {
        let mut client = self.sidecar.southbound().neighbours();
        let listed = client.list_neighbours(dataplane::ListNeighboursRequest {}).await;
        let listed = listed.map_err(southbound);
        answer(
            listed.map(|listed| ListNeighboursResponse {
                neighbours: listed.into_inner().neighbours,
            }),
        )
    }
}
