//! The logs of network functions, written to files by a thread of their own: a slow disk holds up
//! neither packets nor calls.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::log_files::{Disk, Files, Losses, OnDisk};
use crate::nf::Record;
use crate::node::Node;

/// Records on their way to the thread at most; more wait at the node, within its bound.
const WAITING: usize = 1024;
/// How long what is on its way is waited for at the end.
const FAREWELL: Duration = Duration::from_secs(10);

/// A record and the instance that made it.
pub(super) type Entry = (Arc<str>, Record);

/// Directories for logs by the function that writes them, as the configuration calls it.
pub type Directories = BTreeMap<&'static str, PathBuf>;

/// Writes `DIRECTORY/INSTANCE/conn.log` and the like. A file that is there already goes on. Records
/// of a function without a directory are not kept.
#[derive(Debug)]
pub struct Logs {
    entries: Option<SyncSender<Entry>>,
    /// What did not fit.
    left: Option<Entry>,
    losses: Losses,
    /// Closed when the thread ends.
    ended: Receiver<()>,
    farewell: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Starts the thread, once the directories are there.
    ///
    /// # Errors
    /// When a directory can not be made, or the system has no thread.
    pub fn start(directories: Directories) -> io::Result<Self> {
        directories.values().try_for_each(fs::create_dir_all)?;
        Self::on(OnDisk(directories), FAREWELL)
    }

    fn on(disk: impl Disk, farewell: Duration) -> io::Result<Self> {
        let (entries, taken) = sync_channel(WAITING);
        let (running, ended) = sync_channel(1);
        let losses = Losses::default();
        let files = Files::new(disk, losses.clone());
        let write = move || {
            let _running = running;
            files.write_all(&taken);
        };
        let thread = thread::Builder::new().name("weir-logs".to_owned()).spawn(write)?;
        let (entries, thread) = (Some(entries), Some(thread));
        Ok(Self { entries, left: None, losses, ended, farewell, thread })
    }

    /// Passes on what the node has, as far as there is room, and tells it of records that were lost.
    pub(super) fn take_from(&mut self, node: &mut Node) {
        for (instance, records) in self.losses.take() {
            node.lose_records(&instance, records);
        }
        self.pass_on(|| node.poll_record());
    }

    /// Whether nothing is left to pass on.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_none()
    }

    fn pass_on(&mut self, mut next: impl FnMut() -> Option<Entry>) {
        let Some(entries) = &self.entries else { return };
        while let Some(entry) = self.left.take().or_else(&mut next) {
            if let Err(TrySendError::Full(entry)) = entries.try_send(entry) {
                self.left = Some(entry);
                return;
            }
        }
    }
}

impl Drop for Logs {
    /// Waits until everything is written, for a while: a disk that does not answer must not keep
    /// the process from ending.
    fn drop(&mut self) {
        drop(self.entries.take());
        if self.ended.recv_timeout(self.farewell) == Err(RecvTimeoutError::Timeout) {
            let limit = self.farewell;
            tracing::error!(
                "logs are not written to their end: the disk did not take them within {limit:?}"
            );
            return;
        }
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that writes logs has panicked");
        }
        let lost: u64 = self.losses.take().values().sum();
        if lost > 0 {
            tracing::warn!(lost, "records of network functions were lost at the end");
        }
    }
}

#[cfg(test)]
mod tests;
