//! A worker that reads a neighbour's address while the owner of the port changes it.

#[path = "../../src/neighbour/adjacency.rs"]
#[expect(dead_code, unreachable_pub, reason = "the models use a part of it")]
mod table;

use loom::sync::Arc;
use loom::thread;
use weir_state_transfer::PortId;

use crate::check;
use crate::packet::MacAddr;
use crate::sync::{AtomicU32, Ordering, Weakness, weakened};
use table::{AdjacencyId, AdjacencyTable};

const OLD: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0xff, 0, 0xff, 0, 2])];
const NEW: MacAddr = MacAddr([2, 3, 3, 3, 3, 3]);

/// The id of the only slot's neighbour, the first or a later one.
fn tenant(tenancy: u8) -> AdjacencyId {
    AdjacencyId::new(PortId(0), 0, tenancy)
}

/// A neighbour changes its address and is forgotten; its slot goes to another, whose id is `new`.
fn a_slot_is_given_away(new: AdjacencyId) {
    check(move || {
        let table = AdjacencyTable::new(1, 1);
        // Stands for the ring in which workers are told of a neighbour.
        let told = Arc::new(AtomicU32::default());
        table.set(tenant(0), OLD[0]);
        let reader = {
            let (table, told) = (table.clone(), Arc::clone(&told));
            thread::spawn(move || {
                let told = told.load(Ordering::Acquire);
                let mac = |id| table.get(id).map(|found| found.mac);
                let found = mac(tenant(0));
                assert!(found.is_none_or(|mac| OLD.contains(&mac)), "the address of another");
                if told != 0 {
                    let found = mac(AdjacencyId::from_bits(told));
                    assert_eq!(found, Some(NEW), "told of a neighbour that is not there");
                }
            })
        };
        table.set(tenant(0), OLD[1]);
        table.clear(tenant(0));
        table.set(new, NEW);
        told.store(new.bits(), Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn the_id_of_a_neighbour_that_is_gone_finds_nothing_rather_than_the_next_one() {
    a_slot_is_given_away(tenant(1));
}

#[test]
#[should_panic(expected = "the address of another")]
fn control_a_slot_given_away_without_a_new_tenancy() {
    a_slot_is_given_away(tenant(0));
}

#[test]
#[should_panic(expected = "told of a neighbour that is not there")]
fn control_workers_told_without_a_release() {
    weakened(Weakness::Stores, || a_slot_is_given_away(tenant(1)));
}
