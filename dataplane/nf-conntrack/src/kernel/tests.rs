//! Entries that the kernel itself makes and tells, in a network namespace of the test.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::carried::Carried;
use crate::entry::{Adjustment, Connection, Entry};
use crate::flows::{Flows, Refusal};
use crate::protocol_state::ProtocolState;
use crate::tuple::Ends;

/// A network namespace that goes with its guard.
struct Namespace(String);

impl Namespace {
    fn new(test: &str) -> Self {
        let name = format!("weir-{test}-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status().unwrap();
        assert!(made.success(), "network namespaces need root");
        Self(name)
    }

    /// Checks the flows of its kernel, on a thread that is there.
    fn check(&self, check: impl FnOnce(Flows<Kernel>) + Send) {
        thread::scope(|scope| {
            let inside = scope.spawn(|| check(self.flows()));
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    fn flows(&self) -> Flows<Kernel> {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        Flows { table: Kernel::open(1 << 20).unwrap(), carried: Carried::new(1, 100) }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn entry(protocol: u8, ends: (Ends, Ends), protocol_state: ProtocolState) -> Entry {
    let tuple = |src: [u8; 4], dst: [u8; 4], ends| Tuple {
        src: src.into(),
        dst: dst.into(),
        protocol,
        ends,
    };
    Entry {
        original: tuple([10, 1, 0, 2], [10, 9, 0, 2], ends.0),
        reply: tuple([10, 9, 0, 2], [203, 0, 113, 1], ends.1),
        zone: 0,
        status: 6,
        mark: 42,
        timeout: Some(300),
        protocol_state,
        counters: Default::default(),
        sequence: None,
        proxy: None,
        labels: None,
        obstacle: None,
        id: 0,
        connection: Connection::default(),
    }
}

fn ports(src: u16, dst: u16) -> Ends {
    Ends::Ports { src, dst }
}

const TCP: ProtocolState = ProtocolState::Tcp { state: 3, scales: [7, 9], flags: [0x03, 0x07] };

/// An entry without what time and the kernel give to it.
fn lasting(entry: &Entry) -> Entry {
    Entry { id: 0, timeout: None, ..entry.clone() }
}

/// As the kernel repeats one, and as it has another in its place.
#[test]
fn a_listing_gives_an_entry_once_and_one_that_has_begun_anew_again() {
    let mut given = Given::default();
    let first = Entry { id: 7, ..entry(6, (ports(1, 2), ports(2, 1)), TCP) };
    let changed = Entry { timeout: Some(9), ..first.clone() };
    let anew = Entry { id: 8, ..first.clone() };
    let other = Entry { id: 7, ..entry(6, (ports(1, 3), ports(3, 1)), TCP) };
    let zoned = Entry { zone: 1, ..first.clone() };
    let all = [(&first, true), (&changed, false), (&anew, true), (&other, true), (&zoned, true)];
    for (entry, is_new) in all {
        assert_eq!(given.is_new(entry), is_new, "{entry:?}");
        assert!(!given.is_new(entry));
    }
}

#[test]
#[ignore = "needs root"]
fn the_kernel_has_of_every_kind_of_entry_what_it_was_told() {
    Namespace::new("kinds").check(has_what_it_was_told);
}

fn has_what_it_was_told(mut flows: Flows<Kernel>) {
    let adjustment = |offset| Adjustment { position: 1_000, before: offset, after: offset + 1 };
    let tcp = entry(6, (ports(4000, 80), ports(8080, 5000)), TCP);
    let sctp = ProtocolState::Sctp { state: 3, tags: [7, 8] };
    let all = [
        Entry { zone: 7, ..tcp.clone() },
        Entry {
            sequence: Some([adjustment(5), adjustment(u32::MAX - 9)]),
            proxy: Some([1, 2, 3]),
            status: 6 | 1 << 10,
            ..entry(6, (ports(4001, 80), ports(80, 5001)), TCP)
        },
        tcp,
        // Neither answered nor translated.
        Entry {
            status: 0,
            reply: Tuple {
                src: [10, 9, 0, 2].into(),
                dst: [10, 1, 0, 2].into(),
                protocol: 17,
                ends: ports(53, 4000),
            },
            ..entry(17, (ports(4000, 53), ports(53, 4000)), ProtocolState::None)
        },
        entry(
            1,
            (Ends::Echo { id: 7, kind: 8, code: 0 }, Ends::Echo { id: 99, kind: 0, code: 0 }),
            ProtocolState::None,
        ),
        entry(132, (ports(4000, 80), ports(80, 4000)), sctp),
        // IP in IP, which has nothing to tell flows apart by.
        entry(4, (Ends::None, Ends::None), ProtocolState::None),
    ];
    for wanted in &all {
        assert_eq!(flows.put(wanted, 0), Ok(()), "{wanted:?}");
        let found = flows.table.find(&wanted.original, wanted.zone).unwrap().unwrap();
        assert_eq!(lasting(&found), lasting(wanted));
        assert!(found.timeout.is_some_and(|left| (290..=300).contains(&left)), "{found:?}");
    }
    assert_eq!(flows.table.numbers().unwrap().len(), all.len());
    for wanted in &all {
        assert_eq!(flows.delete(&wanted.reply, wanted.zone), Ok(true));
    }
    assert!(flows.table.numbers().unwrap().is_empty());
}

#[test]
#[ignore = "needs root"]
fn what_the_kernel_leaves_out_or_refuses_is_a_refusal_and_leaves_nothing() {
    Namespace::new("refusals").check(leaves_nothing_of_a_refusal);
}

fn leaves_nothing_of_a_refusal(mut flows: Flows<Kernel>) {
    let tcp = entry(6, (ports(4000, 80), ports(80, 5000)), TCP);
    let labels = Some([1; 16]);
    let labelled = flows.put(&Entry { labels, ..tcp.clone() }, 0);
    assert!(matches!(&labelled, Err(Refusal::Unsupported(what)) if what.contains("labels")));
    assert!(flows.table.numbers().unwrap().is_empty());
    // The address of another, seen before anything is changed.
    flows.put(&tcp, 0).unwrap();
    let clash = flows.put(&entry(6, (ports(4001, 80), ports(80, 5000)), TCP), 0);
    assert!(
        matches!(&clash, Err(Refusal::Clash(with)) if with.contains("sport=4000")),
        "{clash:?}"
    );
    // What only the kernel knows to be impossible: it is undone, and what there was is restored.
    let state = ProtocolState::Tcp { state: 200, scales: [0; 2], flags: [0; 2] };
    let bad = flows.put(&Entry { protocol_state: state, ..tcp.clone() }, 0);
    assert!(matches!(bad, Err(Refusal::Malformed(_))), "{bad:?}");
    let found = flows.table.find(&tcp.original, 0).unwrap().unwrap();
    assert_eq!(lasting(&found), lasting(&tcp));
}
