//! A process of the data plane that is killed when a test ends early.

use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tonic::transport::{Channel, Endpoint};
use weir_api::dataplane::v1 as api;
use weir_api::dataplane::v1::fault_service_client::FaultServiceClient;
use weir_api::dataplane::v1::node_service_client::NodeServiceClient;
use weir_api::dataplane::v1::worker_service_client::WorkerServiceClient;

use super::BINARY;

/// Generous: the machine may be busy with other things.
const LONG: Duration = Duration::from_secs(60);
/// Bytes of the smallest pipe.
const PAGE: usize = 4096;

/// A folder that goes when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let name = format!("weir-process-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that has said that it is ready.
pub(crate) struct Running {
    child: Child,
    config: PathBuf,
    socket: PathBuf,
}

impl Running {
    pub(crate) fn start(folder: &Folder, more: &str) -> Self {
        Self::start_as(folder, more, |_| {})
    }

    /// One whose command is changed before.
    pub(crate) fn start_as(folder: &Folder, more: &str, change: impl FnOnce(&mut Command)) -> Self {
        let socket = folder.path("dataplane.sock");
        let text = format!(
            "[dataplane]\nsocket = '{}'\nworkers_max = 2\nhandover_ring = 64\n\
             [moves]\nhold = 64\n[memory]\nhuge_pages = 'off'\n{more}",
            socket.display(),
        );
        let config = folder.file("weir.toml", &text);
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&config).stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let running = Self { child, config, socket };
        until_readable(out.as_fd(), "what it says");
        let first = BufReader::new(out).lines().next().expect("it says something").unwrap();
        assert_eq!(first, "ready");
        running
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until so many packets have left and every packet is accounted for.
    pub(crate) fn until_transmitted(&self, packets: u64) {
        self.wait(async |channel| {
            let mut node = NodeServiceClient::new(channel);
            loop {
                let counters = node.get_counters(api::GetCountersRequest {}).await.unwrap();
                let balance = counters.into_inner().balance.unwrap();
                if balance.transmitted >= packets && balance.unaccounted == 0 {
                    break;
                }
            }
        });
    }

    /// Lets worker 0 panic, and waits until it goes on; it was started with `--faults`.
    pub(crate) fn let_a_worker_panic(&self) {
        self.wait(async |channel| {
            let panic = api::PanicWorkerRequest { worker: 0, after_packets: 0, stage: 0 };
            FaultServiceClient::new(channel.clone()).panic_worker(panic).await.unwrap();
            let mut workers = WorkerServiceClient::new(channel);
            loop {
                let listed = workers.list_workers(api::ListWorkersRequest {}).await.unwrap();
                if listed.into_inner().workers[0].restarts == 1 {
                    break;
                }
            }
        });
    }

    fn wait(&self, event: impl AsyncFnOnce(Channel)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::try_from(format!("unix://{}", self.socket.display())).unwrap();
        let event = async { event(endpoint.connect().await.unwrap()).await };
        let waited = runtime.block_on(async { tokio::time::timeout(LONG, event).await });
        waited.expect("the event comes within the limit");
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        let ended = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, signal).unwrap();
        until_readable(ended.as_fd(), "its end");
        let status = self.child.wait().unwrap();
        assert!(status.signal().is_none_or(|by| by == signal.as_raw()), "{status}");
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A pipe of one page that nobody reads, for a log to be written to.
pub(crate) fn unread_pipe() -> (PipeReader, Stdio) {
    let (unread, written) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&written, PAGE).unwrap();
    (unread, written.into())
}

/// Whether no further line fits.
pub(crate) fn is_full(unread: &PipeReader) -> bool {
    rustix::io::ioctl_fionread(unread).unwrap() as usize > PAGE - 1024
}

fn until_readable(descriptor: BorrowedFd<'_>, what: &str) {
    let limit = Timespec { tv_sec: LONG.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&limit));
    assert_eq!(ready, Ok(1), "{what} does not come");
}
