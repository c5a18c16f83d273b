//! A network namespace that exists as long as its guard.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{self, ip};

const PREFIX: &str = "weir-";

/// A network namespace of this process, removed with everything that runs in it when dropped.
///
/// Its name, `weir-<pid>-<n>`, tells whose it is, so that [`sweep`] can remove what a killed run left.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with `lo` up and IPv6 addresses usable at once (no duplicate detection).
    ///
    /// # Errors
    /// Without root.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        ip(&format!("netns add {name}")).context("network namespaces need root")?;
        let namespace = Self { name };
        ip(&format!("-n {} link set lo up", namespace.name))?;
        for (key, value) in [
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ] {
            namespace.set(key, value)?;
        }
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in the namespace. Its process id is that of the program itself.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Runs a program in the namespace to its end; arguments are separated by blanks.
    ///
    /// # Errors
    /// As [`command::run`].
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        command::run(self.command(program).args(words))
    }

    /// Calls `f` on a thread inside the namespace. Sockets that it opens stay there for life.
    ///
    /// # Errors
    /// When the namespace cannot be entered. A panic in `f` goes on in the caller.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind)?;
                Ok(f())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets a kernel parameter of the namespace, named as its path under `/proc/sys`.
    ///
    /// # Errors
    /// When there is no such parameter or the value is refused.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(format!("/proc/sys/{key}"), value))?
            .with_context(|| format!("setting {key} to {value} in {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes the namespaces of runs whose process is gone, with what runs in them.
///
/// # Errors
/// When the namespaces cannot be listed.
pub fn sweep() -> Result<()> {
    for line in ip("netns list")?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(name);
        }
    }
    Ok(())
}

/// The process that made the namespace of this name; none when it is not one of ours.
fn owner(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Kills what runs in the namespace, then removes it; what is gone already is no failure.
fn remove(name: &str) {
    for pid in ip(&format!("netns pids {name}")).unwrap_or_default().lines() {
        if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
            let _already_gone = kill_process(pid, Signal::KILL);
        }
    }
    let _already_gone = ip(&format!("netns del {name}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_namespace_it_is() {
        assert_eq!(owner("weir-12-3"), Some(12));
        assert_eq!(owner("weir-12"), None);
        assert_eq!(owner("weir-a-3"), None);
        assert_eq!(owner("other-12-3"), None);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_dropped_namespace_is_gone_with_what_ran_in_it() {
        let namespace = Namespace::new().unwrap();
        let name = namespace.name().to_owned();
        let mut child = namespace.command("sleep").arg("1000").spawn().unwrap();
        // `ip netns exec` becomes the program in the namespace it has entered.
        let inside = || ip(&format!("netns pids {name}")).unwrap();
        while !inside().lines().any(|pid| pid.trim() == child.id().to_string()) {}
        drop(namespace);
        assert!(!child.wait().unwrap().success());
        assert!(!ip("netns list").unwrap().contains(&name));
    }

    #[test]
    #[ignore = "needs root"]
    fn what_a_killed_run_left_is_swept() {
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let left = format!("weir-{}-0", dead.id());
        ip(&format!("netns add {left}")).unwrap();
        let ours = Namespace::new().unwrap();
        sweep().unwrap();
        let after = ip("netns list").unwrap();
        assert!(!after.contains(&left) && after.contains(ours.name()), "{after}");
    }

    #[test]
    #[ignore = "needs root"]
    fn a_closure_runs_inside_and_the_caller_stays_outside() {
        let links = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let namespace = Namespace::new().unwrap();
        let outside = links();
        let inside = namespace.enter(links).unwrap();
        assert!(inside.contains("lo:") && inside.lines().count() == 3, "{inside}");
        assert_eq!(outside.lines().count(), links().lines().count());
    }
}
