//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::{self, HEADER_LEN, MacAddr};
use super::header::header_at;
use super::reason::DropReason;

/// The operation code of a request.
pub const REQUEST: u16 = 1;
/// The operation code of a reply.
pub const REPLY: u16 = 2;

/// An ARP message about IPv4 over Ethernet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ArpMessage {
    /// 1 for Ethernet.
    pub hardware: U16,
    /// The Ethernet type of the protocol: IPv4.
    pub protocol: U16,
    /// 6.
    pub hardware_len: u8,
    /// 4.
    pub protocol_len: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: U16,
    /// The MAC address of the sender.
    pub sender_mac: MacAddr,
    /// The IPv4 address of the sender; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: [u8; 4],
    /// The MAC address of the target; not set in a request.
    pub target_mac: MacAddr,
    /// The IPv4 address that is asked for.
    pub target_ip: [u8; 4],
}

impl ArpMessage {
    /// A message with the fixed fields set.
    pub fn new(operation: u16, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Self {
        Self {
            hardware: U16::new(1),
            protocol: U16::new(ethernet::IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac: sender.0,
            sender_ip: sender.1.octets(),
            target_mac: target.0,
            target_ip: target.1.octets(),
        }
    }

    /// Reads the ARP message of an Ethernet frame.
    ///
    /// # Errors
    /// [`DropReason::BadArp`] when it is truncated, not about IPv4 over Ethernet, or its sender
    /// cannot be one station.
    pub fn read(frame: &[u8]) -> Result<Self, DropReason> {
        let message: &Self = header_at(frame, HEADER_LEN).ok_or(DropReason::BadArp)?;
        let kind = (
            message.hardware.get(),
            message.protocol.get(),
            message.hardware_len,
            message.protocol_len,
        );
        let sender = message.sender();
        if kind != (1, ethernet::IPV4, 6, 4)
            || !matches!(message.operation.get(), REQUEST | REPLY)
            || !message.sender_mac.is_station()
            || sender.is_multicast()
            || sender.is_broadcast()
            || sender.is_loopback()
        {
            return Err(DropReason::BadArp);
        }
        Ok(*message)
    }

    /// The IPv4 address of the sender.
    pub fn sender(&self) -> Ipv4Addr {
        self.sender_ip.into()
    }

    /// The IPv4 address that is asked for, or answered to.
    pub fn target(&self) -> Ipv4Addr {
        self.target_ip.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: (MacAddr, Ipv4Addr) = (MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1));

    fn frame(message: &ArpMessage) -> Vec<u8> {
        let mut frame = vec![0; HEADER_LEN];
        frame.extend_from_slice(message.as_bytes());
        frame
    }

    fn request() -> ArpMessage {
        ArpMessage::new(REQUEST, SENDER, (MacAddr::default(), Ipv4Addr::new(10, 0, 0, 2)))
    }

    #[test]
    fn a_request_reads_as_it_was_written_and_a_truncated_one_is_bad() {
        let frame = frame(&request());
        assert_eq!(frame.len(), HEADER_LEN + 28);
        assert_eq!(ArpMessage::read(&frame), Ok(request()));
        assert_eq!(ArpMessage::read(&frame[..frame.len() - 1]), Err(DropReason::BadArp));
    }

    #[test]
    fn impossible_messages_are_bad() {
        let mut cases = [request(); 5];
        cases[0].hardware = U16::new(2);
        cases[1].operation = U16::new(3);
        cases[2].sender_mac = MacAddr::BROADCAST;
        cases[3].sender_ip = [224, 0, 0, 1];
        cases[4].protocol_len = 16;
        for case in &cases {
            assert_eq!(ArpMessage::read(&frame(case)), Err(DropReason::BadArp), "{case:?}");
        }
    }
}
