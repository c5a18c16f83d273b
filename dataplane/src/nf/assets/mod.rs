//! Asset detection: which hosts there are, what they offer and ask for, and what they probably run.
//!
//! The successor of PRADS in the evaluation of OpenNF (section 7): it only looks. Stacks are told
//! by the fingerprints of their SYNs and SYN+ACKs, services and clients by the first bytes that
//! they send, and systems also by what those call themselves. Packets and their times come in,
//! records go out; there is no I/O, no clock and no chance in it. A [`Connection`] is all that is
//! known of a flow. It is kept by the caller, and travels as bytes. What is known of a [`Host`] is
//! joined with what others know of it.

mod banner;
mod config;
mod connection;
mod fingerprint;
mod function;
mod host;
mod hosts;
mod lowest;
mod name;
mod packet;
pub mod record;
mod seen;
mod service;
mod southbound;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::VecDeque;

use weir_state_transfer::merge::Replica;

use super::Timestamp;
use crate::packet::{Flags, Meta};
use connection::Note;
use fingerprint::initial_ttl;
use hosts::Hosts;
use lowest::Learned;
use packet::{Packet, Segment, Transport, is_host};
use service::Role;

pub use config::{Config, Timeouts};
pub(crate) use connection::CONNECTION_BYTES;
pub use connection::{Connection, LOOKED_MAX};
pub use fingerprint::{Fingerprint, Kind, Layout, Quirk, Quirks, SignatureError, Signatures};
pub use host::{
    CLIENTS_MAX, Client, FINGERPRINTS_MAX, Host, HostId, NAMES_MAX, Port, SERVICES_MAX, Service,
    System,
};
pub use lowest::Lowest;
pub use name::{NAME_MAX, Name};
pub use record::{Asset, Record};
pub use seen::Seen;
pub use totals::Totals;

/// An instance of the asset detection: all but what is known of flows.
#[derive(Debug)]
pub struct Assets {
    config: Config,
    replica: Replica,
    signatures: Signatures,
    totals: Totals,
    hosts: Hosts,
    records: VecDeque<Record>,
}

/// Of which host something is learned, and when.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    host: HostId,
    now: Timestamp,
    distance: u8,
    /// When the flow has noted the host before: then somebody has told of it.
    noted: Option<Timestamp>,
}

impl Assets {
    /// An instance that counts as that replica.
    pub fn new(config: Config, replica: Replica) -> Self {
        Self {
            config,
            replica,
            signatures: Signatures::built_in(),
            totals: Totals::default(),
            hosts: Hosts::new(&config),
            records: VecDeque::new(),
        }
    }

    /// Processes a packet of the flow whose connection is `connection`, if there is one already.
    ///
    /// Both directions of a flow share a connection. Nothing is learned from ICMP errors, whose
    /// flow is that of another packet, nor from packets without the address of a host.
    pub fn packet(
        &mut self,
        connection: &mut Option<Connection>,
        meta: &Meta,
        frame: &[u8],
        now: Timestamp,
    ) {
        self.totals.packets.add(self.replica, 1);
        if meta.flags.has(Flags::ARP) || meta.flags.has(Flags::KEY_OF_QUOTED) {
            return;
        }
        let Some(packet) = Packet::read(meta, frame).filter(|packet| is_host(packet.key.src()))
        else {
            return;
        };
        self.expire(connection, now);
        let known = connection.get_or_insert_with(|| Connection::begin(packet.key, now));
        known.packet(&packet, now);
        let (host, ttl) = (packet.key.src(), packet.ip.ttl());
        let sighting = Sighting {
            host: HostId { service: packet.key.service(), address: host },
            now,
            distance: initial_ttl(ttl) - ttl,
            noted: known.last_noted(&packet),
        };
        if !self.note(known, &packet, &sighting) {
            return;
        }
        match &packet.transport {
            Transport::Tcp(segment) => {
                if segment.syn() {
                    self.learn_stack(&sighting, &packet, segment);
                }
                if segment.syn() && segment.has_ack() {
                    self.learn_service(&sighting, &packet, None);
                }
                self.look(known, &sighting, &packet, segment.payload);
            }
            Transport::Udp(payload) => self.look(known, &sighting, &packet, payload),
            Transport::Opaque => {}
        }
    }

    /// Forgets a flow that has been idle for too long; whether it did.
    pub fn expire(&self, connection: &mut Option<Connection>, now: Timestamp) -> bool {
        let timeouts = &self.config.timeouts;
        connection.take_if(|known| known.time_left(timeouts, now).is_zero()).is_some()
    }

    /// Forgets those of the next `count` hosts that were not seen for long enough.
    pub fn sweep(&mut self, count: usize, now: Timestamp) -> usize {
        let forgotten = self.hosts.sweep(count, now);
        self.totals.forgotten.add(self.replica, forgotten as u64);
        forgotten
    }

    /// Takes the oldest record.
    pub fn next_record(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    /// Records that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.records.len()
    }

