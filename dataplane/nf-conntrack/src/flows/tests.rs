//! Puts into a table in memory, that does what the kernel does.

use super::*;
use crate::entry::{Connection, Counters};
use crate::protocol_state::ProtocolState;
use crate::tuple::Ends;

/// A table that refuses two flows of one tuple, and can be told to fail.
#[derive(Debug, Default)]
struct Memory {
    entries: Vec<Entry>,
    /// Numbers that were given to entries.
    last: u32,
    /// What becomes of the next creations, the last first.
    fails: Vec<Errno>,
    /// Makes the next creation come after one by a packet.
    hasty: usize,
    /// Whether another translation is chosen than the one that was told.
    chooses: bool,
}

impl Table for Memory {
    fn find(&mut self, tuple: &Tuple, zone: u16) -> Result<Option<Entry>, Error> {
        let has = |entry: &&Entry| {
            entry.zone == zone && (entry.original == *tuple || entry.reply == *tuple)
        };
        Ok(self.entries.iter().find(has).cloned())
    }

    fn create(&mut self, entry: &Entry) -> Result<(), Error> {
        if let Some(errno) = self.fails.pop() {
            return Err(Error::Refused(errno));
        }
        if self.hasty > 0 {
            self.hasty -= 1;
            self.last += 1;
            self.entries.push(Entry { id: self.last, ..entry.clone() });
        }
        for tuple in [&entry.original, &entry.reply] {
            if self.find(tuple, entry.zone)?.is_some() {
                return Err(Error::Refused(Errno::EXIST));
            }
        }
        self.last += 1;
        let mut made = Entry {
            id: self.last,
            counters: Default::default(),
            connection: Connection::default(),
            ..entry.clone()
        };
        if self.chooses {
            made.reply.ends = Ends::Ports { src: 80, dst: 1 };
        }
        self.entries.push(made);
        Ok(())
    }

    fn delete(&mut self, entry: &Entry) -> Result<bool, Error> {
        let before = self.entries.len();
        self.entries.retain(|other| other.id != entry.id);
        Ok(self.entries.len() < before)
    }
}

/// A flow of a client, whose port is translated to `public`.
fn entry(client: u16, public: u16) -> Entry {
    let tuple = |src: [u8; 4], dst: [u8; 4], ports: (u16, u16)| Tuple {
        src: src.into(),
        dst: dst.into(),
        protocol: 6,
        ends: Ends::Ports { src: ports.0, dst: ports.1 },
    };
    Entry {
        original: tuple([10, 1, 0, 2], [10, 9, 0, 2], (client, 80)),
        reply: tuple([10, 9, 0, 2], [203, 0, 113, 1], (80, public)),
        zone: 0,
        status: 6,
        mark: 0,
        timeout: Some(300),
        protocol_state: ProtocolState::Tcp { state: 3, scales: [7, 7], flags: [3, 3] },
        counters: [Counters { packets: 5, bytes: 500 }, Counters { packets: 4, bytes: 400 }],
        sequence: None,
        proxy: None,
        labels: None,
        obstacle: None,
        id: 0,
        connection: Connection { kernel: 7, number: u32::from(client), began: 0 },
    }
}

fn flows() -> Flows<Memory> {
    Flows { table: Memory::default(), carried: Carried::new(1, 3) }
}

/// What is known of a flow, with what it has brought.
fn known(flows: &mut Flows<Memory>, entry: &Entry) -> Option<Entry> {
    let found = flows.table.find(&entry.original, entry.zone).unwrap()?;
    Some(Entry { id: 0, ..flows.carried.complete(found) })
}

#[test]
fn what_is_older_changes_nothing() {
    let mut flows = Flows { table: Memory::default(), carried: Carried::new(1, 9) };
    let of = |packets| {
        let counters = [Counters { packets, bytes: 60 * packets }, Counters::default()];
        Entry { counters, ..entry(4000, 4000) }
    };
    flows.put(&of(9), 9).unwrap();
    let before = flows.table.entries.clone();
    assert_eq!(flows.put(&of(8), 8), Err(Refusal::Older(9)));
    assert_eq!(flows.table.entries, before);
    for version in [9, 10, 0] {
        assert_eq!(flows.put(&of(version), version), Ok(()), "{version}");
    }
}

#[test]
fn a_tuple_that_is_used_again_is_another_connection() {
    let mut flows = flows();
    let of = |number, packets, began| {
        let counters = [Counters { packets, bytes: 60 * packets }, Counters::default()];
        let connection = Connection { kernel: 7, number, began };
        Entry { counters, connection, ..entry(4000, 4000) }
    };
    // The one before has counted more.
    flows.put(&of(1, 900, 0), 900).unwrap();
    assert_eq!(flows.put(&of(2, 3, 0), 3), Ok(()));
    assert_eq!(known(&mut flows, &of(2, 3, 0)), Some(of(2, 3, 0)));
    assert_eq!(flows.put(&of(2, 2, 0), 2), Err(Refusal::Older(3)));
    // So has one that began here.
    flows.table.entries[0].counters[0].packets = 500;
    flows.carried.forget(&of(2, 3, 0));
    assert_eq!(flows.put(&of(3, 4, 50), 4), Ok(()));
    // Where it is known when they began, the later one stays.
    assert_eq!(flows.put(&of(4, 800, 40), 800), Err(Refusal::Older(4)));
    assert_eq!(known(&mut flows, &of(3, 4, 50)), Some(of(3, 4, 50)));
    assert_eq!(flows.put(&of(5, 1, 60), 1), Ok(()));
}

