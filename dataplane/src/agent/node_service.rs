//! `weir.dataplane.v1.NodeService`.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;

/// Serves facts, counters and changes of the process.
#[derive(Debug)]
pub(super) struct NodeService(pub(super) NodeHandle);

/// Messages that wait for a watcher; while there is no room, changes become one.
const BACKLOG: usize = 1;

#[tonic::async_trait]
impl api::node_service_server::NodeService for NodeService {
    async fn get_node(
        &self,
        _request: Request<api::GetNodeRequest>,
    ) -> Result<Response<api::GetNodeResponse>, Status> {
        self.0.read(|node, now| node.show(now)).await.map(Response::new)
    }

    async fn get_counters(
        &self,
        _request: Request<api::GetCountersRequest>,
    ) -> Result<Response<api::GetCountersResponse>, Status> {
        self.0.read(|node, _| node.counters()).await.map(Response::new)
    }

    type WatchNodeStream = ReceiverStream<Result<api::WatchNodeResponse, Status>>;

    async fn watch_node(
        &self,
        request: Request<api::WatchNodeRequest>,
    ) -> Result<Response<Self::WatchNodeStream>, Status> {
        let (to, stream) = mpsc::channel(BACKLOG);
        tokio::spawn(watch(self.0.clone(), request.into_inner().move_request_prefix, to));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Sends what the node shows each time that a state or phase in it has changed, until nobody
/// watches any more.
async fn watch(
    node: NodeHandle,
    prefix: String,
    to: mpsc::Sender<Result<api::WatchNodeResponse, Status>>,
) {
    let mut changes = node.changes();
    let mut sent = None;
    loop {
        let Ok(room) = to.reserve().await else { return };
        changes.mark_unchanged();
        let prefix = prefix.clone();
        match node.read(move |node, _| node.show_states(&prefix)).await {
            Ok(shown) if sent.as_ref() != Some(&states(&shown)) => {
                sent = Some(states(&shown));
                room.send(Ok(shown));
            }
            Ok(_) => drop(room),
            Err(error) => return room.send(Err(error)),
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = to.closed() => return,
        }
    }
}

/// What a watcher is told the changes of: the states of instances and the phases of moves.
type States = (Vec<(u32, i32)>, Vec<(u64, i32)>);

fn states(shown: &api::WatchNodeResponse) -> States {
    let instances = shown.instances.iter().map(|instance| (instance.id, instance.state));
    let moves = shown.moves.iter().map(|shown| (shown.id, shown.phase));
    (instances.collect(), moves.collect())
}
