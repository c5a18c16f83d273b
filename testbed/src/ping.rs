//! Pings between hosts, by the system's `ping`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::topology::Topology;

/// Pings of one call of `ping`; between calls it is seen whether to stop.
const ROUND: u32 = 10;
const SECONDS_BETWEEN: f32 = 0.1;
/// Seconds for which the last answer of a round is waited for.
const SECONDS_TO_ANSWER: u32 = 10;

/// Pings that run until they are stopped: each host to the next, and back over IPv6.
#[derive(Debug)]
pub struct Pings {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<PingReport>>>,
}

/// Requests and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingReport {
    /// Echo requests sent.
    pub sent: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Answers beyond the first.
    pub duplicated: u64,
}

impl Pings {
    /// Starts pinging around the hosts of a topology.
    pub fn start(topology: &Topology) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let hosts = &topology.hosts;
        let pairs = hosts.iter().zip(hosts.iter().cycle().skip(1)).enumerate();
        let threads = pairs
            .map(|(index, (from, to))| {
                let (from, target) = if index % 2 == 0 {
                    (from, to.ipv4().to_string())
                } else {
                    (to, from.ipv6().to_string())
                };
                let mut command = from.namespace.command("ping");
                let (count, wait) = (ROUND.to_string(), SECONDS_TO_ANSWER.to_string());
                let interval = SECONDS_BETWEEN.to_string();
                command.args(["-n", "-q", "-c", &count, "-i", &interval, "-W", &wait, &target]);
                let stop = Arc::clone(&stop);
                thread::spawn(move || -> Result<PingReport> {
                    let mut total = PingReport::default();
                    loop {
                        let output = command.output().context("starting ping")?;
                        total += read(&String::from_utf8_lossy(&output.stdout))?;
                        if stop.load(Ordering::Relaxed) {
                            return Ok(total);
                        }
                    }
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// Ends after the rounds that run, one at least, and reports.
    ///
    /// # Errors
    /// When `ping` does not run or says something else than expected.
    pub fn stop(mut self) -> Result<PingReport> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = PingReport::default();
        for thread in self.threads.drain(..) {
            total += thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(total)
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl std::ops::AddAssign for PingReport {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.duplicated += other.duplicated;
    }
}

/// Reads the closing lines of `ping -q`.
///
/// # Errors
/// When there is no such line.
pub fn read(output: &str) -> Result<PingReport> {
    let line = output.lines().find(|line| line.contains("packets transmitted"));
    let line = line.with_context(|| format!("ping said: {output}"))?;
    let before = |word: &str| -> u64 {
        let part = line.split(", ").find(|part| part.contains(word)).unwrap_or_default();
        let digits = part.trim_start_matches('+').split(' ').next().unwrap_or_default();
        digits.parse().unwrap_or_default()
    };
    Ok(PingReport {
        sent: before("transmitted"),
        answered: before("received"),
        duplicated: before("duplicates"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_ping_are_understood() {
        let report = |sent, answered, duplicated| PingReport { sent, answered, duplicated };
        let clean = "10 packets transmitted, 10 received, 0% packet loss, time 452ms\nrtt ...";
        assert_eq!(read(clean).unwrap(), report(10, 10, 0));
        let bad = "4 packets transmitted, 3 received, +2 duplicates, 25% packet loss, time 3ms";
        assert_eq!(read(bad).unwrap(), report(4, 3, 2));
        let errors = "2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 1ms";
        assert_eq!(read(errors).unwrap(), report(2, 0, 0));
        assert!(read("ping: connect: Network is unreachable").is_err());
    }

    #[test]
    #[ignore = "needs root"]
    fn every_ping_through_the_kernel_is_answered() {
        let topology = Topology::new(1).unwrap();
        topology.forward_by_kernel().unwrap();
        let report = Pings::start(&topology).stop().unwrap();
        assert!(report.sent >= 4 * u64::from(ROUND));
        assert_eq!((report.answered, report.duplicated), (report.sent, 0));
    }
}