#[test]
fn a_flow_that_is_put_twice_is_there_once_with_what_it_has_counted() {
    let mut flows = flows();
    let one = entry(4000, 4000);
    for _ in 0..2 {
        assert_eq!(flows.put(&one, 0), Ok(()));
        assert_eq!(known(&mut flows, &one), Some(one.clone()));
    }
    let moved = entry(4000, 5000);
    assert_eq!(flows.put(&moved, 0), Ok(()));
    assert_eq!((known(&mut flows, &one), flows.table.entries.len()), (Some(moved), 1));
    // Either direction names it.
    assert_eq!(flows.delete(&entry(0, 5000).reply, 0), Ok(true));
    assert_eq!(flows.delete(&one.original, 0), Ok(false));
}

#[test]
fn a_flow_that_needs_what_another_has_is_refused_and_changes_nothing() {
    let mut flows = flows();
    flows.put(&entry(4000, 4000), 0).unwrap();
    flows.put(&entry(4001, 4001), 0).unwrap();
    let before = flows.table.entries.clone();
    // The address of another, for a flow that is there, and for a new one.
    for taken in [entry(4001, 4000), entry(4002, 4000)] {
        let refused = flows.put(&taken, 0).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Clash(with) if with.contains("sport=4000")),
            "{refused:?}"
        );
    }
    // Packets that are the replies of another.
    let reply = entry(4000, 4000).reply;
    let backwards = Entry { original: reply, reply: entry(9, 9).original, ..entry(0, 0) };
    assert!(matches!(flows.put(&backwards, 0), Err(Refusal::Clash(_))));
    assert_eq!(flows.table.entries, before);
    // In another zone it is another.
    assert_eq!(flows.put(&Entry { zone: 7, ..entry(4002, 4000) }, 0), Ok(()));
}

#[test]
fn what_was_there_is_restored_when_its_heir_can_not_be_made() {
    let mut flows = flows();
    let old = entry(4000, 4000);
    flows.put(&old, 0).unwrap();
    let new = Entry { mark: 9, ..old.clone() };
    flows.table.fails = vec![Errno::NOMEM];
    assert_eq!(flows.put(&new, 0), Err(Refusal::Full));
    assert_eq!(known(&mut flows, &old), Some(old.clone()));
    flows.table.fails = vec![Errno::INVAL];
    assert_eq!(flows.put(&new, 0), Err(Refusal::Malformed(Errno::INVAL)));
    assert_eq!(known(&mut flows, &old), Some(old.clone()));
    // Where not even that is possible, the kernel has failed.
    flows.table.fails = vec![Errno::NOMEM, Errno::NOMEM];
    assert_eq!(flows.put(&new, 0), Err(Refusal::Failed(Error::Lost)));
}

#[test]
fn packets_that_come_first_do_not_keep_a_flow_out_unless_they_always_do() {
    let mut flows = flows();
    flows.table.hasty = 1;
    assert_eq!(flows.put(&entry(4000, 4000), 0), Ok(()));
    assert_eq!(flows.table.entries.len(), 1);
    flows.table.hasty = usize::MAX;
    assert!(matches!(flows.put(&entry(4001, 4001), 0), Err(Refusal::Clash(_))));
}

#[test]
fn what_the_kernel_makes_of_it_otherwise_is_undone() {
    let mut flows = flows();
    flows.table.chooses = true;
    assert!(matches!(flows.put(&entry(4000, 4000), 0), Err(Refusal::Clash(_))));
    assert!(flows.table.entries.is_empty());
}

#[test]
fn what_can_not_be_had_is_refused_by_name() {
    let mut flows = flows();
    let helped = Entry { obstacle: Some("the helper ftp".to_owned()), ..entry(4000, 4000) };
    assert_eq!(flows.put(&helped, 0), Err(Refusal::Unsupported("the helper ftp".to_owned())));
    let endless = Entry { timeout: None, ..entry(4000, 4000) };
    assert!(matches!(flows.put(&endless, 0), Err(Refusal::Unsupported(_))));
    assert!(flows.table.entries.is_empty());
    for port in 1..=3 {
        flows.put(&entry(port, port), 0).unwrap();
    }
    assert_eq!(flows.put(&entry(4, 4), 0), Err(Refusal::Full));
    // Flows that have ended make room.
    flows.table.entries.clear();
    flows.carried.retain(|_| false);
    assert_eq!(flows.put(&entry(4, 4), 0), Ok(()));
}
