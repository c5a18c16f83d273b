//! The adjacency table in one thread.

use weir_state_transfer::PortId;

use super::*;
use crate::packet::MacAddr;

const MAC: MacAddr = MacAddr([2, 1, 2, 3, 4, 5]);

#[test]
fn a_neighbour_is_found_until_it_is_cleared_or_its_slot_given_away() {
    let table = AdjacencyTable::new(2, 4);
    let id = AdjacencyId::new(PortId(1), 3, 255);
    assert_eq!(table.get(id), None);
    table.set(id, MAC);
    assert_eq!(table.get(id), Some(Adjacency { port: PortId(1), mac: MAC }));
    assert_eq!(table.get(AdjacencyId::from_bits(id.bits())), table.get(id));
    let next = AdjacencyId::new(PortId(1), 3, 0);
    assert_eq!(table.get(next), None);
    table.set(next, MAC);
    assert_eq!(table.get(id), None);
    table.clear(next);
    assert_eq!(table.get(next), None);
}

#[test]
fn ids_outside_the_table_find_nothing_and_touch_no_other_port() {
    let table = AdjacencyTable::new(2, 4);
    for id in [AdjacencyId::new(PortId(0), 4, 0), AdjacencyId::new(PortId(2), 0, 0)] {
        table.set(id, MAC);
        table.clear(id);
        assert_eq!(table.get(id), None);
    }
    assert_eq!(table.get(AdjacencyId::new(PortId(1), 0, 0)), None);
}
