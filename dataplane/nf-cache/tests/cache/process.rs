//! A proxy in a process of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::client::LONG;
use crate::running::Place;

/// Arguments of one for clients and origins on this machine.
pub(crate) const LOCAL: [&str; 3] = ["--listen", "127.0.0.1:0", "--to-local"];

/// A proxy in a process of its own. It is killed at the end, if not before.
pub(crate) struct Process {
    child: Child,
    pub(crate) place: Place,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// A proxy, in a network namespace if one is named.
    pub(crate) fn start(instance: u32, arguments: &[&str], namespace: Option<&str>) -> Self {
        Self::start_as(instance, arguments, namespace, |_| {})
    }

    /// One whose command is changed before.
    pub(crate) fn start_as(
        instance: u32,
        arguments: &[&str],
        namespace: Option<&str>,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let place = Place::new();
        let program = env!("CARGO_BIN_EXE_weir-nf-cache");
        let mut command = match namespace {
            None => Command::new(program),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
        };
        command
            .args(["--instance", &instance.to_string(), "--southbound"])
            .arg(place.socket())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(File::create(place.log()).expect("a file"));
        change(&mut command);
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it is text");
        let address = line.trim().strip_prefix("ready ").expect("it is ready");
        Self { child, address: address.parse().expect("an address"), place }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.log()).expect("its log")
    }

    /// Tells it to stop, and waits until it has: then all is in its log.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        let ended = pidfd_open(pid, PidfdFlags::empty()).expect("it is ours");
        kill_process(pid, Signal::TERM).expect("it is ours");
        let limit = Timespec { tv_sec: LONG.as_secs().cast_signed(), tv_nsec: 0 };
        let stopped = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit));
        assert_eq!(stopped, Ok(1), "it does not stop");
        self.child.wait().expect("it ends")
    }

    /// Ends it at once, if it has not ended.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}
