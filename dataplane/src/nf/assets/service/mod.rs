//! What is said in the first packets of a flow: a table of recognisers, each of which looks at the
//! payload of one packet.
//!
//! Nothing is put together from several packets. What one does not tell is told by a later one, or
//! not at all.

mod database;
mod datagram;
mod desktop;
mod greeting;
mod head;
mod name_service;
#[cfg(test)]
mod tests;
mod tls;

use weir_state_transfer::protocol;

use super::Name;

/// The payload of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a> {
    pub(super) bytes: &'a [u8],
    /// Those of the sender and of the receiver.
    pub(super) ports: (u16, u16),
}

/// Which part the sender of a packet plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// What a payload was recognised as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// None where both ends say the same.
    pub(super) role: Option<Role>,
    pub(super) name: Name,
    /// What a client asks for by name.
    pub(super) asks: Option<Name>,
}

/// Looks for one protocol.
type Recogniser = fn(&Payload<'_>) -> Option<Found>;

/// Those for TCP, in the order in which they are asked.
const TCP: &[Recogniser] = &[
    tls::hello,
    head::request,
    head::response,
    head::http2,
    greeting::ssh,
    greeting::mail_or_files,
    greeting::mailbox,
    greeting::news,
    greeting::hello,
    greeting::remote_copy,
    greeting::peer,
    greeting::terminal,
    desktop::screen,
    desktop::rdp,
    desktop::smb,
    database::mysql,
    database::postgresql,
    database::sql_server,
    database::mqtt,
    name_service::over_tcp,
];

/// Those for UDP.
const UDP: &[Recogniser] = &[
    name_service::dns,
    name_service::dhcp,
    datagram::ntp,
    datagram::snmp,
    datagram::quic,
    datagram::stun,
    datagram::key_exchange,
    datagram::wireguard,
    datagram::discovery,
    head::request,
    head::response,
];

/// What a payload is, if one of the recognisers knows it.
pub(super) fn recognise(number: u8, payload: &Payload<'_>) -> Option<Found> {
    let recognisers = match number {
        protocol::TCP => TCP,
        protocol::UDP => UDP,
        _ => return None,
    };
    recognisers.iter().find_map(|recogniser| recogniser(payload))
}

impl Payload<'_> {
    /// Whether it is to or from a port.
    fn has_port(&self, port: u16) -> bool {
        self.ports.0 == port || self.ports.1 == port
    }
}

impl Found {
    fn of(role: Option<Role>, protocol: &str, more: &[u8]) -> Self {
        Self { role, name: Name::new(protocol, more), asks: None }
    }

    fn client(protocol: &str, more: &[u8]) -> Self {
        Self::of(Some(Role::Client), protocol, more)
    }

    fn server(protocol: &str, more: &[u8]) -> Self {
        Self::of(Some(Role::Server), protocol, more)
    }

    /// What either end may have said.
    fn either(protocol: &str, more: &[u8]) -> Self {
        Self::of(None, protocol, more)
    }
}

/// A number of two bytes at a place, in network order.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|number| u16::from_be_bytes(*number))
}

/// A number of four bytes at a place, in network order.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|number| u32::from_be_bytes(*number))
}
