//! What arrives at a host, frame by frame.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, bail};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use rustix::event::{PollFd, PollFlags};

use crate::packet_socket::{Burst, PacketSocket, arriving};
use crate::topology::Host;
use crate::wait;

/// Most frames kept; later ones are counted only.
const FRAMES_MAX: usize = 65_536;
/// How often it is seen whether to stop.
const LOOK: Duration = Duration::from_millis(20);

/// A capture of the frames that arrive at a host, ended when dropped.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    frames: Mutex<Vec<Vec<u8>>>,
    grown: Condvar,
}

impl Capture {
    /// Captures what arrives at a host from here on.
    ///
    /// # Errors
    /// Without root.
    pub fn start(host: &Host) -> Result<Self> {
        let socket = host.socket(&arriving())?;
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.collect(&socket)
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Waits until `enough` says so of the frames captured so far, and returns them.
    ///
    /// # Errors
    /// When the limit passes first.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut enough: impl FnMut(&[Vec<u8>]) -> bool,
    ) -> Result<Vec<Vec<u8>>> {
        let frames = self.shared.frames();
        let (frames, timeout) = self
            .shared
            .grown
            .wait_timeout_while(frames, limit, |frames| !enough(frames))
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            bail!("captured {} frames in {limit:?}, but not {what}", frames.len());
        }
        Ok(frames.clone())
    }

    /// The frames captured so far.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.shared.frames().clone()
    }

    /// Writes the frames captured so far to a pcap file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = PcapWriter::new(File::create(path)?)?;
        for frame in self.shared.frames().iter() {
            let length = u32::try_from(frame.len())?;
            file.write_packet(&PcapPacket::new(Duration::ZERO, length, frame))?;
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn collect(&self, socket: &PacketSocket) {
        let mut burst = Burst::default();
        while !self.stop.load(Ordering::Relaxed) {
            let mut ready = [PollFd::new(socket, PollFlags::IN)];
            if !matches!(wait::pause(&mut ready, LOOK), Ok(true)) {
                continue;
            }
            let mut frames = self.frames();
            let received = socket.receive(&mut burst, |frame| {
                if frames.len() < FRAMES_MAX {
                    frames.push(frame.to_vec());
                }
            });
            self.grown.notify_all();
            // The device goes with its namespace.
            if received.is_err() {
                return;
            }
        }
    }

    fn frames(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use crate::wait::LIMIT;

    #[test]
    #[ignore = "needs root"]
    fn frames_that_arrive_are_captured_and_saved() {
        let topology = Topology::new(1).unwrap();
        topology.forward_by_kernel().unwrap();
        let capture = Capture::start(&topology.hosts[1]).unwrap();
        topology.hosts[0].namespace.run("ping -c 3 -i 0.01 -W 5 10.0.2.2").unwrap();
        let echo = |frame: &Vec<u8>| frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 8;
        let frames = capture
            .wait_for("three echo requests", LIMIT, |frames| {
                frames.iter().filter(|frame| echo(frame)).count() == 3
            })
            .unwrap();
        assert!(frames.len() >= 3);
        let path = std::env::temp_dir().join(format!("weir-{}.pcap", std::process::id()));
        capture.save(&path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 24 + 3 * 98);
        std::fs::remove_file(path).unwrap();
    }
}
