//! Lines that wait for the thread that writes them, and those that are lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// Bytes of all lines that wait; a line counts as [`LINE_LEAST`] at least.
const BYTES_MAX: usize = 1 << 20;
const LINE_LEAST: usize = 256;
const LINES_MAX: usize = BYTES_MAX / LINE_LEAST;
/// In front of each line that waits: how many were lost before it.
const HEAD: usize = size_of::<u64>();

/// Takes lines, each by one write, and never waits.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    queue: NonBlocking,
    room: Arc<Room>,
}

/// What those that log and the thread that writes both know.
#[derive(Debug, Default)]
struct Room {
    waiting: AtomicUsize,
    /// Lines that were lost since the last that found room.
    lost: AtomicU64,
}

/// What the thread writes to: it says how many lines were lost in front of the next one, and when
/// none waits.
struct Out<W> {
    to: W,
    room: Arc<Room>,
    /// Lines that were lost, which has not been said.
    lost: u64,
}

/// Starts the thread that writes lines. When the guard is dropped it waits a second at most until
/// all are written.
pub(crate) fn start(to: impl Write + Send + 'static) -> (Lines, WorkerGuard) {
    let room = Arc::new(Room::default());
    let out = Out { to, room: Arc::clone(&room), lost: 0 };
    let (queue, writing) = NonBlockingBuilder::default()
        // One for the word that it is to end: were there no room, the guard would print that.
        .buffered_lines_limit(LINES_MAX + 1)
        .lossy(true)
        .thread_name("weir-log")
        .finish(out);
    (Lines { queue, room }, writing)
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.room.take(line.len()) {
            let lost = self.room.lost.swap(0, Ordering::Relaxed);
            self.queue.write_all(&[&lost.to_ne_bytes(), line].concat())?;
        } else {
            self.room.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Room {
    fn take(&self, bytes: usize) -> bool {
        let with = |waiting: usize| {
            Some(waiting + bytes.max(LINE_LEAST)).filter(|waiting| *waiting <= BYTES_MAX)
        };
        // Who takes what was given back finds the place in the queue free as well.
        self.waiting.fetch_update(Ordering::Acquire, Ordering::Relaxed, with).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes.max(LINE_LEAST), Ordering::Release);
    }
}

impl<W: Write> Out<W> {
    /// Writes a line, or nothing, behind the word of what was lost before.
    fn put(&mut self, line: &[u8]) {
        let told = if self.lost > 0 { told(self.lost) } else { String::new() };
        match self.to.write_all(&[told.as_bytes(), line].concat()) {
            Ok(()) => self.lost = 0,
            // As where the disk is full.
            Err(_) => self.lost += u64::from(!line.is_empty()),
        }
    }
}

impl<W: Write> Write for Out<W> {
    /// Takes what [`Lines`] has sent, whole.
    fn write(&mut self, sent: &[u8]) -> io::Result<usize> {
        if let Some((lost, line)) = sent.split_first_chunk::<HEAD>() {
            self.room.give_back(line.len());
            self.lost += u64::from_ne_bytes(*lost);
            self.put(line);
        }
        Ok(sent.len())
    }

    /// Is called when no line waits.
    fn flush(&mut self) -> io::Result<()> {
        self.lost += self.room.lost.swap(0, Ordering::Relaxed);
        if self.lost > 0 {
            self.put(&[]);
        }
        self.to.flush()
    }
}

/// The line that says how many were lost, in the form of the others.
fn told(lost: u64) -> String {
    let mut line = String::new();
    // A time that can not be told is left out.
    let _formatted = SystemTime.format_time(&mut Writer::new(&mut line));
    format!("{line}  WARN weir_log: {lost} log lines were lost\n")
}

#[cfg(test)]
mod tests;
