//! What the CPU time of packets is charged to, in nanoseconds.
//!
//! A packet over veth is carried through the kernel in the context of whoever sends it, and now
//! and then by the kernel's own softirq threads. So what a router costs is in the time of the
//! generator, of these threads and, where the router is a process, of that process. The rest of a
//! busy machine is not.

use std::fs;
use std::ops::Sub;
use std::path::Path;

use anyhow::{Context, Result};

/// CPU time and run-queue delay of a set of threads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Nanoseconds on a CPU.
    pub(crate) cpu_ns: u64,
    /// Nanoseconds ready to run, without a CPU.
    pub(crate) waited_ns: u64,
}

impl Cost {
    /// Of this process, of a router's process if there is one, and of the softirq threads.
    ///
    /// # Errors
    /// When the router has ended, or the kernel keeps no such figures.
    pub(crate) fn so_far(router: Option<u32>) -> Result<Self> {
        let mut total = Self::of_process(std::process::id())?;
        if let Some(router) = router {
            total.add(Self::of_process(router)?);
        }
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            // Processes come and go meanwhile.
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if name.starts_with("ksoftirqd/") {
                total.add(Self::of_thread(&path)?);
            }
        }
        Ok(total)
    }

    /// Of all threads of a process.
    ///
    /// # Errors
    /// When it has ended, or the kernel keeps no such figures.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        let mut total = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            match Self::of_thread(&task) {
                Ok(cost) => total.add(cost),
                // Threads come and go meanwhile.
                Err(_) if !task.exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// From the `schedstat` of a thread: time on a CPU, time in a run queue, times it ran.
    fn of_thread(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join("schedstat"))
            .context("the kernel keeps no run-queue delay (CONFIG_SCHED_INFO)")?;
        read(&text).with_context(|| format!("reading {text:?}"))
    }

    fn add(&mut self, other: Self) {
        self.cpu_ns += other.cpu_ns;
        self.waited_ns += other.waited_ns;
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        // A thread that has ended meanwhile takes its time with it.
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
        }
    }
}

fn read(schedstat: &str) -> Option<Cost> {
    let mut fields = schedstat.split_whitespace().map(str::parse);
    let (cpu_ns, waited_ns) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Cost { cpu_ns, waited_ns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{LIMIT, until};

    #[test]
    fn a_line_of_schedstat_is_understood() {
        assert_eq!(
            read("941809 280274689 4\n"),
            Some(Cost { cpu_ns: 941_809, waited_ns: 280_274_689 })
        );
        assert_eq!(read("941809"), None);
    }

    #[test]
    fn work_shows_in_the_cost_of_this_process() {
        let before = Cost::so_far(None).unwrap();
        let mut sum = 0_u64;
        until("CPU time to pass", LIMIT, || {
            sum = (0..1_000_000_u64).fold(sum, |sum, n| sum.rotate_left(3) ^ n);
            let cost = Cost::so_far(None).unwrap() - before;
            (cost.cpu_ns > 5_000_000).then_some(())
        })
        .unwrap();
    }
}
