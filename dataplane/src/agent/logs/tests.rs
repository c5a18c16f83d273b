//! Logs on a disk that gets full, that has room again, and that does not answer.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex};

use super::super::log_files::Storage;
use super::*;
use crate::nf::ids::log::Log::Scan;
use crate::nf::ids::{self, ScanRecord};
use crate::nf::{Log, Timestamp, assets};

const SCANS: Log = Log::Ids(Scan);
const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// A disk with room for so many bytes.
#[derive(Clone, Debug, Default)]
struct SmallDisk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<String, Vec<u8>>,
    room: usize,
    /// Whether a file can be cut off.
    cuts: bool,
    /// Attempts to write.
    writes: usize,
}

struct SmallFile {
    disk: SmallDisk,
    name: String,
    at: usize,
}

impl SmallDisk {
    fn with<R>(&self, work: impl FnOnce(&mut Contents) -> R) -> R {
        work(&mut self.0.lock().expect("nobody panics with it"))
    }

    fn text(&self, name: &str) -> String {
        let bytes = self.with(|disk| disk.files.get(name).cloned().unwrap_or_default());
        String::from_utf8(bytes).expect("text")
    }
}

impl Disk for SmallDisk {
    type File = SmallFile;

    fn has(&self, _log: Log) -> bool {
        true
    }

    fn open(&mut self, instance: &str, log: Log) -> io::Result<SmallFile> {
        let name = format!("{instance}/{}", log.path());
        self.with(|disk| _ = disk.files.entry(name.clone()).or_default());
        Ok(SmallFile { disk: self.clone(), name, at: 0 })
    }

    fn now(&self) -> Timestamp {
        NOW
    }
}

impl Storage for SmallFile {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.disk.with(|disk| {
            if !disk.cuts {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let file = disk.files.get_mut(&self.name).expect("it is open");
            disk.room += file.len() - length as usize;
            file.truncate(length as usize);
            Ok(())
        })
    }
}

impl Write for SmallFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.with(|disk| {
            disk.writes += 1;
            let taken = disk.room.min(bytes.len());
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.room -= taken;
            disk.files.get_mut(&self.name).expect("it is open").extend(&bytes[..taken]);
            Ok(taken)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for SmallFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.disk.with(|disk| (&disk.files[&self.name][self.at..]).read(into))?;
        self.at += read;
        Ok(read)
    }
}

impl Seek for SmallFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at as usize,
            SeekFrom::End(back) => {
                let length = self.disk.with(|disk| disk.files[&self.name].len());
                length.saturating_add_signed(back as isize)
            }
            SeekFrom::Current(by) => self.at.saturating_add_signed(by as isize),
        };
        Ok(self.at as u64)
    }
}

fn record(n: u64) -> Record {
    let source = std::net::Ipv4Addr::new(10, 0, 0, 1).into();
    let scan = ScanRecord { ts: Timestamp(n), source, distinct: n, attempts: n };
    Record::Ids(ids::Record::Scan(scan))
}

/// Writes records, and waits until that has been tried.
fn write(disk: &SmallDisk, losses: &Losses, records: std::ops::Range<u64>) {
    let (to, entries) = channel();
    records.for_each(|n| to.send(("one".into(), record(n))).expect("it is taken"));
    drop(to);
    Files::new(disk.clone(), losses.clone()).write_all(&entries);
}

/// The records in a log, all of whose lines are whole.
fn written(disk: &SmallDisk) -> Vec<u64> {
    let text = disk.text("one/scan");
    let lines = text.strip_prefix(&SCANS.header(NOW)).unwrap_or_else(|| panic!("header: {text}"));
    assert!(lines.is_empty() || lines.ends_with('\n'), "{lines}");
    let number = |line: &str| {
        let n = line.rsplit('\t').next().and_then(|n| n.parse().ok());
        let n = n.unwrap_or_else(|| panic!("a half line: {line:?}"));
        assert_eq!(format!("{line}\n"), record(n).line());
        n
    };
    lines.lines().filter(|line| !line.starts_with('#')).map(number).collect()
}

#[test]
fn a_full_disk_leaves_no_half_line_and_what_is_lost_is_counted() {
    let line = record(100).line().len();
    for cuts in [true, false] {
        // Up to and beyond the header, at any byte of a line.
        for room in 0..SCANS.header(NOW).len() + 3 * line {
            let disk = SmallDisk::default();
            disk.with(|disk| (disk.room, disk.cuts) = (room, cuts));
            let losses = Losses::default();
            write(&disk, &losses, 100..110);
            // Space returns, and what could not be cut off before can be now.
            disk.with(|disk| (disk.room, disk.cuts) = (1 << 20, true));
            write(&disk, &losses, 200..205);
            let written = written(&disk);
            let lost: u64 = losses.take().values().sum();
            assert_eq!(written.len() as u64 + lost, 15, "room for {room}: {written:?}");
            assert!(written.ends_with(&[200, 201, 202, 203, 204]), "{written:?}");
            assert!(written.is_sorted(), "{written:?}");
        }
    }
}

