//! The process as an operator meets it: files in, exit codes and signals, packets from file to
//! file.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod capture;
mod running;

use std::process::Command;

use capture::{Packet, read, write};
use running::{Folder, Running, is_full, unread_pipe};

const BINARY: &str = env!("CARGO_BIN_EXE_weir-dataplane");

fn check(folder: &Folder, text: &str) -> (Option<i32>, String, String) {
    let file = folder.file("weir.toml", text);
    let output = Command::new(BINARY).arg("--check").arg(file).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_good_file_is_ok_and_a_bad_one_has_exit_code_5_and_all_errors() {
    let folder = Folder::new("check");
    let (code, out, notes) = check(&folder, &one_port(&folder));
    assert_eq!((code, &*out), (Some(0), "ok\n"));
    assert!(notes.contains("not checked") && notes.contains("devices and their queues"), "{notes}");
    let (code, out, errors) = check(&folder, "[node]\nnam = 'a'\n[memry]\n");
    assert_eq!((code, &*out), (Some(5), ""));
    assert!(errors.contains("weir.toml:2:1") && errors.contains("did you mean `name`?"));
    assert!(errors.contains("weir.toml:3:2") && errors.contains("did you mean `memory`?"));
}

/// A port that captures what is sent.
fn one_port(folder: &Folder) -> String {
    let file = folder.path("one.pcap");
    format!("[[port]]\nname = 'one'\nbackend = 'pcap'\ntx = '{}'\n", file.display())
}

#[test]
fn a_file_without_a_port_is_neither_ok_nor_started() {
    let folder = Folder::new("empty");
    let (code, out, errors) = check(&folder, "");
    assert_eq!((code, &*out), (Some(5), ""));
    assert!(errors.contains("there is no [[port]]") && errors.contains("device = "), "{errors}");
    let socket = folder.path("dataplane.sock");
    let file = folder.file("weir.toml", &format!("[dataplane]\nsocket = '{}'\n", socket.display()));
    let output = Command::new(BINARY).arg("--config").arg(file).output().unwrap();
    assert_eq!((output.status.code(), socket.exists()), (Some(5), false));
}

#[test]
fn each_cause_of_an_error_is_said_once() {
    let folder = Folder::new("causes");
    let socket = folder.path("dataplane.sock");
    std::fs::write(folder.path("file"), "").unwrap();
    let below_a_file = folder.path("file").join("dataplane.sock");
    let start = |socket: &std::path::Path, port: &str| {
        let text = format!("[dataplane]\nsocket = '{}'\n{port}", socket.display());
        let file = folder.file("weir.toml", &text);
        let output = Command::new(BINARY).arg("--config").arg(file).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let device = "[[port]]\nname = 'a'\nbackend = 'af_xdp'\ndevice = 'nosuchdevice'\n";
    for errors in [start(&below_a_file, &one_port(&folder)), start(&socket, device)] {
        assert_eq!(errors.matches("(os error ").count(), 1, "{errors}");
    }
}

#[test]
fn a_bad_file_starts_nothing() {
    let folder = Folder::new("bad");
    let socket = folder.path("dataplane.sock");
    let text = format!("[dataplane]\nsocket = '{}'\nbad = 1\n", socket.display());
    let file = folder.file("weir.toml", &text);
    let status = Command::new(BINARY).arg("--config").arg(file).output().unwrap().status;
    assert_eq!(status.code(), Some(5));
    assert!(!socket.exists());
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_its_own() {
    let output = Command::new(BINARY).args(["--check", "/nonexistent/weir.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let expected =
        "error: cannot read /nonexistent/weir.toml: No such file or directory (os error 2)";
    assert_eq!(errors.trim_end(), expected);
}

#[test]
fn it_stops_cleanly_at_sigterm_and_at_sigint_and_a_second_one_is_refused() {
    let folder = Folder::new("stop");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let running = Running::start(&folder, &one_port(&folder));
        assert!(running.socket().exists());
        let second = Command::new(BINARY).arg("--config").arg(running.config()).output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        let errors = String::from_utf8(second.stderr).unwrap();
        assert!(errors.contains("is served by another process"), "{errors}");
        let socket = running.socket().to_owned();
        assert_eq!(running.stop(signal).code(), Some(0));
        assert!(!socket.exists());
    }
}

/// As where the disk of its log is full.
#[test]
fn one_whose_log_can_not_be_written_serves_and_stops_cleanly() {
    let folder = Folder::new("log");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let running = Running::start_as(&folder, &one_port(&folder), |command| {
        command.stderr(full);
    });
    running.until_transmitted(0);
    assert_eq!(running.stop(rustix::process::Signal::TERM).code(), Some(0));
}

/// As where it goes to a pipe whose reader stands still.
#[test]
fn one_whose_log_nobody_reads_outlives_a_panic_and_stops_cleanly() {
    let folder = Folder::new("unread");
    let (unread, log) = unread_pipe();
    let running = Running::start_as(&folder, &one_port(&folder), |command| {
        command.arg("--faults").env("RUST_LOG", "trace").stderr(log);
    });
    for _ in 0..100 {
        running.until_transmitted(0);
    }
    assert!(is_full(&unread), "it has logged more than that");
    running.let_a_worker_panic();
    running.until_transmitted(0);
    assert_eq!(running.stop(rustix::process::Signal::TERM).code(), Some(0));
    assert!(is_full(&unread));
}

#[test]
fn a_panic_of_a_worker_is_logged_with_its_place() {
    let folder = Folder::new("panic");
    let log = std::fs::File::create(folder.path("log")).unwrap();
    let running = Running::start_as(&folder, &one_port(&folder), |command| {
        command.arg("--faults").stderr(log);
    });
    running.let_a_worker_panic();
    assert_eq!(running.stop(rustix::process::Signal::TERM).code(), Some(0));
    let log = std::fs::read_to_string(folder.path("log")).unwrap();
    let line = log.lines().find(|line| line.contains("panicked")).expect(&log);
    let place = "ERROR weir_log::panics: thread 'worker-0' panicked at dataplane/src/worker/";
    assert!(line.contains(place), "{line}");
    assert!(log.trim_end().ends_with("stopping"), "what is logged last is there too: {log}");
}

#[test]
fn the_socket_of_a_killed_process_is_taken_over() {
    let folder = Folder::new("killed");
    let running = Running::start(&folder, &one_port(&folder));
    assert_eq!(running.stop(rustix::process::Signal::KILL).code(), None);
    let running = Running::start(&folder, &one_port(&folder));
    assert_eq!(running.stop(rustix::process::Signal::TERM).code(), Some(0));
}

#[test]
fn packets_of_a_file_are_forwarded_in_order_to_a_file() {
    let folder = Folder::new("pcap");
    let (left, right, out) =
        (folder.path("left.pcap"), folder.path("right.pcap"), folder.path("out.pcap"));
    // The host on the right asks for the router, which so learns its address.
    write(&right, &[Packet::arp_request([10, 0, 2, 2], [10, 0, 2, 1])]);
    let packets: Vec<Packet> =
        (0..12).map(|n| Packet::udp([10, 0, 1, 2], [10, 0, 2, 2], n)).collect();
    write(&left, &packets);
    let ports = format!(
        "[[worker]]\n[[worker]]\n\
         [[port]]\nname = 'left'\nbackend = 'pcap'\nrx = '{}'\naddresses = ['10.0.1.1/24']\n\
         mac = '02:00:00:00:01:01'\n\
         [[port]]\nname = 'right'\nbackend = 'pcap'\nrx = '{}'\ntx = '{}'\n\
         addresses = ['10.0.2.1/24']\nmac = '02:00:00:00:02:01'\n",
        left.display(),
        right.display(),
        out.display(),
    );
    let running = Running::start(&folder, &ports);
    running.until_transmitted(packets.len() as u64 + 1);
    assert_eq!(running.stop(rustix::process::Signal::TERM).code(), Some(0));
    let sent = read(&out);
    let numbers: Vec<u8> = sent.iter().filter_map(Packet::udp_number).collect();
    assert_eq!(numbers, (0..12).collect::<Vec<u8>>());
    for packet in sent.iter().filter(|packet| packet.udp_number().is_some()) {
        assert_eq!(packet.ttl(), 63);
        assert!(packet.ip_checksum_is_right());
        assert_eq!(packet.macs(), (Packet::HOST, [2, 0, 0, 0, 2, 1]));
    }
}
