//! The sidecar as a process: told to stop, and killed while it writes.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use weir_control::store::Database;

use crate::support::node::{LIMIT, Node, block_on, limited, weir};

/// A sidecar in a process, which is killed when a test ends early.
struct Process(Child);

/// Starts the sidecar and waits until it serves.
fn start(config: &Path, more: &[&str]) -> Process {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir-control"))
        .args(["--config".as_ref(), config.as_os_str()])
        .args(more)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("serves") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the sidecar ended");
    }
    // The pipe stays open and is read, so that logging never fails or blocks.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Process(child)
}

impl Process {
    /// Tells it to stop, and waits until it has.
    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_child(&self.0);
        let ended = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let limit = Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
        let stopped = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit));
        assert_eq!(stopped, Ok(1), "it does not stop");
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn a_sidecar_told_to_stop_leaves_its_operation_to_the_next() {
    let node = Node::new(1);
    let config = node.directory.0.join("weir.toml");
    std::fs::write(&config, node.config_text("")).unwrap();
    let socket = node.directory.0.join("control.sock");
    let server = format!("unix://{}", socket.display());
    let scale =
        |verb: &[&str]| weir(&[&["-s", &server, "--timeout", "60s", "scale"], verb].concat());
    let mut child = start(&config, &["--pause-at", "move:2"]);
    assert!(scale(&["--to", "4"]).status.success());
    while node.fake.model().moves.is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(child.stop(), Some(0));
    assert!(!socket.exists(), "the socket is gone");
    node.fake.model().assert_sound();
    let mut child = start(&config, &[]);
    assert!(scale(&["watch", "1"]).status.success(), "it is finished");
    assert_eq!(node.fake.model().active().len(), 4);
    assert_eq!(child.stop(), Some(0));
}

/// As where the disk of its log is full.
#[test]
fn a_sidecar_whose_log_can_not_be_written_serves_and_stops_in_order() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    serves_and_stops(full.into(), "info", 1);
}

/// As where it goes to a pipe whose reader stands still.
#[test]
fn a_sidecar_whose_log_nobody_reads_serves_and_stops_in_order() {
    let (unread, log) = std::io::pipe().unwrap();
    let page = rustix::pipe::fcntl_setpipe_size(&log, 4096).unwrap();
    serves_and_stops(log.into(), "trace", 20);
    let waits = rustix::io::ioctl_fionread(&unread).unwrap() as usize;
    assert!(waits > page - 1024, "it has logged more than the pipe has room for: {waits}");
}

/// A sidecar with a log of this level answers some questions, scales and stops.
fn serves_and_stops(log: Stdio, level: &str, questions: usize) {
    let node = Node::new(1);
    let config = node.directory.0.join("weir.toml");
    std::fs::write(&config, node.config_text("")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_weir-control"))
        .args(["--config".as_ref(), config.as_os_str()])
        .env("WEIR_LOG", level)
        .stderr(log)
        .spawn();
    let mut child = Process(child.unwrap());
    let socket = node.directory.0.join("control.sock");
    let server = format!("unix://{}", socket.display());
    let mut serves = || {
        assert_eq!(child.0.try_wait().unwrap(), None, "it goes on");
        weir(&["-s", &server, "status"]).status.success()
    };
    block_on(limited(async {
        while !serves() {
            tokio::task::yield_now().await;
        }
    }));
    for _ in 0..questions {
        assert!(serves());
    }
    // What is told of it is logged.
    let scaled = weir(&["-s", &server, "--timeout", "60s", "scale", "--to", "2"]);
    assert!(scaled.status.success(), "{scaled:?}");
    assert_eq!(child.stop(), Some(0));
}

#[test]
fn what_a_killed_process_acknowledged_is_in_its_store() {
    let node = Node::new(1);
    let config = node.directory.0.join("weir.toml");
    std::fs::write(&config, node.config_text("")).unwrap();
    let socket = node.directory.0.join("control.sock");
    let server = format!("unix://{}", socket.display());
    let mut begun_at_all = false;
    for round in 0..6_u32 {
        let mut child = start(&config, &[]);
        let count = 1 + round % 4;
        let instances = count.to_string();
        let switch = if round.is_multiple_of(2) { "on" } else { "off" };
        let auto = weir(&["-s", &server, "--timeout", "60s", "scale", "auto", switch]);
        assert!(auto.status.success(), "{auto:?}");
        // Not waited for: the sidecar is killed somewhere inside the operation.
        let begun = weir(&["-s", &server, "--timeout", "60s", "scale", "--to", &instances]);
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        node.fake.model().assert_sound();
        begun_at_all |= begun.status.success();
        let database = Database::open(&node.store()).unwrap();
        let desired = database.desired().unwrap();
        assert_eq!(desired.auto, Some(switch == "on"), "round {round}");
        // An earlier operation that is still being taken up refuses the command.
        if begun.status.success() {
            assert_eq!(database.operations(1).unwrap()[0].to, count, "round {round}");
        }
    }
    assert!(begun_at_all, "no operation was begun");
}
