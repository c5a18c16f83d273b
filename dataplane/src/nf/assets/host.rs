//! What is known of a host: state of several flows.

use std::net::IpAddr;

use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::merge::Join;
use weir_state_transfer::wire::{Reader, WireError, Writer};
use weir_state_transfer::{FlowId, ServiceId, protocol};

use super::fingerprint::{Fingerprint, Kind, Signatures};
use super::lowest::{Kept, Learned, Lowest};
use super::{Name, Seen};
use crate::nf::Timestamp;
use crate::nf::schema::ASSETS_HOST;

/// Fingerprints of a host that are kept.
pub const FINGERPRINTS_MAX: usize = 8;
/// Services of a host that are kept: those of the lowest ports.
pub const SERVICES_MAX: usize = 32;
/// What a service was recognised as: so many names are kept.
pub const NAMES_MAX: usize = 4;
/// What a host was recognised as when it asked others: so many are kept.
pub const CLIENTS_MAX: usize = 16;

/// A host: an address in a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId {
    /// The service.
    pub service: ServiceId,
    /// The address.
    pub address: IpAddr,
}

/// What is known of a host. A copy of it may be joined with any other, at any time.
///
/// Its link address is not: a router sees that of the last hop, which is the host's own only on
/// the link, and there the neighbours know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    seen: Seen,
    /// The fewest routers in front of this one that a packet of it has passed.
    distance: u8,
    fingerprints: Lowest<Fingerprint, Seen, FINGERPRINTS_MAX>,
    services: Lowest<Port, Service, SERVICES_MAX>,
    clients: Lowest<Client, Seen, CLIENTS_MAX>,
}

/// Where a service is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The port.
    pub number: u16,
    /// TCP or UDP, by the IP protocol number.
    pub protocol: u8,
}

/// A service of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    seen: Seen,
    names: Lowest<Name, Seen, NAMES_MAX>,
}

/// What a host was recognised as when it asked others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    /// TCP or UDP, by the IP protocol number.
    pub protocol: u8,
    /// What it was recognised as.
    pub name: Name,
}

/// The system that a host probably runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Its name, if it is known.
    pub name: Option<String>,
    /// The fingerprint that it follows from; none where it follows from what a service or a client
    /// of the host calls itself.
    pub fingerprint: Option<Fingerprint>,
}

/// How much something tells of a system, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    UnknownAnswer,
    UnknownSyn,
    /// Clients pass on what others call themselves, where they are proxies.
    Client,
    /// Something in front of the host may have answered.
    Answer,
    Service,
    Syn,
}

impl HostId {
    /// The flows that what is known of the host is about.
    pub fn flow_id(&self) -> FlowId {
        FlowId::host(self.address, self.service)
    }

    /// The host whose flows an id is of.
    pub fn of_id(id: &FlowId) -> Option<Self> {
        id.as_host().map(|(address, service)| Self { service, address })
    }
}

impl Host {
    /// A host that was seen once, so many routers away.
    pub(super) fn new(at: Timestamp, distance: u8) -> Self {
        Self {
            seen: Seen::at(at),
            distance,
            fingerprints: Lowest::default(),
            services: Lowest::default(),
            clients: Lowest::default(),
        }
    }

    /// When it was seen, to within a minute.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// The last time of each thing that is known of it.
    pub(super) fn seen_at(&self) -> impl Iterator<Item = Timestamp> {
        let fingerprints = self.fingerprints.iter().map(|(_, seen)| seen);
        let services = self.services.iter().flat_map(|(_, service)| {
            let names = service.names.iter().map(|(_, seen)| seen);
            names.chain([&service.seen])
        });
        let clients = self.clients.iter().map(|(_, seen)| seen);
        let all = fingerprints.chain(services).chain(clients).chain([&self.seen]);
        all.map(Seen::last)
    }

    /// The fewest routers in front of this one that a packet of it has passed, as far as the TTL
    /// tells.
    pub fn distance(&self) -> u8 {
        self.distance
    }

    /// Its fingerprints, and when each was seen.
    pub fn fingerprints(&self) -> impl ExactSizeIterator<Item = (&Fingerprint, &Seen)> {
        self.fingerprints.iter()
    }

