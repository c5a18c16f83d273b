//! The files of logs: whole lines in each, whatever becomes of the disk.

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::logs::{Directories, Entry};
use crate::nf::{Log, Timestamp};

/// Where the files are.
pub(super) trait Disk: Send + 'static {
    /// A file on it.
    type File: Storage;

    /// Whether a log is kept.
    fn has(&self, log: Log) -> bool;

    /// Opens the log of an instance, to go on at its end.
    fn open(&mut self, instance: &str, log: Log) -> io::Result<Self::File>;

    /// The time of day, by which files are dated.
    fn now(&self) -> Timestamp;
}

/// A file, of which writing appends to its end.
pub(super) trait Storage: Read + Write + Seek + Send {
    /// Cuts off what is behind so many bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// `DIRECTORY/INSTANCE/conn.log` and the like, in the directory of the function that a log is of.
#[derive(Debug)]
pub(super) struct OnDisk(pub(super) Directories);

impl Disk for OnDisk {
    type File = File;

    fn has(&self, log: Log) -> bool {
        self.0.contains_key(log.function())
    }

    fn open(&mut self, instance: &str, log: Log) -> io::Result<File> {
        let directory = self.0.get(log.function()).ok_or(io::ErrorKind::NotFound)?;
        let directory = directory.join(instance);
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{}.log", log.path()));
        OpenOptions::new().create(true).read(true).append(true).open(path)
    }

    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the driver of the files")]
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(day.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Storage for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Records that were lost, by their instances, until somebody takes the numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(pub(super) Arc<Mutex<BTreeMap<Arc<str>, u64>>>);

impl Losses {
    /// Takes the numbers of those that were lost since the last time.
    pub(super) fn take(&self) -> BTreeMap<Arc<str>, u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, instance: &Arc<str>, records: u64) {
        if records > 0 {
            let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *lost.entry(instance.clone()).or_default() += records;
        }
    }
}

/// A log of an instance.
type Name = (Arc<str>, Log);

/// The logs that this process writes.
pub(super) struct Files<D: Disk> {
    disk: D,
    /// Those that are open.
    files: BTreeMap<Name, Lines<D::File>>,
    /// Those that have a header of this process and no end yet: what is open, and more.
    begun: BTreeSet<Name>,
    losses: Losses,
    /// Whether the last attempt failed: of many in a row the first is told.
    failing: bool,
}

/// Files that are open at one time, at most.
pub(super) const FILES_MAX: usize = 128;
/// Logs that have begun and not ended, at most: four times as many as instances may have at a time.
pub(super) const BEGUN_MAX: usize = 4096;
/// Bytes of lines that are gathered before they are written.
const GATHERED: usize = 8 << 10;

impl<D: Disk> Files<D> {
    pub(super) fn new(disk: D, losses: Losses) -> Self {
        let (files, begun) = (BTreeMap::new(), BTreeSet::new());
        Self { disk, files, begun, losses, failing: false }
    }

    /// Writes what comes until nothing comes any more, and ends the logs.
    pub(super) fn write_all(mut self, entries: &Receiver<Entry>) {
        loop {
            let entry = match entries.try_recv() {
                Ok(entry) => entry,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    match entries.recv() {
                        Ok(entry) => entry,
                        Err(_) => break,
                    }
                }
            };
            self.write(entry);
        }
        self.end();
    }

    fn write(&mut self, (instance, record): Entry) {
        if !self.disk.has(record.log()) {
            return;
        }
        let name = (instance, record.log());
        if self.begun.len() >= BEGUN_MAX && !self.begun.contains(&name) {
            // Most are of instances that are gone; those that go on begin anew.
            self.end();
        }
        if self.files.len() >= FILES_MAX && !self.files.contains_key(&name) {
            // Instances that are gone may be among them; the others are opened again.
            self.flush();
            self.files.clear();
        }
        let lines = match self.files.entry(name.clone()) {
            Place::Occupied(lines) => lines.into_mut(),
            Place::Vacant(place) => match open(&mut self.disk, &mut self.begun, &name) {
                Ok(lines) => place.insert(lines),
                Err(error) => {
                    self.losses.add(&name.0, 1);
                    self.failed(&error);
                    return;
                }
            },
        };
        lines.push(&record.line());
        if lines.gathered.len() >= GATHERED
            && let Err((lost, error)) = lines.flush()
        {
            self.files.remove(&name);
            self.losses.add(&name.0, lost);
            self.failed(&error);
        }
    }

