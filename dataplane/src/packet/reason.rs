//! Why a packet was dropped: one name for each reason of the node.

/// The reason why a packet was dropped.
///
/// Each has a counter; its number is the place of the counter in [`DropReason::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "DESCRIPTIONS documents each reason, for users too")]
pub enum DropReason {
    RxRingFull,
    RxFillRingEmpty,
    RxTooLong,
    RxNoFrame,
    TxInvalid,
    TxRefused,
    TxRingFull,
    TxHandoverFull,
    TxTooLong,
    TruncatedEthernet,
    MulticastSourceMac,
    NotForUs,
    UnsupportedEthertype,
    VlanUnsupported,
    BadArp,
    TruncatedIpv4,
    TruncatedIpv6,
    BadVersion,
    BadHeaderLength,
    BadTotalLength,
    BadHeaderChecksum,
    BadPayloadLength,
    TruncatedExtension,
    ExtensionChainTooLong,
    TruncatedL4,
    BadL4Checksum,
    MartianSource,
    MartianDestination,
    OwnSource,
    LinkScope,
    MulticastUnsupported,
    BadNeighbourDiscovery,
    TtlExpired,
    NoRoute,
    PortDown,
    NeighbourUnresolved,
    ParkFull,
    HoldFull,
    PolicyHoldFull,
    StateInTransit,
    InstanceGone,
    SubscriberDrop,
    KeepFull,
    ShareFull,
    ShareUnanswered,
    ShareLate,
    Firewall,
    Nat,
    FunctionFull,
    Poisoned,
    WorkerPanic,
}

impl DropReason {
    /// How many reasons there are: the length of an array of counters.
    pub const COUNT: usize = Self::WorkerPanic as usize + 1;

