//! The driver: accepts connections, serves peers between two steps, and stops in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tracing::{info, warn};
use weir_api::socket::{Socket, SocketError};
use weir_nf_api::Description;
use weir_nf_api::server::{self, Desk, Service};
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::Southbound as _;

use crate::cache::{Cache, Held, Shared};
use crate::clock;
use crate::connection::{Activity, repair, serve};
use crate::kinds::FIELDS;
use crate::proxy::Proxy;
use crate::settings::{Settings, SettingsError};
use crate::statistics::Figure;

/// How long answers may take that are under way when it is to stop.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long to wait when a connection can not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What it is told can not be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// It can not listen for clients.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The southbound API can not be served.
    #[error(transparent)]
    Southbound(#[from] SocketError),
    /// The system gives no number to tell this process from others.
    #[error("the system gives no random number: {0}")]
    Random(#[from] getrandom::Error),
    /// The system refuses a thread or what it needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs a proxy on this thread until `stop` comes, and then finishes what it is asked, for 10 s at
/// most. `ready` gets the address that clients can connect to.
///
/// # Errors
/// When it can not be started.
pub fn run(
    settings: Settings,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    settings.check()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async move {
        let address = settings.listen;
        let listen = |source| RunError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let wake = Arc::new(Notify::new());
        let incarnation = getrandom::u64()?;
        let replica = Replica { instance: settings.instance, incarnation };
        let cache = Cache::new(settings.limits, replica, repair::is_permitted(), Arc::clone(&wake));
        let (desk, peers) = southbound(&settings, &cache, &wake)?;
        let name = format!("weir-cache-{}", settings.instance);
        let proxy = Rc::new(Proxy { shared: Shared::new(cache), settings, name });
        info!(%bound, "clients can connect");
        ready(bound);
        let (stopping, stopped) = watch::channel(false);
        let mut driver = Driver { proxy, desk, wake, tasks: JoinSet::new(), stopped };
        driver.accept(listener, stop).await;
        // Nobody hears of it who has ended already.
        let _told = stopping.send(true);
        driver.finish().await;
        peers.end();
        Ok(())
    })
}

/// What runs on the thread of the proxy.
struct Driver {
    proxy: Rc<Proxy>,
    desk: Desk,
    wake: Arc<Notify>,
    tasks: JoinSet<()>,
    stopped: watch::Receiver<bool>,
}

impl Driver {
    async fn accept(&mut self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let wake = Arc::clone(&self.wake);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = wake.notified() => self.serve_peers(),
                Some(_) = self.tasks.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer),
                    Err(error) => {
                        warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                }
            }
        }
    }

    /// Waits for what is under way.
    async fn finish(&mut self) {
        let wake = Arc::clone(&self.wake);
        let mut over = std::pin::pin!(tokio::time::sleep(FAREWELL));
        loop {
            tokio::select! {
                () = &mut over => {
                    warn!("{} connections are cut off", self.tasks.len());
                    return;
                }
                () = wake.notified() => self.serve_peers(),
                ended = self.tasks.join_next() => if ended.is_none() {
                    return;
                }
            }
        }
    }

    /// A client has connected.
    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        let (shared, client) = (&self.proxy.shared, peer.ip().to_canonical());
        if let Err((reason, detail)) = self.admit(client) {
            self.proxy.refuses(client, reason, &detail);
            return shared.with(|cache| cache.count(Figure::ConnectionsRefused, 1));
        }
        let own = stream.local_addr().ok().filter(|_| stream.set_nodelay(true).is_ok());
        let activity = Activity::fresh(clock::now());
        match own.and_then(|own| Held::new(stream, peer, own, activity)) {
            Some(held) => {
                let number = shared.with(|cache| cache.connections.add(held.clone()));
                self.serve(number, held);
            }
            // It has ended by itself.
            None => shared.with(|cache| cache.count(Figure::ConnectionsRefused, 1)),
        }
    }

    /// Whether a client may have one more connection; if not, the name of the reason, and what it is
    /// to people.
    fn admit(&self, client: IpAddr) -> Result<(), (&'static str, &'static str)> {
        let Proxy { shared, settings, .. } = &*self.proxy;
        let most = settings.limits.connections;
        if !settings.lets_in(client) {
            Err(("client", "a connection of a client that is in no network of --client"))
        } else if shared.with(|cache| cache.connections.len() >= most) {
            Err(("connections", "a connection, as there are as many as --connections"))
        } else {
            Ok(())
        }
    }

    fn serve(&mut self, number: u64, held: Held) {
        let task = serve(Rc::clone(&self.proxy), number, held, self.stopped.clone());
        self.tasks.spawn_local(task);
    }

    /// Does what peers ask, a bounded piece of it.
    fn serve_peers(&mut self) {
        let (calls, adopted) = self.proxy.shared.with(|cache| {
            let calls = self.desk.serve(cache);
            (calls, cache.connections.take_adopted())
        });
        for (number, held) in adopted {
            self.serve(number, held);
        }
        if calls > 0 {
            self.wake.notify_one();
        }
    }
}

/// The thread that speaks to peers, if any.
struct Peers(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Peers {
    fn end(self) {
        if let Some((leave, thread)) = self.0 {
            drop(leave);
            // A panic there has been shown, and is no reason for another.
            let _ended = thread.join();
        }
    }
}

/// Begins to serve the southbound API, where it is asked for.
fn southbound(
    settings: &Settings,
    cache: &Cache,
    wake: &Arc<Notify>,
) -> Result<(Desk, Peers), RunError> {
    let description = Description {
        fields: FIELDS.map(str::to_owned).into(),
        common_versions: true,
        ..Description::new("cache", env!("CARGO_PKG_VERSION"), cache.kinds())
    };
    let waker = Arc::clone(wake);
    let (service, desk) = server::pair(description, move || waker.notify_one());
    let Some(path) = settings.southbound.clone() else { return Ok((desk, Peers(None))) };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (leave, left) = oneshot::channel::<()>();
    let (bound, is_bound) = mpsc::channel();
    let thread = thread::Builder::new().name("southbound".into()).spawn(move || {
        runtime.block_on(async move {
            match Socket::bind(&path) {
                Ok(socket) => {
                    let _told = bound.send(Ok(()));
                    peers(service, &socket, left).await;
                }
                Err(error) => {
                    let _told = bound.send(Err(error));
                }
            }
        });
    })?;
    is_bound.recv().map_err(io::Error::other)??;
    Ok((desk, Peers(Some((leave, thread)))))
}

async fn peers(service: Service, socket: &Socket, left: oneshot::Receiver<()>) {
    let stop = async {
        // The sender is dropped on every way out: that is the signal too.
        let _left = left.await;
    };
    if let Err(error) = server::serve(service, socket, stop).await {
        warn!("peers are not served any more: {error}");
    }
}