    /// Ends all logs that have begun.
    fn end(&mut self) {
        self.flush();
        let footer = Log::footer(self.disk.now());
        while let Some(name) = self.begun.first().cloned() {
            let lines = match self.files.remove(&name) {
                Some(lines) => Ok(lines),
                None => open(&mut self.disk, &mut self.begun, &name),
            };
            // One that has no room for it ends as one does whose process was killed.
            if let Ok(mut lines) = lines {
                lines.push(&footer);
                let _ended = lines.flush();
            }
            self.begun.remove(&name);
        }
    }

    /// Writes what has been gathered. What can not be written is lost, so that it is not tried for
    /// ever; its file is mended when it is opened again.
    fn flush(&mut self) {
        let mut failure = None;
        let losses = &self.losses;
        self.files.retain(|(instance, _), lines| match lines.flush() {
            Ok(()) => true,
            Err((lost, error)) => {
                losses.add(instance, lost);
                failure = Some(error);
                false
            }
        });
        match failure {
            Some(error) => self.failed(&error),
            // Only what was written says that the disk takes it.
            None if !self.files.is_empty() => self.failing = false,
            None => {}
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%error, "records of network functions are lost");
        }
    }
}

/// Opens a log, to go on with it. It has a header then: this process gives each one, as the lines
/// that are there may have other fields.
fn open<D: Disk>(
    disk: &mut D,
    begun: &mut BTreeSet<Name>,
    name: &Name,
) -> io::Result<Lines<D::File>> {
    let mut lines = Lines::open(disk.open(&name.0, name.1)?)?;
    // Who has moved the file away has moved the header with it.
    if lines.opened_at == 0 || !begun.contains(name) {
        lines.begin(&name.1.header(disk.now()))?;
        begun.insert(name.clone());
    }
    Ok(lines)
}

/// A file, and lines that wait to be written to it.
struct Lines<F> {
    file: F,
    /// Its length when it was opened, in bytes.
    opened_at: u64,
    gathered: Vec<u8>,
}

impl<F: Storage> Lines<F> {
    /// Goes on behind the last whole line of a file.
    fn open(mut file: F) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let opened_at = end_of_lines(&mut file, length)?;
        if opened_at < length {
            file.cut(opened_at)?;
        }
        Ok(Self { file, opened_at, gathered: Vec::new() })
    }

    /// Writes a header to a file that has just been opened: all of it, or nothing.
    fn begin(&mut self, header: &str) -> io::Result<()> {
        self.file.write_all(header.as_bytes()).inspect_err(|_| {
            // Lines that stay of it do no harm, as a whole one will follow.
            let _cut = self.file.cut(self.opened_at);
        })
    }

    fn push(&mut self, line: &str) {
        self.gathered.extend_from_slice(line.as_bytes());
    }

    /// Writes the lines. If that fails: how many were lost, and why; no half line stays, as far as
    /// that can be helped now.
    fn flush(&mut self) -> Result<(), (u64, io::Error)> {
        let mut written = 0;
        let error = loop {
            let rest = &self.gathered[written..];
            if rest.is_empty() {
                self.gathered.clear();
                return Ok(());
            }
            match self.file.write(rest) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let is_end = |byte: &u8| *byte == b'\n';
        let whole = self.gathered[..written].iter().rposition(is_end).map_or(0, |at| at + 1);
        let lost = self.gathered[whole..].iter().filter(|byte| is_end(byte)).count();
        if written > whole {
            let half = (written - whole) as u64;
            let end = self.file.seek(SeekFrom::End(0));
            // Otherwise it is cut off when the file is opened again.
            let _cut = end.and_then(|end| self.file.cut(end.saturating_sub(half)));
        }
        self.gathered.clear();
        Err((lost as u64, error))
    }
}

/// Where the last whole line of a file ends.
fn end_of_lines<F: Storage>(file: &mut F, length: u64) -> io::Result<u64> {
    let (mut end, mut block) = (length, [0; 4096]);
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let bytes = &mut block[..(end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
