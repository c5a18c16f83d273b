//! Next hops: found at once, or asked for while the packet waits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weir_state_transfer::{Nanos, PortId, WorkerId};

use super::{Event, FaultStage, Forwarder, Item, Packet, Shared};
use crate::local::PortAddresses;
use crate::neighbour::{
    Adjacency, AdjacencyId, AdjacencyTable, Directory, Output, Owner, Parked, Refused, Resolution,
    write_probe,
};
use crate::packet::{DropReason, Meta};

/// What a worker knows of next hops, and the packets that wait for them.
#[derive(Debug)]
pub(super) struct Resolver {
    table: AdjacencyTable,
    directory: Directory,
    pub(super) parked: Parked<Packet>,
    /// Whose packets are being let go: the rest of them would stay if that panics.
    pub(super) releasing: Option<Resolution>,
    /// The state machines of the ports that this worker owns.
    owners: BTreeMap<PortId, Owner>,
    /// The worker that owns each port, by port number.
    owner_of: Vec<Option<WorkerId>>,
    ports: Arc<[PortAddresses]>,
}

impl Resolver {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            table: shared.adjacencies.clone(),
            directory: Directory::new(shared.neighbours_max),
            parked: Parked::new(shared.park),
            releasing: None,
            owners: BTreeMap::new(),
            owner_of: Vec::new(),
            ports: shared.port_addresses.clone(),
        }
    }

    /// The neighbour that a flow entry keeps the number of, if it is still known.
    #[inline]
    pub(super) fn adjacency(&self, bits: u32) -> Option<Adjacency> {
        self.table.get(AdjacencyId::from_bits(bits))
    }

    /// The number of a neighbour that is known and that no packet waits for.
    pub(super) fn find(&self, port: PortId, address: IpAddr) -> Option<u32> {
        let id = self.directory.get(port, address)?;
        let waits = self.parked.waits_for(port, address);
        (!waits && self.table.get(id).is_some()).then_some(id.bits())
    }

    pub(super) fn own(&mut self, owner: Owner) {
        self.owners.insert(owner.port(), owner);
    }

    pub(super) fn owner_mut(&mut self, port: PortId) -> Option<&mut Owner> {
        self.owners.get_mut(&port)
    }

    pub(super) fn set_owner(&mut self, port: PortId, worker: WorkerId) {
        let index = usize::from(port.0);
        if self.owner_of.len() <= index {
            self.owner_of.resize(index + 1, None);
        }
        self.owner_of[index] = Some(worker);
    }

    pub(super) fn owner_of(&self, port: PortId) -> Option<WorkerId> {
        self.owner_of.get(usize::from(port.0)).copied().flatten()
    }

    pub(super) fn give_up_ports(&mut self) -> Vec<Owner> {
        std::mem::take(&mut self.owners).into_values().collect()
    }
}

impl Forwarder {
    /// Parks a packet until its next hop is known, and asks the port's owner for it.
    pub(super) fn wait(&mut self, port: PortId, address: IpAddr, packet: Packet) {
        let parked = self.resolver.parked.park(port, address, packet);
        self.ask_for_first(port, address, parked);
    }

    /// Goes on with a packet that waited for its next hop at the worker that its flow came from.
    pub(super) fn wait_here(&mut self, port: PortId, address: IpAddr, packet: Packet) {
        if let Some(id) = self.resolver.find(port, address) {
            let Packet { frame, meta, port: came_by } = packet;
            return self.send_via(id, frame, &meta, came_by);
        }
        let parked = self.resolver.parked.take_in(port, address, packet);
        self.ask_for_first(port, address, parked);
    }

    fn ask_for_first(
        &mut self,
        port: PortId,
        address: IpAddr,
        parked: Result<bool, Refused<Packet>>,
    ) {
        let is_first = match parked {
            Ok(is_first) => is_first,
            Err(Refused(packet, reason)) => return self.drop_packet(packet, reason),
        };
        self.in_hand.put_down();
        if is_first {
            self.ask(port, address);
        }
    }