    /// Its services.
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&Port, &Service)> {
        self.services.iter()
    }

    /// What it was recognised as when it asked others, and when.
    pub fn clients(&self) -> impl ExactSizeIterator<Item = (&Client, &Seen)> {
        self.clients.iter()
    }

    /// The system that it probably runs. A SYN that the table has tells most, then what services
    /// call themselves, then a SYN+ACK that the table has, then what clients call themselves; of
    /// the same kind, what was learned last.
    pub fn system(&self, signatures: &Signatures) -> Option<System> {
        let stacks = self.fingerprints.iter().map(|(fingerprint, seen)| {
            let name = signatures.system(fingerprint);
            let weight = match (fingerprint.kind(), name.is_some()) {
                (Kind::Syn, true) => Weight::Syn,
                (Kind::SynAck, true) => Weight::Answer,
                (Kind::Syn, false) => Weight::UnknownSyn,
                (Kind::SynAck, false) => Weight::UnknownAnswer,
            };
            (weight, seen.first(), name, Some(fingerprint))
        });
        let services = self.services.iter().flat_map(|(_, service)| service.names.iter());
        let services = services.map(|(name, seen)| (Weight::Service, name, seen));
        let clients = self.clients.iter();
        let clients = clients.map(|(client, seen)| (Weight::Client, &client.name, seen));
        let banners = services.chain(clients).filter_map(|(weight, name, seen)| {
            Some((weight, seen.first(), Some(name.system()?), None))
        });
        let (.., name, fingerprint) = stacks.chain(banners).max()?;
        Some(System { name: name.map(str::to_owned), fingerprint: fingerprint.cloned() })
    }

    /// Whether nothing is known of it but that it was there, and how its stack looks.
    pub(super) fn is_bare(&self) -> bool {
        self.services.is_empty() && self.clients.is_empty()
    }

    pub(super) fn see(&mut self, at: Timestamp, distance: u8) {
        self.seen.join(&Seen::at(at));
        self.distance = self.distance.min(distance);
    }

    /// Whether a fingerprint is not known, and would be kept.
    pub(super) fn is_news(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprints.outcome(fingerprint).is_new()
    }

    pub(super) fn learn_fingerprint(&mut self, found: &Fingerprint, at: Timestamp) -> Learned {
        self.fingerprints.learn(found, &Seen::at(at))
    }

    /// Whether its system may be another when it has learned of a service.
    pub(super) fn may_turn_by_service(&self, port: Port, name: Option<&Name>) -> bool {
        match self.services.get(&port) {
            Some(service) => {
                name.is_some_and(|name| may_turn(service.names.outcome(name), Some(name)))
            }
            None => may_turn(self.services.outcome(&port), name),
        }
    }

    /// Whether its system may be another when it has learned of a client.
    pub(super) fn may_turn_by_client(&self, client: &Client) -> bool {
        may_turn(self.clients.outcome(client), Some(&client.name))
    }

    /// Learns that it has a service, and what that was recognised as: each of the two is learned
    /// or not. A name of a service that there is no room for is not looked at.
    pub(super) fn learn_service(
        &mut self,
        port: Port,
        name: Option<&Name>,
        at: Timestamp,
    ) -> (Learned, Option<Learned>) {
        let seen = Seen::at(at);
        let learned = self.services.learn(&port, &Service { seen, names: Lowest::default() });
        let service = self.services.get_mut(&port);
        let named = service.zip(name).map(|(service, name)| service.names.learn(name, &seen));
        (learned, named)
    }

    pub(super) fn learn_client(&mut self, client: &Client, at: Timestamp) -> Learned {
        self.clients.learn(client, &Seen::at(at))
    }

    /// The host as bytes, some ten thousand of them at most.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            self.seen.put(out);
            out.u8(self.distance);
            self.fingerprints.put(out);
            self.services.put(out);
            self.clients.put(out);
        })
    }

    /// The host that bytes of a schema are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
        decode_body(schema, ASSETS_HOST.schema, bytes, |reader| {
            Ok(Self {
                seen: Seen::take(reader)?,
                distance: reader.u8()?,
                fingerprints: Lowest::take(reader)?,
                services: Lowest::take(reader)?,
                clients: Lowest::take(reader)?,
            })
        })
    }
}

impl Service {
    /// When it was seen: each time that a connection to it began, or that it was recognised.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// What it was recognised as, and when; nothing when it was not.
    pub fn names(&self) -> impl ExactSizeIterator<Item = (&Name, &Seen)> {
        self.names.iter()
    }
}

impl Join for Host {
    fn join(&mut self, other: &Self) {
        self.seen.join(&other.seen);
        self.distance = self.distance.min(other.distance);
        self.fingerprints.join(&other.fingerprints);
        self.services.join(&other.services);
        self.clients.join(&other.clients);
    }
}

impl Join for Service {
    fn join(&mut self, other: &Self) {
        self.seen.join(&other.seen);
        self.names.join(&other.names);
    }
}

impl Kept for Port {
    fn put(&self, out: &mut Writer) {
        out.u16(self.number);
        out.u8(self.protocol);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { number: reader.u16()?, protocol: take_protocol(reader)? })
    }
}

impl Kept for Service {
    fn put(&self, out: &mut Writer) {
        self.seen.put(out);
        self.names.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { seen: Seen::take(reader)?, names: Lowest::take(reader)? })
    }
}

impl Kept for Client {
    fn put(&self, out: &mut Writer) {
        out.u8(self.protocol);
        self.name.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { protocol: take_protocol(reader)?, name: Name::take(reader)? })
    }
}

/// What is learned may tell a system, and what had to go for it may have told one.
fn may_turn(learned: Learned, name: Option<&Name>) -> bool {
    match learned {
        Learned::Again | Learned::NoRoom => false,
        Learned::New => name.is_some_and(|name| name.system().is_some()),
        Learned::InPlace => true,
    }
}

fn take_protocol(reader: &mut Reader<'_>) -> Result<u8, WireError> {
    match reader.u8()? {
        number @ (protocol::TCP | protocol::UDP) => Ok(number),
        _ => Err(WireError::BadField { what: "protocol of a service" }),
    }
}