    /// What it has counted, by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = self.totals.named();
        counters.push(("hosts".to_owned(), self.hosts.known().len() as u64));
        counters
    }

    /// The figures over all flows.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The hosts that are known.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = (&HostId, &Host)> {
        self.hosts.known().iter().map(|(id, known)| (id, &known.host))
    }

    /// What is known of a host.
    pub fn host(&self, id: &HostId) -> Option<&Host> {
        self.hosts.known().get(id).map(|known| &known.host)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The stacks that are known.
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Notes that a host was there, if it was not noted of late; whether it may be learned of.
    fn note(&mut self, known: &mut Connection, packet: &Packet<'_>, sighting: &Sighting) -> bool {
        let note = known.note(packet, sighting.now);
        if note == Note::Enough {
            return true;
        }
        let is_new = !self.hosts.has(&sighting.host);
        if !self.make_room(sighting) {
            return false;
        }
        if let Some(host) = self.hosts.place(sighting.host, sighting.now, || sighting.to_host()) {
            host.see(sighting.now, sighting.distance);
        }
        known.noted(packet, sighting.now);
        if is_new && note == Note::First {
            self.totals.learned_hosts.add(self.replica, 1);
            self.log(sighting, Asset::Host);
        }
        true
    }

    /// Makes room for a host that is not known; whether there is.
    fn make_room(&mut self, sighting: &Sighting) -> bool {
        if !self.hosts.has_room(&sighting.host) {
            let forgotten = self.hosts.make_room(sighting.now);
            self.totals.forgotten.add(self.replica, forgotten as u64);
        }
        let has_room = self.hosts.has_room(&sighting.host);
        self.totals.hosts_full.add(self.replica, (!has_room).into());
        has_room
    }

    fn learn_stack(&mut self, sighting: &Sighting, packet: &Packet<'_>, segment: &Segment<'_>) {
        let fingerprint = Fingerprint::of(packet, segment);
        self.totals.handshakes.add(self.replica, 1);
        if self.signatures.system(&fingerprint).is_none() {
            self.totals.unmatched.add(self.replica, 1);
        }
        self.make_room(sighting);
        let place = self.hosts.place(sighting.host, sighting.now, || sighting.to_host());
        let Some(host) = place else { return };
        if !host.is_news(&fingerprint) {
            let learned = host.learn_fingerprint(&fingerprint, sighting.now);
            return self.count_left_out(learned);
        }
        let before = host.system(&self.signatures);
        let learned = host.learn_fingerprint(&fingerprint, sighting.now);
        self.count_left_out(learned);
        self.tell_system(sighting, before.as_ref());
    }

    /// Tells which system a host probably runs, if it seems to be another than before.
    fn tell_system(&mut self, sighting: &Sighting, before: Option<&System>) {
        let after = self.host(&sighting.host).and_then(|host| host.system(&self.signatures));
        if before.map(|system| &system.name) != after.as_ref().map(|system| &system.name) {
            // Where what told it had to go, nothing may be left that tells one.
            let System { name, fingerprint } = after.unwrap_or_default();
            self.totals.learned_systems.add(self.replica, 1);
            self.log(sighting, Asset::System { name, fingerprint: fingerprint.map(Box::new) });
        }
    }

    fn look(
        &mut self,
        known: &mut Connection,
        sighting: &Sighting,
        packet: &Packet<'_>,
        payload: &[u8],
    ) {
        let (looked, found) = known.look(packet, payload);
        if !looked {
            return;
        }
        self.totals.looked_at.add(self.replica, 1);
        let of_udp = matches!(packet.transport, Transport::Udp(_));
        match found {
            Some((role, name)) => {
                self.totals.recognised.add(self.replica, 1);
                match role {
                    Role::Server => self.learn_service(sighting, packet, Some(name)),
                    Role::Client => self.learn_client(sighting, packet, name),
                }
            }
            // A service is there, whatever it is.
            None if of_udp && known.is_answer(packet) => {
                self.learn_service(sighting, packet, None);
            }
            None => {}
        }
    }

    fn learn_service(&mut self, sighting: &Sighting, packet: &Packet<'_>, name: Option<Name>) {
        let (protocol, port) = (packet.key.protocol(), packet.key.src_port());
        self.make_room(sighting);
        let place = self.hosts.place(sighting.host, sighting.now, || sighting.to_host());
        let Some(host) = place else { return };
        let at = Port { number: port, protocol };
        let may_turn = host.may_turn_by_service(at, name.as_ref());
        let before = may_turn.then(|| host.system(&self.signatures));
        let (learned, named) = host.learn_service(at, name.as_ref(), sighting.now);
        self.count_left_out(learned);
        named.into_iter().for_each(|named| self.count_left_out(named));
        if learned.is_new() || named.is_some_and(Learned::is_new) {
            self.totals.learned_services.add(self.replica, 1);
            self.log(sighting, Asset::Service { protocol, port, name });
        }
        if let Some(before) = before {
            self.tell_system(sighting, before.as_ref());
        }
    }

    fn learn_client(&mut self, sighting: &Sighting, packet: &Packet<'_>, name: Name) {
        let (protocol, port) = (packet.key.protocol(), packet.key.dst_port());
        self.make_room(sighting);
        let place = self.hosts.place(sighting.host, sighting.now, || sighting.to_host());
        let Some(host) = place else { return };
        let client = Client { protocol, name };
        let may_turn = host.may_turn_by_client(&client);
        let before = may_turn.then(|| host.system(&self.signatures));
        let learned = host.learn_client(&client, sighting.now);
        self.count_left_out(learned);
        if learned.is_new() {
            self.totals.learned_clients.add(self.replica, 1);
            self.log(sighting, Asset::Client { protocol, port, name: client.name });
        }
        if let Some(before) = before {
            self.tell_system(sighting, before.as_ref());
        }
    }

    fn count_left_out(&mut self, learned: Learned) {
        self.totals.left_out.add(self.replica, learned.leaves_out().into());
    }

    fn log(&mut self, sighting: &Sighting, asset: Asset) {
        let Sighting { host, now, distance, .. } = *sighting;
        if self.records.len() < self.config.records_max {
            let host = host.address;
            self.records.push_back(Record { ts: now, host, asset, distance });
        } else {
            self.totals.lost_records.add(self.replica, 1);
        }
    }
}

impl Sighting {
    /// The host, if it is not known. One that came along with its flow was there before.
    fn to_host(self) -> Host {
        let mut host = Host::new(self.noted.unwrap_or(self.now), self.distance);
        host.see(self.now, self.distance);
        host
    }
}
