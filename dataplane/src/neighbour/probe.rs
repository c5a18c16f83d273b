//! Requests for the link-layer address of a neighbour.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_frame::Frame;
use zerocopy::IntoBytes;

use crate::local::PortAddresses;
use crate::packet::arp::{ArpMessage, REQUEST};
use crate::packet::neighbour_discovery::{NeighbourMessage, group_mac, solicited_node};
use crate::packet::{MacAddr, ethernet};

/// Writes the request for `address` into `frame`: to the station `to`, or to all that may have it.
///
/// False, and the frame is of no use, when the port has no address to ask from or the frame no
/// room.
#[must_use]
pub fn write_probe(
    frame: &mut Frame,
    port: &PortAddresses,
    address: IpAddr,
    to: Option<MacAddr>,
) -> bool {
    let source = port.source_for(address);
    match (address, source) {
        (IpAddr::V4(address), Some(IpAddr::V4(source))) => {
            arp_request(frame, port.mac(), source, address, to)
        }
        (IpAddr::V6(address), Some(IpAddr::V6(source))) => {
            solicitation(frame, port.mac(), source, address, to)
        }
        _ => false,
    }
}

fn arp_request(
    frame: &mut Frame,
    mac: MacAddr,
    source: Ipv4Addr,
    address: Ipv4Addr,
    to: Option<MacAddr>,
) -> bool {
    let message = ArpMessage::new(REQUEST, (mac, source), (MacAddr::default(), address));
    let header = ethernet::EthernetHeader {
        destination: to.unwrap_or(MacAddr::BROADCAST),
        source: mac,
        ethertype: ethernet::ARP.into(),
    };
    let mut bytes = [0; ethernet::HEADER_LEN + size_of::<ArpMessage>()];
    let (front, back) = bytes.split_at_mut(ethernet::HEADER_LEN);
    front.copy_from_slice(header.as_bytes());
    back.copy_from_slice(message.as_bytes());
    frame.write(&bytes).is_ok()
}

fn solicitation(
    frame: &mut Frame,
    mac: MacAddr,
    source: Ipv6Addr,
    address: Ipv6Addr,
    to: Option<MacAddr>,
) -> bool {
    let dst = if to.is_some() { address } else { solicited_node(address) };
    let message = NeighbourMessage {
        src: source,
        dst,
        is_advertisement: false,
        flags: 0,
        target: address,
        link_address: Some(mac),
    };
    message.write(frame, to.unwrap_or_else(|| group_mac(dst)), mac).is_ok()
}

#[cfg(test)]
mod tests {
    use weir_frame::{FrameSize, Region};
    use weir_state_transfer::{PortId, ServiceId};

    use super::*;
    use crate::packet::{Parsed, parse};

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const NEIGHBOUR: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    fn port() -> PortAddresses {
        let nets = ["10.0.0.1/24", "10.9.0.1/24", "2001:db8::1/64"];
        PortAddresses::new(PortId(1), MAC, nets.map(|net| net.parse().unwrap())).unwrap()
    }

    fn probe(address: &str, to: Option<MacAddr>) -> Option<Vec<u8>> {
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        let written = write_probe(&mut frames[0], &port(), address.parse().unwrap(), to);
        written.then(|| frames[0].data().to_vec())
    }

    #[test]
    fn arp_asks_all_or_one_from_the_address_on_the_same_network() {
        let frame = probe("10.9.0.7", None).unwrap();
        let message = ArpMessage::read(&frame).unwrap();
        assert_eq!((message.sender_ip, message.target_ip), ([10, 9, 0, 1], [10, 9, 0, 7]));
        assert_eq!(frame[..12], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1]);
        assert_eq!(probe("10.9.0.7", Some(NEIGHBOUR)).unwrap()[..6], NEIGHBOUR.0);
    }

    #[test]
    fn a_solicitation_goes_to_the_group_or_to_one() {
        for (to, dst) in [(None, "ff02::1:ff00:7"), (Some(NEIGHBOUR), "2001:db8::7")] {
            let frame = probe("2001:db8::7", to).unwrap();
            let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!() };
            let message = NeighbourMessage::read(&frame, &meta).unwrap();
            assert_eq!(message.dst, dst.parse::<Ipv6Addr>().unwrap());
            assert_eq!(message.src, "2001:db8::1".parse::<Ipv6Addr>().unwrap());
            assert_eq!(message.link_address, Some(MAC));
        }
        let frame = probe("fe80::7", None).unwrap();
        assert_eq!(frame[22..24], [0xfe, 0x80], "link-local asks link-local");
    }

    #[test]
    fn a_port_without_address_of_the_family_cannot_ask() {
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        let port = PortAddresses::new(PortId(1), MAC, []).unwrap();
        assert!(!write_probe(&mut frames[0], &port, [10, 0, 0, 1].into(), None));
    }
}
