//! Logs on a disk that gets full, that has room again, and that does not answer.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::super::log_files::{BEGUN_MAX, FILES_MAX, Storage};
use super::*;
use crate::nf::ids::log::Log::Scan;
use crate::nf::ids::{self, ScanRecord};
use crate::nf::{Log, Timestamp, assets};

const SCANS: Log = Log::Ids(Scan);
/// Generous: the machine may be busy.
const LONG: Duration = Duration::from_secs(30);
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

/// Waits until so many records were lost.
fn wait_for(losses: &Losses, records: u64) {
    #[expect(clippy::disallowed_methods, reason = "a limit to the wait")]
    let start = Instant::now();
    let lost = || losses.0.lock().expect("nobody panics with it").values().sum::<u64>();
    while lost() < records {
        assert!(start.elapsed() < LONG, "{} of {records} records were lost in {LONG:?}", lost());
        thread::yield_now();
    }
}

/// The records of a log, by the runs of the process that have written them: each has one header, and
/// one end if it had room for that. All lines are whole, and none is of anything else.
fn runs(disk: &SmallDisk, name: &str) -> Vec<Vec<u64>> {
    let (text, header) = (disk.text(name), SCANS.header(NOW));
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let number = |line: &str| {
        let n = line.rsplit('\t').next().and_then(|n| n.parse().ok());
        let n = n.unwrap_or_else(|| panic!("no record: {line:?} in {text}"));
        assert_eq!(format!("{line}\n"), record(n).line());
        n
    };
    let mut parts = text.split(&header);
    // A header that did not fit, and could not be cut off.
    assert!(parts.next().is_some_and(|broken| header.starts_with(broken)), "{text}");
    let records = |part: &str| {
        let records = part.strip_suffix(&Log::footer(NOW)).unwrap_or(part);
        records.lines().map(number).collect()
    };
    parts.map(records).collect()
}

/// The same of a log whose runs have all ended in order.
fn ended_runs(disk: &SmallDisk, name: &str) -> Vec<Vec<u64>> {
    let runs = runs(disk, name);
    assert_eq!(disk.text(name).matches(&Log::footer(NOW)).count(), runs.len());
    runs
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
            if cuts && room < SCANS.header(NOW).len() {
                assert_eq!(disk.text("one/scan"), "", "nothing stays of half a header");
            }
            // Space returns, and what could not be cut off before can be now.
            disk.with(|disk| (disk.room, disk.cuts) = (1 << 20, true));
            write(&disk, &losses, 200..205);
            let runs = runs(&disk, "one/scan");
            assert_eq!(runs.len(), 1 + usize::from(room >= SCANS.header(NOW).len()), "{runs:?}");
            let (written, lost) = (runs.concat(), losses.take().values().sum::<u64>());
            assert_eq!(written.len() as u64 + lost, 15, "room for {room}: {written:?}");
            assert_eq!(runs.last().expect("a run"), &[200, 201, 202, 203, 204]);
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
    assert_eq!(ended_runs(&disk, "one/scan"), [vec![1, 2, 3], vec![4, 5]]);
    assert!(losses.take().is_empty());
}

/// A version may have had a shorter header than the next, and a log of one record be shorter than
/// that.
#[test]
fn what_another_version_has_logged_stays_however_short_it_is() {
    let (disk, losses) = (SmallDisk::default(), Losses::default());
    disk.with(|disk| (disk.room, disk.cuts) = (1 << 20, true));
    let before = "#path\tscan\n#fields\tts\n#types\ttime\n1.000000\n";
    assert!(before.len() < SCANS.header(NOW).len());
    disk.with(|disk| disk.files.insert("one/scan".to_owned(), before.into()));
    write(&disk, &losses, 1..2);
    let text = disk.text("one/scan");
    let behind = text.strip_prefix(before).unwrap_or_else(|| panic!("{text}"));
    assert!(behind.starts_with(&[SCANS.header(NOW), record(1).line()].concat()), "{text}");
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

/// What is opened again goes on, unless the file was moved away.
#[test]
fn a_log_has_one_header_although_its_disk_was_full_for_a_while() {
    for moved_away in [false, true] {
        let disk = SmallDisk::default();
        let room = SCANS.header(NOW).len() + record(100).line().len();
        disk.with(|disk| (disk.room, disk.cuts) = (room, true));
        let mut logs = Logs::on(disk.clone(), Duration::from_secs(60)).expect("a thread");
        let losses = logs.losses.clone();
        let mut records = (100..103).map(|n| ("one".into(), record(n)));
        logs.pass_on(|| records.next());
        wait_for(&losses, 2);
        disk.with(|disk| {
            disk.room = 1 << 20;
            if moved_away {
                disk.files.get_mut("one/scan").expect("written").clear();
            }
        });
        let mut records = (200..203).map(|n| ("one".into(), record(n)));
        logs.pass_on(|| records.next());
        drop(logs);
        let expected = if moved_away { vec![200, 201, 202] } else { vec![100, 200, 201, 202] };
        assert_eq!(ended_runs(&disk, "one/scan"), [expected], "moved away: {moved_away}");
    }
}

/// Writes a record of each of these instances, in their order, as one process.
fn write_of_many(disk: &SmallDisk, instances: impl Iterator<Item = usize>) {
    let (to, entries) = channel();
    for (n, instance) in instances.enumerate() {
        let entry = (instance.to_string().into(), record(n as u64));
        to.send(entry).expect("it is taken");
    }
    drop(to);
    Files::new(disk.clone(), Losses::default()).write_all(&entries);
}

#[test]
fn each_of_many_logs_has_one_header_and_one_end_however_often_it_is_opened() {
    const MANY: usize = FILES_MAX + 1;
    let disk = SmallDisk::default();
    disk.with(|disk| disk.room = 1 << 30);
    write_of_many(&disk, (0..3).flat_map(|_| 0..MANY));
    for instance in 0..MANY {
        let of_each_round = [0, 1, 2].map(|round| (instance + round * MANY) as u64);
        assert_eq!(ended_runs(&disk, &format!("{instance}/scan")), [of_each_round]);
    }
}

#[test]
fn of_more_logs_than_are_remembered_all_end_and_what_goes_on_begins_anew() {
    let disk = SmallDisk::default();
    disk.with(|disk| disk.room = 1 << 30);
    write_of_many(&disk, (0..=BEGUN_MAX).chain([0]));
    for instance in 1..=BEGUN_MAX {
        assert_eq!(ended_runs(&disk, &format!("{instance}/scan")), [[instance as u64]]);
    }
    assert_eq!(ended_runs(&disk, "0/scan"), [[0], [BEGUN_MAX as u64 + 1]]);
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
    wait_for(&losses, 15);
    assert_eq!(losses.take(), BTreeMap::from([(Arc::from("one"), 15)]));
    drop(logs);
    assert_eq!(runs(&disk, "one/scan"), [[100, 101, 102, 103, 104]]);
}

/// A folder that is removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("weir-logs-{}-{}", std::process::id(), weir_seed::any());
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
