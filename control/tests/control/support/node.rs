//! A sidecar in a thread of its own, which can be killed at any moment, and clients of it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::oneshot};
use tonic::transport::{Channel, Endpoint, Uri};
use weir_api::{
    dataplane::v1::Change,
    v1::{
        GetStatusRequest, GetStatusResponse, Operation, ScaleRequest, ScaleResponse,
        WatchScaleRequest, scale_service_client::ScaleServiceClient,
        status_service_client::StatusServiceClient,
    },
};
use weir_control::{
    config::Config,
    service::serve,
    sidecar::Sidecar,
    store::{Answer, Database},
};

use super::fake::Fake;

/// How long a test waits for an event before it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A thread with a runtime; dropping it drops the runtime with everything in it.
pub(crate) struct Thread {
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Runs `job` in a thread until it is dropped; returns when `job` has said that it is ready.
pub(crate) fn run_thread<F>(job: impl FnOnce(mpsc::Sender<()>) -> F + Send + 'static) -> Thread
where
    F: Future<Output = ()>,
{
    let (kill, killed) = oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = job(ready) => {}
                _ = killed => {}
            }
        });
    });
    is_ready.recv_timeout(LIMIT).unwrap();
    Thread { kill: Some(kill), thread: Some(thread) }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.kill.take());
        let joined = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(joined.is_none_or(|joined| joined.is_ok()), "a thread panicked");
        }
    }
}

/// A directory that goes when the test ends.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-control-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A test that fails for another reason should say that one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A fake data plane, and the means to run sidecars against it.
pub(crate) struct Node {
    pub(crate) fake: Fake,
    pub(crate) directory: Directory,
    /// More lines for the configuration.
    pub(crate) scaling: String,
}

/// A sidecar that serves.
pub(crate) struct Running {
    pub(crate) socket: PathBuf,
    pub(crate) listening: Option<std::net::SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<Thread>,
}

impl Node {
    pub(crate) fn new(instances: u32) -> Self {
        let directory = Directory::new();
        let fake = Fake::start(&directory.0, instances);
        let scaling = "interval = '10ms'\nwindow = '50ms'\n".to_owned();
        Self { fake, directory, scaling }
    }

    /// The configuration file of the node; `control` is added to its `[control]` table.
    pub(crate) fn config_text(&self, control: &str) -> String {
        let root = self.directory.0.display();
        format!(
            "[scaling]\n{}\n[control]\nsocket = '{root}/control.sock'\n\
             dataplane_socket = '{}'\nstore = '{root}/store/control.db'\n{control}\n",
            self.scaling,
            self.fake.socket.display(),
        )
    }

    /// The store of its sidecars.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.0.join("store/control.db")
    }

    /// So many changes and one more are made by a sidecar, which stops; or what they begin goes on.
    pub(crate) fn many_later_changes(&self, count: u32, go_on: bool) {
        let prefix = weir_seed::any();
        let connection = rusqlite::Connection::open(self.store()).unwrap();
        connection
            .execute(
                "WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number \
                 WHERE i < ?1) INSERT INTO answer (request_id, method, request, response, goes_on) \
                 SELECT ?2 || ' ' || i, 'later', x'', x'', ?3 FROM number",
                (count, prefix.to_string(), go_on),
            )
            .unwrap();
        connection.close().unwrap();
        let last = Answer {
            request_id: prefix.to_string(),
            method: "later".to_owned(),
            request: Vec::new(),
            response: Vec::new(),
            goes_on: go_on,
            operation: 0,
            answered: true,
        };
        Database::open(&self.store()).unwrap().accept(&last).unwrap();
    }

    /// Lets no sidecar that is started from here on keep an answer, or how an operation has ended; or
    /// lets it again.
    pub(crate) fn keeps_answers(&self, keeps: bool) {
        drop(Database::open(&self.store()).unwrap());
        let connection = rusqlite::Connection::open(self.store()).unwrap();
        let sql = match keeps {
            true => "DROP TRIGGER full",
            false => {
                "CREATE TRIGGER full BEFORE UPDATE OF response ON answer \
                 BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            }
        };
        connection.execute_batch(sql).unwrap();
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with("", None)
    }

    /// Starts a sidecar that pauses operations before a step.
    pub(crate) fn start_paused(&self, step: &str) -> Running {
        self.start_with("", Some(step))
    }

    pub(crate) fn start_with(&self, control: &str, pause_at: Option<&str>) -> Running {
        let config = Config::parse(&self.config_text(control), "weir.toml").unwrap();
        let socket = config.control.socket.clone();
        let pause_at = pause_at.map(|step| step.parse().unwrap());
        let (tell, told) = mpsc::channel();
        let (stop, stops) = oneshot::channel();
        let thread = run_thread(move |ready| async move {
            let sidecar: Arc<Sidecar> = Sidecar::start(config, pause_at).await.unwrap();
            let server = serve(&sidecar).await.unwrap();
            tell.send(server.listening).unwrap();
            ready.send(()).unwrap();
            if stops.await.is_err() {
                std::future::pending::<()>().await;
            }
            sidecar.stop().await;
            server.ended().await;
        });
        let (listening, stop) = (told.recv().unwrap(), Some(stop));
        Running { socket, listening, stop, thread: Some(thread) }
    }
}

