//! The time in which a caller must begin to speak HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How long a caller may take to begin to speak HTTP/2. Once it has, its connection may idle.
pub const LIMIT: Duration = Duration::from_secs(5);
/// How often a server asks whether an idle peer is still there, and how long it waits for the
/// answer.
pub const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// What every client begins with, in bytes: a text and at least the header of a SETTINGS frame
/// (RFC 9113 §3.4).
const LEN: usize = 24 + 9;

/// What a caller still has to say before its connection may idle. The pings of an HTTP/2 server
/// begin only behind it.
#[derive(Debug)]
pub struct Preface(Option<Owed>);

#[derive(Debug)]
struct Owed {
    bytes: usize,
    limit: Pin<Box<Sleep>>,
}

impl Preface {
    /// The time runs from now.
    pub fn within(limit: Duration) -> Self {
        Self(Some(Owed { bytes: LEN, limit: Box::pin(sleep(limit)) }))
    }

    /// Passes on what came of a read and how many bytes; fails one that waits beyond the limit.
    pub fn check(
        &mut self,
        context: &mut Context<'_>,
        read: Poll<io::Result<()>>,
        bytes: usize,
    ) -> Poll<io::Result<()>> {
        let Some(owed) = &mut self.0 else { return read };
        owed.bytes = owed.bytes.saturating_sub(bytes);
        if owed.bytes == 0 {
            self.0 = None;
        } else if read.is_pending() {
            ready!(owed.limit.as_mut().poll(context));
            let silent = "the caller did not begin to speak HTTP/2 in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, silent)));
        }
        read
    }
}