#[test]
fn a_log_whose_last_line_was_cut_by_a_crash_goes_on_behind_the_whole_ones() {
    let (disk, losses) = (SmallDisk::default(), Losses::default());
    disk.with(|disk| (disk.room, disk.cuts) = (1 << 20, true));
    write(&disk, &losses, 1..4);
    // Longer than what is looked at at one time.
    disk.with(|disk| disk.files.get_mut("one/scan").expect("written").extend([b'7'; 9_000]));
    write(&disk, &losses, 4..6);
    assert_eq!(written(&disk), [1, 2, 3, 4, 5]);
    assert!(losses.take().is_empty());
}

/// A log that was closed ends so, and what comes later has a header of its own.
#[test]
fn a_log_says_when_it_was_opened_and_closed() {
    let (disk, losses) = (SmallDisk::default(), Losses::default());
    disk.with(|disk| (disk.room, disk.cuts) = (1 << 20, true));
    write(&disk, &losses, 1..3);
    let one = [SCANS.header(NOW), record(1).line(), record(2).line()].concat();
    assert!(one.contains("\n#open\t2023-11-14-22-13-20\n#fields\t"), "{one}");
    let one = one + "#close\t2023-11-14-22-13-20\n";
    assert_eq!(disk.text("one/scan"), one);
    write(&disk, &losses, 3..4);
    let two = [SCANS.header(NOW), record(3).line(), "#close\t2023-11-14-22-13-20\n".to_owned()];
    assert_eq!(disk.text("one/scan"), one + &two.concat());
}

/// A disk that does not answer until it is told to.
#[derive(Clone, Debug, Default)]
struct StuckDisk(Arc<(Mutex<bool>, Condvar)>);

impl Disk for StuckDisk {
    type File = SmallFile;

    fn has(&self, _log: Log) -> bool {
        true
    }

    fn open(&mut self, _instance: &str, _log: Log) -> io::Result<SmallFile> {
        let (answers, told) = &*self.0;
        let mut answers = answers.lock().expect("nobody panics with it");
        while !*answers {
            answers = told.wait(answers).expect("nobody panics with it");
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn now(&self) -> Timestamp {
        NOW
    }
}

#[test]
fn a_disk_that_does_not_answer_keeps_nobody_from_ending() {
    let disk = StuckDisk::default();
    let mut logs = Logs::on(disk.clone(), Duration::from_millis(20)).expect("a thread");
    let mut records = (0..3_000).map(|n| ("one".into(), record(n)));
    logs.pass_on(|| records.next());
    assert!(!logs.is_empty(), "more wait than there is room for");
    let mut thread = logs.thread.take();
    drop(logs);
    assert!(thread.as_ref().is_some_and(|thread| !thread.is_finished()));
    *disk.0.0.lock().expect("nobody panics with it") = true;
    disk.0.1.notify_all();
    thread.take().map(JoinHandle::join).expect("a thread").expect("it has not panicked");
}

#[test]
fn what_the_thread_loses_is_told_and_what_it_has_is_written_at_the_end() {
    let disk = SmallDisk::default();
    let room = SCANS.header(NOW).len() + 5 * record(100).line().len();
    disk.with(|disk| (disk.room, disk.cuts) = (room, true));
    let mut logs = Logs::on(disk.clone(), Duration::from_secs(60)).expect("a thread");
    let losses = logs.losses.clone();
    let mut records = (100..120).map(|n| ("one".into(), record(n)));
    logs.pass_on(|| records.next());
    // As they are taken by then, the end says nothing of them.
    while losses.0.lock().expect("nobody panics with it").values().sum::<u64>() < 15 {
        thread::yield_now();
    }
    assert_eq!(losses.take(), BTreeMap::from([(Arc::from("one"), 15)]));
    drop(logs);
    assert_eq!(written(&disk), [100, 101, 102, 103, 104]);
}

/// A folder that is removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("weir-logs-{}-{}", std::process::id(), fastrand::u64(..));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_function_has_a_directory_of_its_own_or_none() {
    let folder = Folder::new();
    let (ts, host) = (Timestamp(1), std::net::IpAddr::from([10, 0, 0, 1]));
    let asset = assets::Record { ts, host, asset: assets::Asset::Host, distance: 0 };
    let scan = ScanRecord { ts, source: host, distinct: 9, attempts: 9 };
    let write = |directories: Directories| {
        let (to, entries) = channel();
        for record in [Record::Ids(ids::Record::Scan(scan)), Record::Asset(asset.clone())] {
            to.send(("a".into(), record)).expect("it is taken");
        }
        drop(to);
        Files::new(OnDisk(directories), Losses::default()).write_all(&entries);
    };
    let [one, two] = ["one", "two"].map(|name| folder.0.join(name));
    write([("ids", one.clone()), ("assets", two.clone())].into());
    write([("assets", one.clone())].into());
    let lines = |path: PathBuf| fs::read_to_string(path).map(|text| text.lines().count()).ok();
    // Eight lines of header, the record, and the line at the end.
    for path in ["one/a/scan.log", "one/a/assets.log", "two/a/assets.log"] {
        assert_eq!(lines(folder.0.join(path)), Some(8 + 1 + 1), "{path}");
    }
    assert_eq!(lines(two.join("a/scan.log")), None);
}
