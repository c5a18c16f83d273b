//! Probes of next hops, and whether a worker has taken all that its queues had.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use weir_state_transfer::{PortId, ServiceId};

use super::{Event, Forwarder, Packet, Worker};
use crate::local::probe::{self, Probe};
use crate::packet::{self, Meta, Parsed};

/// Next hops that are to be asked by a worker.
#[derive(Clone, Debug)]
pub struct Probing {
    /// Names the question.
    pub nonce: u64,
    /// By their numbers.
    pub next_hops: Arc<[(u8, PortId, IpAddr)]>,
}

/// Questions whose answers are listened for at one time: of more, the oldest is forgotten.
pub const PROBES_MAX: usize = 8;

/// What a worker knows of questions.
#[derive(Debug, Default)]
pub(super) struct Probes {
    asked: ArrayVec<u64, PROBES_MAX>,
    /// Who wants to know when all queues have been empty.
    catching_up: ArrayVec<u64, PROBES_MAX>,
}

impl Probes {
    fn expect(&mut self, nonce: u64) {
        if !self.asked.contains(&nonce) {
            push(&mut self.asked, nonce);
        }
    }
}

fn push(list: &mut ArrayVec<u64, PROBES_MAX>, nonce: u64) {
    if list.is_full() {
        list.remove(0);
    }
    list.push(nonce);
}

impl Forwarder {
    /// Asks next hops, behind all that this worker has sent to them.
    pub(super) fn probe(&mut self, probing: &Probing) {
        self.probes.expect(probing.nonce);
        for (target, port, address) in probing.next_hops.iter().copied() {
            let probe = Probe { nonce: probing.nonce, worker: self.worker, target };
            self.send_probe(port, address, probe);
        }
    }

    fn send_probe(&mut self, port: PortId, address: IpAddr, probe: Probe) {
        let ports = self.port_addresses.clone();
        let Some(own) = ports.get(usize::from(port.0)) else { return };
        let Some(mut frame) = self.pool.alloc() else { return };
        if !probe::write(&mut frame, own, address, probe) {
            return self.pool.free(frame);
        }
        let Ok(Parsed::Ip(meta)) = packet::parse(frame.data(), ServiceId(0)) else {
            return self.pool.free(frame);
        };
        self.counters.generated.add(1);
        self.in_hand.take_up(true);
        match self.resolver.find(port, address) {
            Some(adjacency) => self.send_via(adjacency, frame, &meta, port),
            None => self.wait(port, address, Packet { frame, meta, port }),
        }
        self.in_hand.put_down();
    }

    /// Tells the node of an answer to a question that was asked, if a packet is one.
    pub(super) fn hear_probe(&mut self, frame: &[u8], meta: &Meta) {
        // Whoever is asked is asked again; a flood of answers must not fill the node's memory.
        if self.probes.asked.is_empty() || self.events_wait() {
            return;
        }
        let answered = probe::answered(frame, meta);
        if let Some(probe) = answered.filter(|probe| self.probes.asked.contains(&probe.nonce)) {
            self.tell(Event::Answered(probe));
        }
    }
}

impl Worker {
    /// Tells the node when all that the queues have now has been taken.
    pub(super) fn catch_up(&mut self, nonce: u64) {
        push(&mut self.forwarder.probes.catching_up, nonce);
    }

    /// The queues have been empty in this round.
    pub(super) fn has_caught_up(&mut self) {
        while let Some(nonce) = self.forwarder.probes.catching_up.pop() {
            self.forwarder.tell(Event::CaughtUp(nonce));
        }
    }
}
