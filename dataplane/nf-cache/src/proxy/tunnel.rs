//! Tunnels: bytes in both directions, until one end has had enough or nothing comes for too long.

use std::rc::Rc;

use http::request::Parts;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tracing::debug;

use super::body::Answer;
use super::destination::connect_to;
use super::refusal::Refusal;
use crate::clock;
use crate::connection::{Connection, over};
use crate::statistics::Figure;

/// Opens a tunnel, which begins behind the answer.
pub(crate) async fn tunnel(
    connection: &Rc<Connection>,
    parts: Parts,
    to: (String, u16),
) -> Result<Response<Answer>, Refusal> {
    let settings = &connection.proxy.settings;
    if !settings.connect_ports.contains(&to.1) {
        return Err(Refusal::ConnectPort);
    }
    let mut origin = connect_to(&to, settings).await?;
    connection.held.activity.tunnel(clock::now());
    connection.shared().with(|cache| cache.count(Figure::Tunnels, 1));
    let upgrade = hyper::upgrade::on(Request::from_parts(parts, ()));
    let connection = Rc::clone(connection);
    tokio::task::spawn_local(async move {
        if let Ok(client) = upgrade.await {
            let mut client = TokioIo::new(client);
            tokio::select! {
                ended = copy_bidirectional(&mut client, &mut origin) => {
                    debug!(client = %connection.client(), "tunnel: {ended:?}");
                }
                () = over(&connection.held.activity, &connection.proxy.settings.limits) => {
                    connection.shared().with(|cache| cache.count(Figure::TimedOut, 1));
                }
            }
        }
        connection.shared().with(|cache| cache.connections.remove(connection.number));
    });
    Ok(Response::new(Answer::empty()))
}
