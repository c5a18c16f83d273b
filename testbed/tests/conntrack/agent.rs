//! An agent in a network namespace, and what a controller does with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};
use weir_nf_api::client::{Client, Put, Query};
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::{FlowId, StateFilter};
use weir_testbed::folder::Folder;
use weir_testbed::namespace::Namespace;
use weir_testbed::process::{Process, sibling};
use weir_testbed::wait::{LIMIT, until};

/// Chunks that a test looks at, at most.
const CHUNKS_MAX: usize = 100_000;

/// The agent of a namespace. Its socket is a file, so it is asked from anywhere.
pub(crate) struct Agent {
    pub(crate) process: Process,
    client: Client,
    runtime: Runtime,
    folder: Folder,
}

impl Agent {
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let folder = Folder::new().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let process = spawn(namespace, &folder);
        let client = client(&runtime, &folder);
        Self { process, client, runtime, folder }
    }

    /// Kills it (SIGKILL) and starts another.
    pub(crate) fn kill_and_start(&mut self, namespace: &Namespace) {
        self.process.kill().unwrap();
        self.process = spawn(namespace, &self.folder);
        self.client = client(&self.runtime, &self.folder);
    }

    /// Puts chunks over and over again, and kills it (SIGKILL) once `is_time`, in the middle of that.
    /// Another is started.
    pub(crate) fn kill_while_it_takes_in(
        &mut self,
        namespace: &Namespace,
        chunks: &[Chunk],
        is_time: impl Fn() -> bool,
    ) {
        let encoded: Vec<_> = chunks.iter().map(|chunk| chunk.encode().unwrap()).collect();
        let count = encoded.len();
        let many = encoded.into_iter().cycle().take(count * 1_000);
        let path = socket(&self.folder);
        let putting = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::unix(&path, LIMIT);
                client.put_per_flow(tokio_stream::iter(many)).await
            })
        });
        until("some of it to be taken in", LIMIT, || is_time().then_some(())).unwrap();
        self.kill_and_start(namespace);
        assert!(putting.join().unwrap().is_err(), "it was killed after all was taken in");
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    /// The entries that a filter picks, in the order of their ids.
    pub(crate) fn get(&self, filter: &str) -> Vec<Chunk> {
        let query = Query::new(filter.parse::<StateFilter>().unwrap());
        let all = async {
            let chunks = self.client.get_per_flow(&query).await?;
            chunks.all(CHUNKS_MAX).await
        };
        let mut chunks = self.runtime.block_on(all).unwrap();
        chunks.sort_by(|one, two| one.id.cmp(&two.id));
        chunks
    }

    pub(crate) fn all_flows(&self) -> Vec<Chunk> {
        let all = async { self.client.get_all_flows(0).await?.all(CHUNKS_MAX).await };
        self.runtime.block_on(all).unwrap()
    }

    /// What it tells that it has counted.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let told = self.runtime.block_on(self.client.counters()).unwrap();
        told.into_iter().map(|counter| (counter.name, counter.value)).collect()
    }

    pub(crate) fn put_all_flows(&self, chunks: &[Chunk]) {
        let encoded: Vec<_> = chunks.iter().map(|chunk| chunk.encode().unwrap()).collect();
        let stream = tokio_stream::iter(encoded);
        let put = self.runtime.block_on(self.client.put_all_flows(stream)).unwrap();
        assert_eq!((put.refusal, put.taken), (None, chunks.len() as u64));
    }

    /// What comes of a put, which may be refused.
    pub(crate) fn put(&self, chunks: &[Chunk]) -> Put {
        let encoded: Vec<_> = chunks.iter().map(|chunk| chunk.encode().unwrap()).collect();
        let stream = tokio_stream::iter(encoded);
        self.runtime.block_on(self.client.put_per_flow(stream)).unwrap()
    }

    /// Puts chunks, all of which have to be taken in.
    pub(crate) fn put_all(&self, chunks: &[Chunk]) {
        let put = self.put(chunks);
        assert_eq!((put.refusal, put.taken), (None, chunks.len() as u64));
    }

    /// Deletes what chunks are about; how much there was.
    pub(crate) fn del(&self, chunks: &[Chunk]) -> u64 {
        let ids: Vec<FlowId> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
        self.runtime.block_on(self.client.del_per_flow(&ids)).unwrap().count
    }

    /// The reason with which a subscription to packets is refused.
    pub(crate) fn refuses_packets(&self) -> Option<String> {
        use weir_state_transfer::southbound::{Action, SubscriptionId};
        let any = StateFilter::default();
        let enabled = self.client.enable_events(SubscriptionId(1), &any, Action::Drop, 0);
        self.runtime.block_on(enabled).err()?.reason().map(str::to_owned)
    }
}

/// Chunks without what time changes: what they are about, their versions and their bodies.
pub(crate) fn lasting(chunks: &[Chunk]) -> Vec<(FlowId, Scope, u64, Vec<u8>)> {
    let lasting =
        |chunk: &Chunk| (chunk.id.clone(), chunk.scope, chunk.version, chunk.body.clone());
    chunks.iter().map(lasting).collect()
}

fn client(runtime: &Runtime, folder: &Folder) -> Client {
    let _within = runtime.enter();
    Client::unix(&socket(folder), LIMIT)
}

fn socket(folder: &Folder) -> PathBuf {
    folder.path().join("ct.sock")
}

fn spawn(namespace: &Namespace, folder: &Folder) -> Process {
    let path = socket(folder);
    let mut command = namespace.command(sibling("weir-nf-conntrack").unwrap());
    command.arg("--set-accounting").arg("--socket").arg(&path);
    let mut process =
        Process::spawn("weir-nf-conntrack", &command, &folder.path().join("ct.log")).unwrap();
    process.wait_for_socket(&path, LIMIT).unwrap();
    process
}
