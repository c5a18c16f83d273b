//! Probes of next hops, and whether all that the queues of a worker had is processed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use weir_state_transfer::{Nanos, PortId, ServiceId};

use super::{Event, Forwarder, Item, Packet, Worker};
use crate::local::probe::{self, Probe};
use crate::packet::{self, Meta, Parsed};
use crate::port::{BURST, RxQueue};

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
/// The time after which a question is forgotten, longer than anybody waits: by the node after it was
/// begun, by a worker after it was asked last.
pub const PROBE_LIFE: Duration = Duration::from_secs(15);

/// What a worker knows of questions.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// When each was asked, the oldest question first.
    asked: ArrayVec<(u64, Nanos), PROBES_MAX>,
    /// Who wants to know when all that the queues had is processed, and the rounds in which full bursts
    /// take all of it.
    catching_up: ArrayVec<(u64, usize), PROBES_MAX>,
}

impl Probes {
    fn expect(&mut self, nonce: u64, now: Nanos) {
        self.asked.retain(|(_, at)| now.since(*at) < PROBE_LIFE);
        match self.asked.iter_mut().find(|(asked, _)| *asked == nonce) {
            Some((_, at)) => *at = now,
            None => push(&mut self.asked, (nonce, now)),
        }
    }

    fn expects(&self, nonce: u64, now: Nanos) -> bool {
        self.asked.iter().any(|(asked, at)| *asked == nonce && now.since(*at) < PROBE_LIFE)
    }
}

fn push<T>(list: &mut ArrayVec<T, PROBES_MAX>, item: T) {
    if list.is_full() {
        list.remove(0);
    }
    list.push(item);
}

impl Forwarder {
    /// Asks next hops, behind all that this worker has sent to them.
    pub(super) fn probe(&mut self, probing: &Probing) {
        self.probes.expect(probing.nonce, self.now);
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
        if let Some(probe) = answered.filter(|probe| self.probes.expects(probe.nonce, self.now)) {
            self.tell(Event::Answered(probe));
        }
    }
}

impl Worker {
    /// Has all workers tell the node when they have processed what the queues of this one have now.
    pub(super) fn catch_up(&mut self, nonce: u64) {
        // What a queue has is in frames that were lent to it.
        let most = self.queues.iter().map(RxQueue::lent).max().unwrap_or(0);
        push(&mut self.forwarder.probes.catching_up, (nonce, most.div_ceil(BURST)));
    }

    /// A round has taken `all` that each queue had, or a full burst of some. When they were emptied, or as
    /// many bursts were taken as they may have had, that is processed, or in front of this in the rings to
    /// those who will.
    pub(super) fn has_received(&mut self, all: bool) {
        let forwarder = &mut self.forwarder;
        forwarder.probes.catching_up.iter_mut().for_each(|(_, rounds)| {
            *rounds = if all { 0 } else { rounds.saturating_sub(1) };
        });
        let is_done = |(_, rounds): &(u64, usize)| *rounds == 0;
        while let Some(place) = forwarder.probes.catching_up.iter().position(is_done) {
            let (nonce, _) = forwarder.probes.catching_up.remove(place);
            for peer in forwarder.rings.peers() {
                forwarder.hand_out(peer, Item::CaughtUp(nonce));
            }
        }
    }
}