    /// Every reason, each at the place of its number.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::WorkerPanic; Self::COUNT];
        let mut at = 0;
        while at < Self::COUNT {
            all[at] = DESCRIPTIONS[at].0;
            at += 1;
        }
        all
    };

    /// The name in counters, metrics and the CLI.
    pub fn name(self) -> &'static str {
        DESCRIPTIONS[self.index()].1
    }

    /// One sentence: what it means and what to do about it.
    pub fn meaning(self) -> &'static str {
        DESCRIPTIONS[self.index()].2
    }

    /// The place of its counter, under [`DropReason::COUNT`].
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Name and meaning of each reason, in the order of the enum.
const DESCRIPTIONS: [(DropReason, &str, &str); DropReason::COUNT] = [
    (
        DropReason::RxRingFull,
        "rx_ring_full",
        "the kernel found the receive ring full because the worker was too slow or not \
         scheduled: lower the load, add a worker or a larger ring",
    ),
    (
        DropReason::RxFillRingEmpty,
        "rx_fill_ring_empty",
        "the kernel found no free frame to receive into: raise the number of frames or look \
         for what keeps them",
    ),
    (
        DropReason::RxTooLong,
        "rx_too_long",
        "the packet does not fit in a frame: lower the MTU of the sender or raise the frame \
         size",
    ),
    (
        DropReason::RxNoFrame,
        "rx_no_frame",
        "the worker had no free frame for a packet to receive or to make: raise the number \
         of frames",
    ),
    (
        DropReason::TxInvalid,
        "tx_invalid",
        "the kernel refused a transmit descriptor: an error of this program, please report it",
    ),
    (
        DropReason::TxRefused,
        "tx_refused",
        "the device of the port dropped the packet: check that the link has carrier, that the peer's \
         MTU is no smaller than the port's, and, where live frames are sent, that the peer takes them: \
         weir port show",
    ),
    (
        DropReason::TxRingFull,
        "tx_ring_full",
        "the transmit ring of the port stayed full: the port is slower than the traffic to it",
    ),
    (
        DropReason::TxHandoverFull,
        "tx_handover_full",
        "the worker that transmits for the port did not keep up with those that have no \
         transmit queue there: give the port a queue for each worker, or raise handover_ring",
    ),
    (
        DropReason::TxTooLong,
        "tx_too_long",
        "the packet is longer than the MTU of the port it leaves by: raise that MTU or let \
         path MTU discovery work",
    ),
    (
        DropReason::TruncatedEthernet,
        "truncated_ethernet",
        "the frame is shorter than an Ethernet header: check the sender",
    ),
    (
        DropReason::MulticastSourceMac,
        "multicast_source_mac",
        "the source MAC address is a group address, which no sender may use: check the sender",
    ),
    (
        DropReason::NotForUs,
        "not_for_us",
        "the frame is addressed to another station's MAC address: a switch floods or the \
         port is promiscuous",
    ),
    (
        DropReason::UnsupportedEthertype,
        "unsupported_ethertype",
        "the frame carries neither IPv4, IPv6 nor ARP: it is not for a router",
    ),
    (
        DropReason::VlanUnsupported,
        "vlan_unsupported",
        "the frame has a VLAN tag and the port takes untagged frames only: remove the tag \
         at the switch",
    ),
    (
        DropReason::BadArp,
        "bad_arp",
        "the ARP message is truncated, not about IPv4 over Ethernet, or has impossible \
         addresses: check the sender",
    ),
    (
        DropReason::TruncatedIpv4,
        "truncated_ipv4",
        "the packet is shorter than an IPv4 header: check the sender",
    ),
    (
        DropReason::TruncatedIpv6,
        "truncated_ipv6",
        "the packet is shorter than an IPv6 header: check the sender",
    ),
    (
        DropReason::BadVersion,
        "bad_version",
        "the IP version is not the one that the Ethernet type announces: check the sender",
    ),
    (
        DropReason::BadHeaderLength,
        "bad_header_length",
        "the IPv4 header length is under 20 bytes or over the packet: check the sender",
    ),
    (
        DropReason::BadTotalLength,
        "bad_total_length",
        "the IPv4 total length is under the header or over the frame: check the sender and \
         its MTU",
    ),
    (
        DropReason::BadHeaderChecksum,
        "bad_header_checksum",
        "the IPv4 header checksum is wrong: bits changed on the link or the sender is broken",
    ),
    (
        DropReason::BadPayloadLength,
        "bad_payload_length",
        "the IPv6 payload length is over the frame: check the sender and its MTU",
    ),
    (
        DropReason::TruncatedExtension,
        "truncated_extension",
        "an IPv6 extension header runs over the end of the packet: check the sender",
    ),
    (
        DropReason::ExtensionChainTooLong,
        "extension_chain_too_long",
        "the packet has more than 8 IPv6 extension headers: no honest sender does that",
    ),
    (
        DropReason::TruncatedL4,
        "truncated_l4",
        "a packet to the router ends inside its transport header: check the sender",
    ),
    (
        DropReason::BadL4Checksum,
        "bad_l4_checksum",
        "a packet to the router has a wrong transport checksum: bits changed on the way",
    ),
    (
        DropReason::MartianSource,
        "martian_source",
        "the source address cannot be a sender's (multicast, loopback, unspecified): it is \
         forged",
    ),
    (
        DropReason::MartianDestination,
        "martian_destination",
        "the destination address must not appear on a network (loopback, unspecified, \
         reserved): check the sender",
    ),
    (
        DropReason::OwnSource,
        "own_source",
        "the source is an address of this router: it is forged, or the network has a loop",
    ),
    (
        DropReason::LinkScope,
        "link_scope",
        "an address of the packet is valid on one link only and may not be forwarded: check \
         the sender's routes",
    ),
    (
        DropReason::MulticastUnsupported,
        "multicast_unsupported",
        "the packet is multicast or broadcast, which this router does not forward: nothing \
         to do",
    ),
    (
        DropReason::BadNeighbourDiscovery,
        "bad_neighbour_discovery",
        "the neighbour discovery message breaks RFC 4861, as by a hop limit under 255: it \
         may be forged",
    ),
    (
        DropReason::TtlExpired,
        "ttl_expired",
        "the TTL or hop limit ran out here: a traceroute, or a routing loop",
    ),
    (DropReason::NoRoute, "no_route", "no route leads to the destination: add one"),
    (
        DropReason::PortDown,
        "port_down",
        "the port that the packet should leave by is gone or down: check the link",
    ),
    (
        DropReason::NeighbourUnresolved,
        "neighbour_unresolved",
        "the next hop did not answer ARP or neighbour discovery, or too many are being \
         asked for: check that it is up and on this link",
    ),
    (
        DropReason::ParkFull,
        "park_full",
        "too many packets wait for their next hop to be resolved: somebody scans, or the \
         quota is too low",
    ),
    (
        DropReason::HoldFull,
        "hold_full",
        "the hold of a move was at its quota after the first flow had been exported: raise \
         the quota",
    ),
    (
        DropReason::PolicyHoldFull,
        "policy_hold_full",
        "as many packets waited at the worker for policy routes that hold as may: release them \
         sooner, or raise hold in [moves]",
    ),
    (
        DropReason::StateInTransit,
        "state_in_transit",
        "the state of its flow was on its way in a move that promises nothing: let the move be \
         loss-free",
    ),
    (
        DropReason::InstanceGone,
        "instance_gone",
        "the instance that owned the flow no longer exists: an error of this program, \
         please report it",
    ),
    (
        DropReason::SubscriberDrop,
        "subscriber_drop",
        "whoever has subscribed to events of the instance with the action drop has the packet: \
         disable the subscription to have packets processed again",
    ),
    (
        DropReason::KeepFull,
        "keep_full",
        "a subscription to events of the instance keeps packets, and there is no room for \
         more: disable it sooner, or raise buffer_max in [events]",
    ),
    (
        DropReason::ShareFull,
        "share_full",
        "as many packets and operations of a share wait at the instance as may: raise waiting in \
         [shares], or share less",
    ),
    (
        DropReason::ShareUnanswered,
        "share_unanswered",
        "a network function could not decide, as no answer about the shared state of its source \
         came in time: the worker of its home is overloaded, or was restarted; or its flow had \
         waited with another source",
    ),
    (
        DropReason::ShareLate,
        "share_late",
        "it missed its place in the order of a strict share: packets in front of it were lost or \
         late for longer than half the patience, or more than the window",
    ),
    (
        DropReason::Firewall,
        "firewall",
        "the firewall of the instance let it not pass: the counters of the firewall say why",
    ),
    (
        DropReason::Nat,
        "nat",
        "the NAT refused the packet: `weir nf list` says for which reasons; with those of \
         `exhausted` more external addresses help",
    ),
    (
        DropReason::FunctionFull,
        "function_full",
        "a network function that decides by what it knows of a flow had no room for another: \
         raise flows_per_bucket or own_flows, or lower its time-outs",
    ),
    (
        DropReason::Poisoned,
        "poisoned",
        "the flow is poisoned since a stage panicked on one of its packets: see the report \
         of the panic",
    ),
    (
        DropReason::WorkerPanic,
        "worker_panic",
        "the packet was in hand when its worker panicked: see the report of the panic",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_stands_at_its_number() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place, "{reason:?}");
        }
    }

    #[test]
    fn names_are_unique_snake_case_and_every_reason_has_a_meaning() {
        let mut seen = HashSet::new();
        for reason in DropReason::ALL {
            let name = reason.name();
            assert!(seen.insert(name), "{name} twice");
            let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(snake), "{name}");
            assert!(reason.meaning().len() > 20 && !reason.meaning().ends_with('.'), "{name}");
        }
    }
}
