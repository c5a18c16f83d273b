//! Local traffic: what the router answers itself.
//!
//! ARP and neighbour solicitations for the addresses of a port, echo to any address of the
//! router. Everything happens in the frame that came in: it becomes the answer, or its packet has
//! ended here.

mod addresses;
pub(crate) mod echo;
pub(crate) mod probe;

use std::net::{IpAddr, Ipv6Addr};

use weir_frame::Frame;
use weir_state_transfer::protocol;
use zerocopy::IntoBytes;

pub use addresses::{BadAddresses, LocalAddresses, PORT_ADDRESSES_MAX, PortAddresses};
pub use probe::Probe;

use crate::neighbour::{Heard, HeardKind};
use crate::packet::arp::{ArpMessage, REPLY, REQUEST};
use crate::packet::ethernet::{EthernetHeader, HEADER_LEN};
use crate::packet::header::header_at;
use crate::packet::icmp::{self, IcmpHeader};
use crate::packet::neighbour_discovery::{
    NeighbourMessage, OVERRIDE, ROUTER, SOLICITED, group_mac,
};
use crate::packet::{DropReason, Flags, Meta, forward, scope};

/// What became of a packet for the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The frame holds the answer, to be sent by the port that it came in by.
    Reply,
    /// Nothing listens on the UDP port: tell the sender, then the packet has been consumed.
    PortUnreachable,
    /// The packet has ended here as it should.
    Consumed(Consumed),
    /// The packet is dropped.
    Dropped(DropReason),
}

/// How a packet ended here as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consumed {
    /// ARP that needs no answer.
    Arp,
    /// Neighbour discovery that needs no answer.
    NeighbourDiscovery,
    /// ICMP that needs no answer.
    Icmp,
    /// For a group that the router takes no part in, or for all.
    Group,
    /// A protocol or TCP port on which nothing listens.
    NoListener,
    /// A fragment: the router does not put packets for itself together.
    Fragment,
}

/// Handles a packet for the router that came in by `port`: one for which
/// [`LocalAddresses::is_local`] says so, or ARP.
///
/// What was heard of a neighbour on the way is given to the port's owner.
pub fn answer(
    frame: &mut Frame,
    meta: &Meta,
    port: &PortAddresses,
    all: &LocalAddresses,
) -> (Verdict, Option<Heard>) {
    if !port.is_addressed(frame.data()) {
        return (Verdict::Dropped(DropReason::NotForUs), None);
    }
    if meta.flags.has(Flags::ARP) {
        return answer_arp(frame, port);
    }
    let Some((src, dst)) = meta.addresses(frame.data()) else {
        return (Verdict::Dropped(DropReason::TruncatedL4), None);
    };
    if all.has(src) {
        return (Verdict::Dropped(DropReason::OwnSource), None);
    }
    if meta.protocol == protocol::ICMPV6 && is_neighbour_discovery(frame.data(), meta) {
        return answer_neighbour_discovery(frame, meta, port);
    }
    (answer_packet(frame, meta, (src, dst), port, all), None)
}

fn answer_arp(frame: &mut Frame, port: &PortAddresses) -> (Verdict, Option<Heard>) {
    let message = match ArpMessage::read(frame.data()) {
        Ok(message) => message,
        Err(reason) => return (Verdict::Dropped(reason), None),
    };
    let sender = IpAddr::from(message.sender());
    if message.sender_mac == port.mac() || port.answers_for(sender) {
        return (Verdict::Dropped(DropReason::OwnSource), None);
    }
    let for_us = port.answers_for(message.target().into());
    let believable = port.is_on_link(sender) && !message.sender().is_unspecified();
    let kind = match message.operation.get() {
        REQUEST if for_us => HeardKind::Request,
        REPLY if for_us => HeardKind::Answer,
        _ => HeardKind::Unsolicited,
    };
    // A request of others between themselves says nothing new about the sender.
    let heard = (believable && (for_us || message.sender() == message.target())).then_some(Heard {
        address: sender,
        mac: message.sender_mac,
        kind,
    });
    if kind != HeardKind::Request {
        return (Verdict::Consumed(Consumed::Arp), heard);
    }
    let reply = ArpMessage::new(
        REPLY,
        (port.mac(), message.target()),
        (message.sender_mac, message.sender()),
    );
    let written = frame.set_len(HEADER_LEN + size_of::<ArpMessage>()).is_ok();
    let bytes = frame.data_mut();
    forward::rewrite_macs(bytes, message.sender_mac, port.mac());
    match bytes.get_mut(HEADER_LEN..) {
        Some(body) if written && body.len() == size_of::<ArpMessage>() => {
            body.copy_from_slice(reply.as_bytes());
            (Verdict::Reply, heard)
        }
        _ => (Verdict::Dropped(DropReason::BadArp), heard),
    }
}

