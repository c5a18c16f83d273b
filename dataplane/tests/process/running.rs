//! A process of the data plane that is killed when a test ends early.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use weir_api::dataplane::v1 as api;
use weir_api::dataplane::v1::node_service_client::NodeServiceClient;

use super::BINARY;

/// Generous: the machine may be busy with other things.
const LONG: Duration = Duration::from_secs(60);

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
        Self::start_logging_to(Stdio::inherit(), folder, more)
    }

    pub(crate) fn start_logging_to(log: Stdio, folder: &Folder, more: &str) -> Self {
        let socket = folder.path("dataplane.sock");
        let text = format!(
            "[dataplane]\nsocket = '{}'\nworkers_max = 2\nhandover_ring = 64\n\
             [moves]\nhold = 64\n[memory]\nhuge_pages = 'off'\n{more}",
            socket.display(),
        );
        let config = folder.file("weir.toml", &text);
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&config).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("it says something").unwrap();
        assert_eq!(first, "ready");
        Self { child, config, socket }
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until so many packets have left and every packet is accounted for.
    pub(crate) fn until_transmitted(&self, packets: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let transmitted = async {
            let endpoint = format!("unix://{}", self.socket.display());
            let mut node = NodeServiceClient::connect(endpoint).await.unwrap();
            loop {
                let counters = node.get_counters(api::GetCountersRequest {}).await.unwrap();
                let balance = counters.into_inner().balance.unwrap();
                if balance.transmitted >= packets && balance.unaccounted == 0 {
                    break;
                }
            }
        };
        let waited = runtime.block_on(async { tokio::time::timeout(LONG, transmitted).await });
        waited.expect("all packets leave");
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
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
