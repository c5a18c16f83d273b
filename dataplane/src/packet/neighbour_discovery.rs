//! Neighbour solicitations and advertisements (RFC 4861, sections 4.3 and 4.4).

use std::net::Ipv6Addr;

use weir_frame::{Frame, NoRoom};
use weir_state_transfer::protocol;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::{self, EthernetHeader, MacAddr};
use super::header::header_at;
use super::icmp::v6::{NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION};
use super::ipv6::{self, Ipv6Header};
use super::meta::Meta;
use super::reason::DropReason;
use super::{checksum, scope};

/// A flag of an advertisement: the sender is a router.
pub const ROUTER: u8 = 0x80;
/// A flag of an advertisement: it answers a solicitation.
pub const SOLICITED: u8 = 0x40;
/// A flag of an advertisement: it may replace what is known.
pub const OVERRIDE: u8 = 0x20;

/// Most options that are looked at.
const OPTIONS_MAX: usize = 8;

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// Who sent it; unspecified while the sender checks that its address is free (RFC 4862).
    pub src: Ipv6Addr,
    /// Where it went, perhaps to a group.
    pub dst: Ipv6Addr,
    /// Whether it is an advertisement; otherwise a solicitation.
    pub is_advertisement: bool,
    /// [`ROUTER`], [`SOLICITED`] and [`OVERRIDE`] of an advertisement.
    pub flags: u8,
    /// Whose link-layer address is asked for or told.
    pub target: Ipv6Addr,
    /// The link-layer address of the sender (solicitation) or of the target (advertisement).
    pub link_address: Option<MacAddr>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Wire {
    kind: u8,
    code: u8,
    checksum: U16,
    flags: u8,
    reserved: [u8; 3],
    target: [u8; 16],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LinkAddressOption {
    kind: u8,
    /// In units of 8 bytes.
    length: u8,
    mac: MacAddr,
}

/// A whole message as this router sends it.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Datagram {
    ethernet: EthernetHeader,
    ip: Ipv6Header,
    message: Wire,
    option: LinkAddressOption,
}

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;

impl NeighbourMessage {
    /// Reads and checks a message as RFC 4861, sections 7.1.1 and 7.1.2 ask.
    ///
    /// # Errors
    /// [`DropReason::BadNeighbourDiscovery`].
    pub fn read(frame: &[u8], meta: &Meta) -> Result<Self, DropReason> {
        Self::check(frame, meta).ok_or(DropReason::BadNeighbourDiscovery)
    }

    fn check(frame: &[u8], meta: &Meta) -> Option<Self> {
        let ip: &Ipv6Header = header_at(frame, usize::from(meta.l3))?;
        let bytes = meta.l4_bytes(frame)?;
        let wire: &Wire = header_at(bytes, 0)?;
        let length = u16::try_from(bytes.len()).ok()?;
        let sum = checksum::pseudo_header(&ip.src, &ip.dst, protocol::ICMPV6, length).with(bytes);
        let is_advertisement = match wire.kind {
            NEIGHBOUR_SOLICITATION => false,
            NEIGHBOUR_ADVERTISEMENT => true,
            _ => return None,
        };
        let wanted = if is_advertisement { TARGET_LINK_ADDRESS } else { SOURCE_LINK_ADDRESS };
        let link_address = link_address(bytes.get(size_of::<Wire>()..)?, wanted).ok()?;
        let message = Self {
            src: ip.source(),
            dst: ip.destination(),
            is_advertisement,
            flags: if is_advertisement { wire.flags } else { 0 },
            target: wire.target.into(),
            link_address,
        };
        let ok = ip.hop_limit == 255 && wire.code == 0 && sum.fold() == 0xffff && message.is_sane();
        ok.then_some(message)
    }

    fn is_sane(&self) -> bool {
        let station = self.link_address.is_none_or(MacAddr::is_station);
        let target = !self.target.is_unspecified() && !scope::is_martian_source_v6(self.target);
        let source = if self.is_advertisement {
            // An answer to a group answers nobody in particular.
            let to_group = self.dst.is_multicast() && self.flags & SOLICITED != 0;
            !self.src.is_unspecified() && !to_group
        } else {
            !self.src.is_unspecified()
                || (self.link_address.is_none() && self.dst == solicited_node(self.target))
        };
        station && target && source
    }

    /// Writes the message with its Ethernet header into `frame`, in place of what was there.
    ///
    /// # Errors
    /// When the frame has no room for 86 bytes.
    pub fn write(&self, frame: &mut Frame, to: MacAddr, from: MacAddr) -> Result<(), NoRoom> {
        let (kind, option) = if self.is_advertisement {
            (NEIGHBOUR_ADVERTISEMENT, TARGET_LINK_ADDRESS)
        } else {
            (NEIGHBOUR_SOLICITATION, SOURCE_LINK_ADDRESS)
        };
        let length = (size_of::<Wire>() + size_of::<LinkAddressOption>()) as u16;
        let mut datagram = Datagram {
            ethernet: EthernetHeader {
                destination: to,
                source: from,
                ethertype: U16::new(ethernet::IPV6),
            },
            ip: Ipv6Header::new(self.src, self.dst, protocol::ICMPV6, 255, length),
            message: Wire {
                kind,
                code: 0,
                checksum: U16::new(0),
                flags: self.flags,
                reserved: [0; 3],
                target: self.target.octets(),
            },
            option: LinkAddressOption {
                kind: option,
                length: 1,
                mac: self.link_address.unwrap_or(from),
            },
        };
        let sum =
            checksum::pseudo_header(&datagram.ip.src, &datagram.ip.dst, protocol::ICMPV6, length)
                .with(datagram.message.as_bytes())
                .with(datagram.option.as_bytes());
        datagram.message.checksum.set(sum.checksum());
        frame.write(datagram.as_bytes())
    }
}

