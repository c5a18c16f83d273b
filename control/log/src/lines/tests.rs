//! Queues in front of writers that stand still, go on and refuse.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

/// How long a test waits for an event before it fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Where each write waits until it is let go, or to be refused: for ever once the test lets all go.
struct Gate {
    begun: Sender<String>,
    let_go: Receiver<io::Result<()>>,
}

/// The other side of a gate.
struct Keeper {
    begun: Receiver<String>,
    let_go: Sender<io::Result<()>>,
}

fn gate() -> (Gate, Keeper) {
    let ((begun, has_begun), (let_go, is_let_go)) = (channel(), channel());
    (Gate { begun, let_go: is_let_go }, Keeper { begun: has_begun, let_go })
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _told = self.begun.send(String::from_utf8_lossy(bytes).into_owned());
        self.let_go.recv().unwrap_or(Ok(()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Keeper {
    /// The write that has begun, and is not let go.
    fn next(&self) -> String {
        self.begun.recv_timeout(LIMIT).expect("it is written")
    }
}

/// Fills the queue behind a line that stands still in its write.
fn full() -> (Lines, WorkerGuard, Keeper) {
    let (gate, keeper) = gate();
    let (mut lines, writing) = start(gate);
    lines.write_all(b"first\n").unwrap();
    assert_eq!(keeper.next(), "first\n");
    for number in 0..LINES_MAX {
        lines.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    (lines, writing, keeper)
}

/// How many lines a write says were lost, with what follows.
fn lost(written: &str) -> Option<(u64, &str)> {
    let (told, rest) = written.split_once(" log lines were lost\n")?;
    let (_time, lost) = told.split_once("Z  WARN weir_log: ")?;
    Some((lost.parse().ok()?, rest))
}

#[test]
fn lines_without_room_are_lost_and_that_is_told_when_the_others_are_written() {
    let (mut lines, _writing, keeper) = full();
    for _ in 0..3 {
        lines.write_all(b"lost\n").unwrap();
    }
    drop(keeper.let_go);
    for number in 0..LINES_MAX {
        let line = keeper.begun.recv_timeout(LIMIT).unwrap();
        assert_eq!(line, format!("{number}\n"));
    }
    let told = keeper.begun.recv_timeout(LIMIT).unwrap();
    assert_eq!(lost(&told), Some((3, "")), "{told}");
}

#[test]
fn what_is_lost_is_told_where_it_is_missing() {
    let (mut lines, _writing, keeper) = full();
    for _ in 0..2 {
        lines.write_all(b"lost\n").unwrap();
    }
    keeper.let_go.send(Ok(())).unwrap();
    assert_eq!(keeper.next(), "0\n");
    // There is room for one.
    lines.write_all(b"later\n").unwrap();
    lines.write_all(b"lost too\n").unwrap();
    drop(keeper.let_go);
    let written: Vec<String> =
        (1..=LINES_MAX + 1).map(|_| keeper.begun.recv_timeout(LIMIT).unwrap()).collect();
    let [.., last, later, end] = &written[..] else { panic!("{} writes", written.len()) };
    assert_eq!(*last, format!("{}\n", LINES_MAX - 1));
    assert_eq!(lost(later), Some((2, "later\n")), "{later}");
    assert_eq!(lost(end), Some((1, "")), "{end}");
}

#[test]
fn long_lines_have_the_same_bytes_and_no_more() {
    let (gate, keeper) = gate();
    let (mut lines, _writing) = start(gate);
    lines.write_all(b"first\n").unwrap();
    assert_eq!(keeper.next(), "first\n");
    let halves = [vec![b'x'; BYTES_MAX / 2], vec![b'y'; BYTES_MAX / 2]];
    for line in halves.iter().chain([&vec![b'z'; 1]]) {
        lines.write_all(line).unwrap();
    }
    drop(keeper.let_go);
    for line in &halves {
        assert_eq!(keeper.begun.recv_timeout(LIMIT).unwrap().as_bytes(), line);
    }
    assert_eq!(lost(&keeper.begun.recv_timeout(LIMIT).unwrap()), Some((1, "")));
}

#[test]
fn lines_that_can_not_be_written_are_told_when_some_can_again() {
    let (gate, keeper) = gate();
    let (mut lines, _writing) = start(gate);
    for number in 1..=2 {
        lines.write_all(b"lost\n").unwrap();
        let told = keeper.next();
        assert_eq!(lost(&told).map_or(0, |(lost, _)| lost), number - 1, "{told}");
        keeper.let_go.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        // That it is told by itself, as no other line waits, fails too.
        assert_eq!(lost(&keeper.next()), Some((number, "")));
        keeper.let_go.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    }
    drop(keeper.let_go);
    lines.write_all(b"later\n").unwrap();
    assert_eq!(lost(&keeper.begun.recv_timeout(LIMIT).unwrap()), Some((2, "later\n")));
}

#[test]
fn the_end_waits_for_those_that_are_written_and_not_for_ever() {
    let (lines, writing, keeper) = full();
    let (ended, end) = channel();
    std::thread::spawn(move || {
        drop(writing);
        ended.send(())
    });
    end.recv_timeout(LIMIT).expect("it ends though no line is written");
    drop(keeper);
    drop(lines);

    let (gate, keeper) = gate();
    let (mut lines, writing) = start(gate);
    drop(keeper.let_go);
    for _ in 0..100 {
        lines.write_all(b"line\n").unwrap();
    }
    drop(writing);
    assert_eq!(keeper.begun.try_iter().count(), 100);
}
