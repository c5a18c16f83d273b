//! Queues and ways out of ports in the configuration.

use super::*;
use crate::config::Transmit;

#[test]
fn queues_default_to_the_number_of_workers() {
    let workers = "[[worker]]\n[[worker]]\n";
    let queues = |text: &str| match accept(text).ports()[0].backend {
        Backend::AfXdp { queues, .. } => queues,
        Backend::Pcap { .. } => panic!("not af_xdp"),
    };
    assert_eq!(queues(PORT), 1);
    assert_eq!(queues(&format!("{workers}{PORT}")), 2);
    assert_eq!(queues(&format!("{workers}{PORT}queues = 4")), 4);
    refuse_one(&format!("{PORT}queues = 65"), 5, &["whole number from 1 to 64"]);
}

#[test]
fn packets_leave_by_the_way_that_a_port_says_and_a_file_has_no_other() {
    let way = |text: &str| match accept(&format!("{PORT}{text}")).ports()[0].backend {
        Backend::AfXdp { transmit, .. } => transmit,
        Backend::Pcap { .. } => panic!("not af_xdp"),
    };
    assert_eq!((way(""), way("transmit = 'socket'")), (Transmit::Socket, Transmit::Socket));
    assert_eq!(way("transmit = 'frames'"), Transmit::Frames);
    refuse_one(&format!("{PORT}transmit = 'frame'"), 5, &["\"socket\" or \"frames\""]);
    let file = "[[port]]\nname = 'a'\nbackend = 'pcap'\nrx = '/x'\ntransmit = 'socket'\n";
    refuse_one(file, 5, &["a pcap port writes to a file"]);
}
