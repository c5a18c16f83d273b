//! How the services reach the node, which has one owner and no lock.

use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;
use weir_state_transfer::Nanos;

use crate::node::Node;

/// Calls that wait for the node at most; further callers wait until there is room.
pub(super) const CALLS_MAX: usize = 256;

/// Work for the owner of the node.
pub(super) enum Call {
    /// Looks at the node.
    Read(Look),
    /// Changes it.
    Change(Edit),
}

type Look = Box<dyn FnOnce(&Node, Nanos) + Send>;
type Edit = Box<dyn FnOnce(&mut Node, Nanos) + Send>;

/// The way to the node. Calls are carried out one after the other, in their order.
#[derive(Clone, Debug)]
pub(super) struct NodeHandle {
    calls: mpsc::Sender<Call>,
    changes: watch::Receiver<u64>,
}

impl NodeHandle {
    /// `changes` changes whenever something may have happened at the node.
    pub(super) fn new(calls: mpsc::Sender<Call>, changes: watch::Receiver<u64>) -> Self {
        Self { calls, changes }
    }

    /// What `look` sees.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the process is about to end.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, Nanos) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        // A caller that has gone away does not want its answer.
        let call = move |node: &Node, now| drop(answer.send(look(node, now)));
        self.pass(Call::Read(Box::new(call)), answered).await
    }

    /// What `change` answers.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the process is about to end.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Node, Nanos) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let call = move |node: &mut Node, now| drop(answer.send(change(node, now)));
        self.pass(Call::Change(Box::new(call)), answered).await
    }

    /// Something that tells when to look again.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    async fn pass<T>(&self, call: Call, answered: oneshot::Receiver<T>) -> Result<T, Status> {
        let gone = || Status::unavailable("the data plane is stopping");
        self.calls.send(call).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}
