//! A log that nobody reads.

use crate::client::Client;
use crate::origin::Origin;
use crate::process::{LOCAL, Process};
use crate::running::Peer;

/// As where it goes to a pipe whose reader stands still.
#[test]
fn one_whose_log_nobody_reads_answers_and_stops_in_order() {
    let (unread, log) = std::io::pipe().expect("a pipe");
    let page = rustix::pipe::fcntl_setpipe_size(&log, 4096).expect("a page");
    let mut proxy = Process::start_as(1, &LOCAL, None, |command| {
        command.env("RUST_LOG", "trace").stderr(log);
    });
    let peer = Peer::of(&proxy.place);
    for _ in 0..100 {
        assert_eq!(peer.counter("refused_not_absolute"), 0);
    }
    let waits = rustix::io::ioctl_fionread(&unread).expect("a pipe") as usize;
    assert!(waits > page - 1024, "it has logged more than the pipe has room for: {waits}");
    let (origin, mut client) = (Origin::plain(), Client::connect(proxy.address));
    assert_eq!(client.get(&origin.url("/a/10")).status, 200);
    // What is refused is logged.
    assert_eq!(client.get("/a/10").status, 400);
    assert!(proxy.stop().success());
}
