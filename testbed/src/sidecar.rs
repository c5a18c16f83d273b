//! The northbound API of a sidecar, as tests and the demo use it.

use std::path::Path;

use anyhow::{Context, Result};
use tonic::Status;
use weir_api::v1::scale_service_client::ScaleServiceClient;
use weir_api::v1::status_service_client::StatusServiceClient;
use weir_api::v1::{
    Decision, GetStatusRequest, GetStatusResponse, ListDecisionsRequest, ListOperationsRequest,
    Operation, OperationState, ScaleRequest, SetAutoRequest,
};

use crate::rpc::{Rpc, change};
use crate::wait;

/// A connection to a sidecar.
#[derive(Debug)]
pub struct Sidecar {
    /// For calls that have no method here.
    pub rpc: Rpc,
}

impl Sidecar {
    /// Connects to the socket of a sidecar.
    ///
    /// # Errors
    /// When nothing answers there.
    pub fn connect(socket: &Path) -> Result<Self> {
        Ok(Self { rpc: Rpc::connect(socket)? })
    }

    /// The node as a whole.
    ///
    /// # Errors
    /// What the sidecar answered.
    pub fn status(&self) -> Result<GetStatusResponse, Status> {
        let ask = GetStatusRequest {};
        self.rpc.call(async |c| StatusServiceClient::new(c).get_status(ask).await)
    }

    /// Waits until the sidecar has found its data plane.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_until_connected(&self) -> Result<()> {
        wait::until("the sidecar to find the data plane", wait::LIMIT, || {
            self.status().ok()?.dataplane?.connected.then_some(())
        })
    }

    /// Brings the node to a number of instances and follows the operation to its end, or until
    /// `enough` says so. Returns the operation as it was seen last.
    ///
    /// # Errors
    /// What the sidecar answered.
    pub fn scale(
        &self,
        instances: u32,
        mut enough: impl FnMut(&Operation) -> bool,
    ) -> Result<Operation, Status> {
        let mut last = None;
        let ask = ScaleRequest { change: change(), instances };
        self.rpc.follow(
            async |c| ScaleServiceClient::new(c).scale(ask).await,
            |seen| {
                let operation = seen.operation.unwrap_or_default();
                let go_on = !enough(&operation);
                last = Some(operation);
                go_on
            },
        )?;
        last.ok_or_else(|| Status::internal("the stream ended without an operation"))
    }

    /// Brings the node to a number of instances.
    ///
    /// # Errors
    /// When the operation ended otherwise than done.
    pub fn scale_to(&self, instances: u32) -> Result<Operation> {
        let operation = self
            .scale(instances, |_| false)
            .with_context(|| format!("scaling to {instances} instances"))?;
        match operation.state() {
            OperationState::Done => Ok(operation),
            state => anyhow::bail!(
                "scaling to {instances} ended {}: {}",
                state.as_str_name(),
                operation.reason
            ),
        }
    }

    /// The last operations, newest first.
    ///
    /// # Errors
    /// What the sidecar answered.
    pub fn operations(&self) -> Result<Vec<Operation>, Status> {
        let ask = ListOperationsRequest { limit: 256 };
        let listed =
            self.rpc.call(async |c| ScaleServiceClient::new(c).list_operations(ask).await)?;
        Ok(listed.operations)
    }

    /// Waits until an operation has ended, whoever runs it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait_until_ended(&self, id: u64) -> Result<Operation> {
        let ended = |operation: &Operation| {
            !matches!(operation.state(), OperationState::Running | OperationState::Undoing)
        };
        wait::until("the operation to end", wait::LIMIT, || {
            self.operations().ok()?.into_iter().find(|o| o.id == id && ended(o))
        })
    }

    /// Lets the policy scale by itself, or stops it.
    ///
    /// # Errors
    /// What the sidecar answered.
    pub fn set_auto(&self, enabled: bool) -> Result<(), Status> {
        let ask = SetAutoRequest { change: change(), enabled };
        self.rpc.call(async |c| ScaleServiceClient::new(c).set_auto(ask).await)?;
        Ok(())
    }

    /// The last decisions of the policy, newest first.
    ///
    /// # Errors
    /// What the sidecar answered.
    pub fn decisions(&self) -> Result<Vec<Decision>, Status> {
        let ask = ListDecisionsRequest { limit: 1_024 };
        let listed =
            self.rpc.call(async |c| ScaleServiceClient::new(c).list_decisions(ask).await)?;
        Ok(listed.decisions)
    }
}