impl Running {
    /// Ends it at once, wherever it is.
    pub(crate) fn kill(mut self) {
        drop(self.thread.take());
    }

    /// Tells it to stop, as by a signal.
    pub(crate) fn stop(&mut self) {
        self.stop.take().expect("it is told once").send(()).unwrap();
    }

    /// Waits until it has stopped, which it was told to.
    pub(crate) fn ended_by_itself(mut self) {
        let thread = self.thread.as_mut().and_then(|thread| thread.thread.take());
        thread.expect("it runs").join().unwrap();
    }

    /// Runs `weir` against it.
    pub(crate) fn weir(&self, arguments: &[&str]) -> Output {
        let server = format!("unix://{}", self.socket.display());
        weir(&[&["-s", server.as_str(), "--timeout", "60s"], arguments].concat())
    }

    /// The same while something goes on, time and again.
    pub(crate) fn weir_while(&self, arguments: &[&str], mut goes_on: impl FnMut()) -> Output {
        std::thread::scope(|scope| {
            let told = scope.spawn(|| self.weir(arguments));
            while !told.is_finished() {
                goes_on();
                std::thread::yield_now();
            }
            told.join().unwrap()
        })
    }

    pub(crate) async fn channel(&self) -> Channel {
        let path = self.socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        Endpoint::from_static("http://sidecar").connect_with_connector(connector).await.unwrap()
    }

    pub(crate) async fn status(&self) -> GetStatusResponse {
        let mut client = StatusServiceClient::new(self.channel().await);
        client.get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }

    /// Asks for a number of instances and returns what the stream says, one by one.
    pub(crate) async fn begin_scale(
        &self,
        instances: u32,
        request_id: &str,
    ) -> Result<tonic::Streaming<ScaleResponse>, tonic::Status> {
        let change = Some(change(request_id));
        let mut client = ScaleServiceClient::new(self.channel().await);
        Ok(client.scale(ScaleRequest { change, instances }).await?.into_inner())
    }

    /// Asks for a number of instances and waits for the end.
    pub(crate) async fn scale(&self, instances: u32, request_id: &str) -> Operation {
        let mut stream = self.begin_scale(instances, request_id).await.unwrap();
        let mut last = None;
        while let Some(seen) = limited(stream.message()).await.unwrap() {
            last = seen.operation;
        }
        last.unwrap()
    }

    /// Waits for the end of an operation.
    pub(crate) async fn ended(&self, id: u64) -> Operation {
        self.watched(id, |operation| operation.state > 2).await
    }

    /// Waits until an operation is as wanted.
    pub(crate) async fn watched(&self, id: u64, wanted: impl Fn(&Operation) -> bool) -> Operation {
        let mut client = ScaleServiceClient::new(self.channel().await);
        let watched = client.watch_scale(WatchScaleRequest { id }).await.unwrap();
        let mut stream = watched.into_inner();
        loop {
            let seen = limited(stream.message()).await.unwrap().expect("the stream has not ended");
            let operation = seen.operation.unwrap();
            if wanted(&operation) {
                return operation;
            }
        }
    }

    /// Waits until the status is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&GetStatusResponse) -> bool) {
        limited(async {
            while !wanted(&self.status().await) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub(crate) fn change(request_id: &str) -> Change {
    Change { request_id: request_id.to_owned(), generation: 0 }
}

/// Runs `weir`.
pub(crate) fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap()
}

/// Fails the test when the event does not come.
pub(crate) async fn limited<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, event).await.expect("the event comes within the limit")
}

/// Runs an async test.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}
