//! A counting function on a thread of its own, served over a socket of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::{Builder, Runtime};
use weir_api::socket::Socket;
use weir_nf_api::Description;
use weir_nf_api::client::Client;
use weir_nf_api::server::{self, Desk, Service};
use weir_state_transfer::FlowKey;
use weir_state_transfer::id::ServiceId;
use weir_state_transfer::time::Nanos;

use crate::counting::{Counting, KINDS, Packet};

/// Generous: the machine may be busy with other things.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// How long the thread sleeps between bursts of packets.
const TICK: Duration = Duration::from_millis(1);
/// Packets of one burst.
const BURST: usize = 16;

/// A place in the file system that goes when the test ends.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("weir-nf-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("nf.sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// What its thread does besides serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Nothing.
    #[default]
    None,
    /// It counts packets of some flows, again and again.
    Always,
}

/// A function that is served until this is dropped.
pub(crate) struct Running {
    pub(crate) place: Place,
    /// Times that its thread has looked whether there is something to serve.
    pub(crate) turns: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Counting>>,
    /// What serves the socket, apart from what asks.
    server: Option<Runtime>,
}

impl Running {
    /// Serves a function as it is.
    pub(crate) fn plain(function: Counting, traffic: Traffic) -> Self {
        let (calls, desk, wake) = ends();
        Self::start(function, traffic, (desk, wake), |socket| async move {
            server::serve(calls, &socket, std::future::pending()).await.expect("it is served");
        })
    }

    /// Runs a function, and what serves a socket for it.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        function: Counting,
        traffic: Traffic,
        (desk, wake): (Desk, Wake),
        serve: impl FnOnce(Socket) -> F,
    ) -> Self {
        let place = Place::new();
        let server = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let server = server.expect("a runtime");
        let within = server.enter();
        let socket = Socket::bind(&place.socket()).expect("a socket");
        server.spawn(serve(socket));
        drop(within);
        let (stop, turns) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&turns));
        let thread = thread::spawn(move || run(function, desk, traffic, &stopped, &counted));
        *wake.lock().expect("nobody panics here") = Some(thread.thread().clone());
        Self { place, turns, stop, thread: Some(thread), server: Some(server) }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::unix(&self.place.socket(), LONG)
    }

    /// Ends its thread, and gives the function.
    pub(crate) fn stop_thread(&mut self) -> Counting {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.thread().unpark();
        thread.join().expect("it has not panicked")
    }

    /// Ends what serves the socket, as the death of a process does.
    pub(crate) fn stop_serving(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_serving();
        if self.thread.is_some() {
            drop(self.stop_thread());
        }
    }
}

/// Whom to wake.
pub(crate) type Wake = Arc<std::sync::Mutex<Option<Thread>>>;

/// Both ends of a server, and whom they wake.
pub(crate) fn ends() -> (Service, Desk, Wake) {
    let wake = Wake::default();
    let thread = Arc::clone(&wake);
    let description = Description {
        common_versions: true,
        ..Description::new("counting", env!("CARGO_PKG_VERSION"), &KINDS)
    };
    let (service, desk) = server::pair(description, move || {
        if let Some(thread) = &*thread.lock().expect("nobody panics here") {
            thread.unpark();
        }
    });
    (service, desk, wake)
}

/// The loop of its thread: packets, and between them what it is asked.
fn run(
    mut function: Counting,
    mut desk: Desk,
    traffic: Traffic,
    stop: &AtomicBool,
    turns: &AtomicU64,
) -> Counting {
    let mut rng = Rng::with_seed(7);
    let mut now = 0;
    while !stop.load(Ordering::Relaxed) {
        while desk.serve(&mut function) > 0 {}
        turns.fetch_add(1, Ordering::Relaxed);
        match traffic {
            Traffic::None => thread::park_timeout(Duration::from_millis(50)),
            Traffic::Always => {
                for _ in 0..BURST {
                    now += 1;
                    function.packet(packet(&mut rng), Nanos(now));
                }
                thread::park_timeout(TICK);
            }
        }
    }
    function
}

/// A packet of some flow.
pub(crate) fn packet(rng: &mut Rng) -> Packet {
    let (src, dst) = ([10, 0, rng.u8(0..2), rng.u8(1..5)], [192, 168, rng.u8(0..2), 1]);
    let (protocol, ports) =
        if rng.u8(..8) == 0 { (1, (0, 0)) } else { (6, (rng.u16(1000..1004), 80)) };
    let key = FlowKey::v4(src.into(), dst.into(), ports, protocol, ServiceId(0));
    let key = if rng.bool() { key } else { key.reversed() };
    Packet { key, bytes: vec![rng.u8(..); rng.usize(40..1500)] }
}
