//! The logs of network functions, written to files by a thread of their own: a slow disk holds up
//! neither packets nor calls.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use crate::nf::{Log, Record};
use crate::node::Node;

/// Records on their way to the thread at most; more wait at the node, within its bound.
const WAITING: usize = 1024;

/// A record and the instance that made it.
type Entry = (Arc<str>, Record);

/// Directories for logs by the function that writes them, as the configuration calls it.
pub type Directories = BTreeMap<&'static str, PathBuf>;

/// Writes `DIRECTORY/INSTANCE/conn.log` and the like. A file that is there already goes on. Records
/// of a function without a directory are not kept.
#[derive(Debug)]
pub struct Logs {
    entries: Option<SyncSender<Entry>>,
    /// What did not fit.
    left: Option<Entry>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Starts the thread, once the directories are there.
    ///
    /// # Errors
    /// When a directory can not be made, or the system has no thread.
    pub fn start(directories: Directories) -> io::Result<Self> {
        directories.values().try_for_each(fs::create_dir_all)?;
        let (entries, taken) = sync_channel(WAITING);
        let write = move || Files::new(directories).write_all(&taken);
        let thread = thread::Builder::new().name("weir-logs".to_owned()).spawn(write)?;
        Ok(Self { entries: Some(entries), left: None, thread: Some(thread) })
    }

    /// Passes on what the node has, as far as there is room.
    pub(super) fn take_from(&mut self, node: &mut Node) {
        let Some(entries) = &self.entries else { return };
        while let Some(entry) = self.left.take().or_else(|| node.poll_record()) {
            if let Err(TrySendError::Full(entry)) = entries.try_send(entry) {
                self.left = Some(entry);
                return;
            }
        }
    }

    /// Whether nothing is left to pass on.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_none()
    }
}

impl Drop for Logs {
    /// Waits until everything is written.
    fn drop(&mut self) {
        drop(self.entries.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that writes logs has panicked");
        }
    }
}

/// The files that are open.
struct Files {
    directories: Directories,
    files: BTreeMap<(Arc<str>, Log), BufWriter<File>>,
    /// Whether the last attempt failed: of many in a row the first is told.
    failing: bool,
}

impl Files {
    fn new(directories: Directories) -> Self {
        Self { directories, files: BTreeMap::new(), failing: false }
    }

    fn write_all(mut self, entries: &Receiver<Entry>) {
        loop {
            let entry = match entries.try_recv() {
                Ok(entry) => entry,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let flushed = self.flush();
                    self.note(flushed);
                    match entries.recv() {
                        Ok(entry) => entry,
                        Err(_) => break,
                    }
                }
            };
            // Into memory, mostly: only what was flushed says that the disk takes it.
            if let Err(error) = self.write(entry) {
                self.note(Err(error));
            }
        }
        let flushed = self.flush();
        self.note(flushed);
    }

    fn write(&mut self, (instance, record): Entry) -> io::Result<()> {
        let log = record.log();
        let Some(directory) = self.directories.get(log.function()) else { return Ok(()) };
        let file = match self.files.entry((instance, log)) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let file = open(directory, &place.key().0, log)?;
                place.insert(BufWriter::new(file))
            }
        };
        file.write_all(record.line().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.files.values_mut().try_for_each(BufWriter::flush)
    }

    fn note(&mut self, done: io::Result<()>) {
        match done {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let directories = self.directories.values();
                    let directories: Vec<_> = directories.map(|path| path.display()).collect();
                    tracing::warn!(%error, ?directories, "records of network functions are lost");
                }
                // What could not be written must not be tried for ever.
                self.files.clear();
            }
        }
    }
}

/// Opens a log to go on at its end; a new one has its header first.
fn open(directory: &Path, instance: &str, log: Log) -> io::Result<File> {
    let directory = directory.join(instance);
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{}.log", log.path()));
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() == 0 {
        file.write_all(log.header().as_bytes())?;
    }
    Ok(file)
}