/// The group that a station with the address listens to (RFC 4291, section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The MAC address that a group has on Ethernet (RFC 2464, section 7).
pub fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The link-local address that a station makes of its MAC address (RFC 4291, appendix A).
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The link-layer address among the options.
///
/// # Errors
/// When the options are malformed.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, DropReason> {
    const BAD: DropReason = DropReason::BadNeighbourDiscovery;
    let mut found = None;
    for _ in 0..OPTIONS_MAX {
        if options.is_empty() {
            break;
        }
        let [kind, units] = *header_at::<[u8; 2]>(options, 0).ok_or(BAD)?;
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return Err(BAD);
        }
        if kind == wanted && length == size_of::<LinkAddressOption>() {
            found = header_at::<LinkAddressOption>(options, 0).map(|option| option.mac);
        }
        options = options.get(length..).ok_or(BAD)?;
    }
    Ok(found)
}

const _: () = assert!(size_of::<Datagram>() == ethernet::HEADER_LEN + ipv6::HEADER_LEN + 32);

#[cfg(test)]
mod tests {
    use weir_frame::{FrameSize, Region};
    use weir_state_transfer::ServiceId;

    use super::*;
    use crate::packet::samples::{HOST_A6, HOST_B6, MAC_A, MAC_B};
    use crate::packet::{Parsed, parse};

    fn solicitation() -> NeighbourMessage {
        NeighbourMessage {
            src: HOST_A6,
            dst: solicited_node(HOST_B6),
            is_advertisement: false,
            flags: 0,
            target: HOST_B6,
            link_address: Some(MAC_A),
        }
    }

    fn written(message: &NeighbourMessage) -> Vec<u8> {
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        message.write(&mut frames[0], group_mac(message.dst), MAC_A).unwrap();
        frames[0].data().to_vec()
    }

    fn read(frame: &[u8]) -> Result<NeighbourMessage, DropReason> {
        match parse(frame, ServiceId(0)) {
            Ok(Parsed::Ip(meta)) => NeighbourMessage::read(frame, &meta),
            other => panic!("{other:?}"),
        }
    }

    /// Changes a byte of the message and mends the checksum.
    fn with_byte(place: usize, value: u8) -> Vec<u8> {
        let mut frame = written(&solicitation());
        frame[place] = value;
        frame[56..58].fill(0);
        let sum = checksum::pseudo_header(&frame[22..38], &frame[38..54], 58, 32);
        let sum = sum.with(&frame[54..]).checksum();
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn a_message_reads_as_it_was_written_and_an_independent_library_finds_its_checksum_right() {
        let frame = written(&solicitation());
        assert_eq!(read(&frame), Ok(solicitation()));
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(etherparse::TransportHeader::Icmpv6(icmp)) = packet.transport else { panic!() };
        let payload = &frame[62..];
        let sum =
            icmp.icmp_type.calc_checksum(HOST_A6.octets(), solicitation().dst.octets(), payload);
        assert_eq!(sum, Ok(icmp.checksum));
        let answer = NeighbourMessage {
            src: HOST_B6,
            dst: HOST_A6,
            is_advertisement: true,
            flags: ROUTER | SOLICITED | OVERRIDE,
            target: HOST_B6,
            link_address: Some(MAC_B),
        };
        assert_eq!(read(&written(&answer)), Ok(answer));
    }

    #[test]
    fn messages_that_break_the_rules_are_bad() {
        let bad = Err(DropReason::BadNeighbourDiscovery);
        let mut wrong_sum = written(&solicitation());
        wrong_sum[70] ^= 1;
        assert_eq!(read(&wrong_sum), bad);
        assert_eq!(read(&with_byte(21, 254)), bad, "it came through a router");
        assert_eq!(read(&with_byte(55, 1)), bad, "code");
        assert_eq!(read(&with_byte(62, 0xff)), bad, "target is a group");
        assert_eq!(read(&with_byte(79, 0)), bad, "option of no length");
        assert_eq!(read(&with_byte(79, 2)), bad, "option over the end");
        assert_eq!(read(&with_byte(80, 3)), bad, "group as link address");
        let mut probe = solicitation();
        probe.src = Ipv6Addr::UNSPECIFIED;
        assert_eq!(read(&written(&probe)), bad, "a probe for a free address has no link address");
    }

    #[test]
    fn addresses_of_groups_and_links_are_as_the_rfcs_print_them() {
        let address = "4037::1:800:200e:8c6c".parse().unwrap();
        assert_eq!(solicited_node(address), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
        assert_eq!(group_mac(solicited_node(address)).to_string(), "33:33:ff:0e:8c:6c");
        let mac = "34:56:78:9a:bc:de".parse().unwrap();
        assert_eq!(link_local(mac), "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
    }
}