    /// Asks the owner of a port for a next hop.
    pub(super) fn ask(&mut self, port: PortId, address: IpAddr) {
        match self.resolver.owner_of(port) {
            Some(owner) => self.hand_out(owner, Item::Resolve(port, address)),
            None => self.resolved(&Resolution { port, address, id: None }),
        }
    }

    /// Another worker, or this one, wants to know a next hop of a port that this worker owns.
    pub(super) fn resolve_for_others(&mut self, port: PortId, address: IpAddr) {
        let now = self.now;
        if let Some(owner) = self.resolver.owner_mut(port) {
            owner.request(address, now);
            self.carry_out_outputs(port);
            return;
        }
        match self.resolver.owner_of(port) {
            // The port has changed hands, or is about to: then it comes here again.
            Some(owner) => self.hand_out(owner, Item::Resolve(port, address)),
            None => self.announce(Resolution { port, address, id: None }),
        }
    }

    /// Takes note of what became of a resolution, and lets go the packets that wait for it.
    pub(super) fn resolved(&mut self, resolution: &Resolution) {
        self.resolver.directory.learn(resolution);
        self.resolver.releasing = Some(*resolution);
        let Resolution { port, address, id } = *resolution;
        while let Some(Packet { frame, meta, port: came_by }) =
            self.resolver.parked.pop(port, address)
        {
            self.in_hand.take_up(true);
            self.fault(FaultStage::Resolved);
            match id {
                Some(id) => self.send_via(id.bits(), frame, &meta, came_by),
                None => self.refuse(frame, &meta, came_by, DropReason::NeighbourUnresolved),
            }
            self.in_hand.put_down();
        }
        self.resolver.releasing = None;
    }

    /// Lets the state machines of the owned ports do what is due.
    pub(super) fn poll_neighbours(&mut self, now: Nanos) {
        let due: Vec<_> = self
            .resolver
            .owners
            .iter()
            .filter(|(_, owner)| owner.poll_timeout().is_some_and(|due| due <= now))
            .map(|(port, _)| *port)
            .collect();
        for port in due {
            if let Some(owner) = self.resolver.owner_mut(port) {
                owner.poll(now);
            }
            self.carry_out_outputs(port);
        }
    }

    /// Carries out what the state machine of an owned port wants done.
    pub(super) fn carry_out_outputs(&mut self, port: PortId) {
        while let Some(output) = self.resolver.owner_mut(port).and_then(Owner::next_output) {
            match output {
                Output::Probe(address, to) => {
                    let Some(mut frame) = self.pool.alloc() else {
                        let now = self.now;
                        if let Some(owner) = self.resolver.owner_mut(port) {
                            owner.not_sent(address, now);
                        }
                        continue;
                    };
                    let ports = self.resolver.ports.clone();
                    if write_probe(&mut frame, &ports[usize::from(port.0)], address, to) {
                        self.send(port, frame);
                        self.counters.generated.add(1);
                    } else {
                        self.pool.free(frame);
                    }
                }
                Output::Resolved(resolution) => self.announce(resolution),
            }
        }
    }

    /// Reports the neighbours of the ports that this worker owns.
    pub(super) fn report_neighbours(&mut self, query: u64) {
        let found = self.resolver.owners.values().flat_map(Owner::list).collect();
        self.tell(Event::Neighbours(query, found));
    }

    /// How many packets wait for their next hops that `selected` picks.
    pub(crate) fn count_parked(&self, mut selected: impl FnMut(&Meta) -> bool) -> usize {
        self.resolver.parked.count(|packet| selected(&packet.meta))
    }

    /// Takes out the packets that `selected` picks, with the next hops that they wait for.
    pub(crate) fn unpark(
        &mut self,
        mut selected: impl FnMut(&Meta) -> bool,
        taken: impl FnMut((PortId, IpAddr), Packet),
    ) {
        self.resolver.parked.extract(|packet| selected(&packet.meta), taken);
    }

    /// Packets that wait for their next hop.
    pub(crate) fn parked_len(&self) -> usize {
        self.resolver.parked.len()
    }

    fn announce(&mut self, resolution: Resolution) {
        for peer in self.rings.peers() {
            self.hand_out(peer, Item::Resolved(resolution));
        }
    }
}
