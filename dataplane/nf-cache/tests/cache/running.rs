//! A proxy on a thread of its own, and a peer that asks for its state.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use weir_nf_api::client::{Client as Api, Deleted, Put, Query};
use weir_nf_cache::{Figure, RunError, Settings, Statistics, run};
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::flow_id::FlowId;

use crate::client::{Client, LONG};

/// A place in the file system that goes when the test ends.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-nf-cache-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("nf.sock")
    }

    /// Where a process logs.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

/// A proxy that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Running {
    /// A proxy with bounds of its own. Origins of tests are on this machine.
    pub(crate) fn start(instance: u32, change: impl FnOnce(&mut Settings)) -> Self {
        let place = Place::new();
        let mut settings = Settings::new(([127, 0, 0, 1], 0).into());
        (settings.instance, settings.southbound) = (instance, Some(place.socket()));
        settings.to_local = true;
        change(&mut settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            let told = |address| ready.send(address).expect("it is waited for");
            run(settings, told, async { drop(stopped.await) })
        });
        let address = is_ready.recv().expect("it starts");
        Self { address, place, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn plain(instance: u32) -> Self {
        Self::start(instance, |_| {})
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A client at one of many addresses of this machine.
    pub(crate) fn client_from(&self, last: u8) -> Client {
        Client::from([127, 0, 0, last], self.address)
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::of(&self.place)
    }

    /// Asks it to stop, and does not wait.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has stopped.
    pub(crate) fn stopped(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it has not panicked").expect("it has run");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().expect("it has not panicked").expect("it has run");
        }
    }
}

/// Who asks a proxy for its state.
pub(crate) struct Peer {
    runtime: Runtime,
    pub(crate) api: Api,
}

impl Peer {
    pub(crate) fn of(place: &Place) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let within = runtime.enter();
        let api = Api::unix(&place.socket(), LONG);
        drop(within);
        Self { runtime, api }
    }

    /// Waits for something.
    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// What asks for all that overlaps with what a filter names.
    pub(crate) fn query(filter: &str) -> Query {
        Query::new(filter.parse().expect("a filter"))
    }

    /// The state that a filter picks.
    pub(crate) fn get(&self, scope: Scope, filter: &str) -> Vec<Chunk> {
        let query = Self::query(filter);
        self.wait(async {
            let got = match scope {
                Scope::PerFlow => self.api.get_per_flow(&query).await,
                Scope::MultiFlow => self.api.get_multi_flow(&query).await,
                Scope::AllFlows => self.api.get_all_flows(0).await,
            };
            got.expect("a get").all(100_000).await.expect("all of it")
        })
    }

    pub(crate) fn put(&self, scope: Scope, chunks: &[Chunk]) -> Put {
        let bytes: Vec<_> = chunks.iter().map(|chunk| chunk.encode().expect("bytes")).collect();
        let bytes = tokio_stream::iter(bytes);
        self.wait(async {
            let put = match scope {
                Scope::PerFlow => self.api.put_per_flow(bytes).await,
                Scope::MultiFlow => self.api.put_multi_flow(bytes).await,
                Scope::AllFlows => self.api.put_all_flows(bytes).await,
            };
            put.expect("a put")
        })
    }

    pub(crate) fn put_all(&self, scope: Scope, chunks: &[Chunk]) {
        assert_eq!(self.put(scope, chunks), Put { taken: chunks.len() as u64, refusal: None });
    }

    pub(crate) fn del_objects(&self, ids: &[FlowId]) -> u64 {
        self.wait(async { self.api.del_multi_flow(ids).await.expect("a deletion").count })
    }

    pub(crate) fn del_connections(&self, ids: &[FlowId]) -> Deleted {
        self.wait(async { self.api.del_per_flow(ids).await.expect("a deletion") })
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let chunks = self.get(Scope::AllFlows, "any");
        Statistics::of_chunk(&chunks[0]).expect("statistics")
    }

    pub(crate) fn figure(&self, figure: Figure) -> u64 {
        self.statistics().value(figure)
    }

    /// A counter of this process, 0 where it tells none of that name.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.wait(counter(&self.api, name))
    }

    /// Waits until a counter of this process is so great.
    pub(crate) fn counts(&self, name: &str, count: u64) {
        self.until(&async |api: &Api| counter(api, name).await >= count);
    }

    /// Waits until a figure is so great.
    pub(crate) fn reaches(&self, figure: Figure, count: u64) {
        self.until(&async |api: &Api| {
            let chunks =
                api.get_all_flows(0).await.expect("a get").all(1).await.expect("all of it");
            Statistics::of_chunk(&chunks[0]).expect("statistics").value(figure) >= count
        });
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, is: &impl AsyncFn(&Api) -> bool) {
        let is_so = async {
            while !is(&self.api).await {
                tokio::task::yield_now().await;
            }
        };
        self.wait(async { tokio::time::timeout(LONG, is_so).await.expect("it becomes so") });
    }
}

async fn counter(api: &Api, name: &str) -> u64 {
    let told = api.counters().await.expect("counters");
    told.into_iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
}
