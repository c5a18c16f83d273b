//! Streams of what the node shows of something, each time that it has changed.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::NodeHandle;
use crate::node::{Node, NodeError};

/// What the node shows of something that can be watched.
pub(super) trait Watched: Sized + Send + 'static {
    /// What it is shown of.
    type Of: Clone + Send + Sync + 'static;
    /// What has changed when a watcher is told again.
    type Step: PartialEq + Send;
    /// The message to a watcher.
    type Message: Send + 'static;
    /// Messages that wait for their watcher; while there is no room, changes become one.
    const BACKLOG: usize = 16;

    /// As it is now.
    fn show(node: &Node, of: &Self::Of) -> Result<Self, NodeError>;
    fn step(&self) -> Self::Step;
    /// Whether nothing more comes.
    fn is_last(&self) -> bool;
    fn message(self) -> Self::Message;
}

pub(super) type Watching<T> = ReceiverStream<Result<<T as Watched>::Message, Status>>;

/// Sends what is shown each time that its step has changed, and ends with the last one or when nobody
/// watches any more. Steps that pass while the node is not looked at are not seen.
///
/// # Errors
///
/// When it is not there.
pub(super) async fn watch<T: Watched>(
    node: &NodeHandle,
    of: T::Of,
) -> Result<Response<Watching<T>>, Status> {
    let first: T = look(node, &of).await?;
    let (to, stream) = mpsc::channel(T::BACKLOG);
    tokio::spawn(tell(node.clone(), of, first, to));
    Ok(Response::new(ReceiverStream::new(stream)))
}

/// The last that there is to see, when it has come.
///
/// # Errors
///
/// When it is not there, or not any more, and when the process is about to end.
pub(super) async fn last<T: Watched>(node: &NodeHandle, of: T::Of) -> Result<T, Status> {
    let mut changes = node.changes();
    loop {
        changes.mark_unchanged();
        let shown: T = look(node, &of).await?;
        if shown.is_last() {
            return Ok(shown);
        }
        let gone = |_| Status::unavailable("the data plane is stopping");
        changes.changed().await.map_err(gone)?;
    }
}

async fn look<T: Watched>(node: &NodeHandle, of: &T::Of) -> Result<T, Status> {
    let of = of.clone();
    Ok(node.read(move |node, _| T::show(node, &of)).await??)
}

async fn tell<T: Watched>(
    node: NodeHandle,
    of: T::Of,
    first: T,
    to: mpsc::Sender<Result<T::Message, Status>>,
) {
    let mut changes = node.changes();
    let (mut told, mut next) = (None, Some(first));
    loop {
        let Ok(room) = to.reserve().await else { return };
        if let Some(shown) = next.take() {
            let is_last = shown.is_last();
            told = Some(shown.step());
            room.send(Ok(shown.message()));
            if is_last {
                return;
            }
            continue;
        }
        changes.mark_unchanged();
        match look::<T>(&node, &of).await {
            Ok(shown) if told.as_ref() != Some(&shown.step()) => {
                next = Some(shown);
                continue;
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