fn is_neighbour_discovery(frame: &[u8], meta: &Meta) -> bool {
    let first = meta.l4_bytes(frame).and_then(|bytes| header_at::<IcmpHeader>(bytes, 0));
    first.is_some_and(|header| {
        (icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT).contains(&header.kind)
    })
}

fn answer_neighbour_discovery(
    frame: &mut Frame,
    meta: &Meta,
    port: &PortAddresses,
) -> (Verdict, Option<Heard>) {
    let kind = meta.l4_bytes(frame.data()).and_then(|bytes| bytes.first().copied());
    if !matches!(kind, Some(icmp::v6::NEIGHBOUR_SOLICITATION | icmp::v6::NEIGHBOUR_ADVERTISEMENT)) {
        return (Verdict::Consumed(Consumed::NeighbourDiscovery), None);
    }
    let message = match NeighbourMessage::read(frame.data(), meta) {
        Ok(message) => message,
        Err(reason) => return (Verdict::Dropped(reason), None),
    };
    if message.is_advertisement {
        let kind = match message.flags & SOLICITED {
            0 => HeardKind::Unsolicited,
            _ => HeardKind::Answer,
        };
        let heard = message
            .link_address
            .filter(|_| {
                port.is_on_link(message.target.into()) && !port.answers_for(message.target.into())
            })
            .map(|mac| Heard { address: message.target.into(), mac, kind });
        return (Verdict::Consumed(Consumed::NeighbourDiscovery), heard);
    }
    if !port.answers_for(message.target.into()) {
        return (Verdict::Consumed(Consumed::NeighbourDiscovery), None);
    }
    let heard = message
        .link_address
        .filter(|_| port.is_on_link(message.src.into()))
        .map(|mac| Heard { address: message.src.into(), mac, kind: HeardKind::Request });
    (advertise(frame, &message, port), heard)
}

/// Turns a solicitation for an address of the port into its answer (RFC 4861, section 7.2.4).
fn advertise(frame: &mut Frame, asked: &NeighbourMessage, port: &PortAddresses) -> Verdict {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let asker = header_at::<EthernetHeader>(frame.data(), 0)
        .map(|header| header.source)
        .unwrap_or_default();
    let (dst, mac, solicited) = match asked.src {
        // The asker has no address yet: it wants to know whether the target is taken.
        src if src.is_unspecified() => (all_nodes, group_mac(all_nodes), 0),
        src => (src, asked.link_address.unwrap_or(asker), SOLICITED),
    };
    let advertisement = NeighbourMessage {
        src: asked.target,
        dst,
        is_advertisement: true,
        flags: ROUTER | OVERRIDE | solicited,
        target: asked.target,
        link_address: Some(port.mac()),
    };
    match advertisement.write(frame, mac, port.mac()) {
        Ok(()) => Verdict::Reply,
        Err(_) => Verdict::Dropped(DropReason::RxNoFrame),
    }
}

fn answer_packet(
    frame: &mut Frame,
    meta: &Meta,
    (src, dst): (IpAddr, IpAddr),
    port: &PortAddresses,
    all: &LocalAddresses,
) -> Verdict {
    let group = dst.is_multicast()
        || matches!(dst, IpAddr::V4(v4) if v4.is_broadcast() || all.is_broadcast(v4));
    if group {
        return Verdict::Consumed(Consumed::Group);
    }
    if !all.has(dst) {
        return Verdict::Dropped(refusal(src, dst));
    }
    if meta.flags.has(Flags::FRAGMENT) {
        return Verdict::Consumed(Consumed::Fragment);
    }
    if meta.flags.has(Flags::L4_TRUNCATED) {
        return Verdict::Dropped(DropReason::TruncatedL4);
    }
    match (meta.protocol, dst.is_ipv4()) {
        (protocol::ICMP, true) | (protocol::ICMPV6, false) => {
            echo::answer(frame.data_mut(), meta, port.mac())
        }
        (protocol::UDP, _) => Verdict::PortUnreachable,
        _ => Verdict::Consumed(Consumed::NoListener),
    }
}

/// Why a packet that is neither for us nor for a group is not forwarded. When its addresses are
/// fine it came in a frame for all (RFC 1812, section 5.3.4).
fn refusal(src: IpAddr, dst: IpAddr) -> DropReason {
    scope::forwardable(src, dst).err().unwrap_or(DropReason::MulticastUnsupported)
}

#[cfg(test)]
mod tests;
