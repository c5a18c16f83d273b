//! Packets in capture files, made by hand.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

/// A frame as it is in a file.
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    /// The address of every host.
    pub(crate) const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

    /// A datagram to the router's left port that carries one number.
    pub(crate) fn udp(src: [u8; 4], dst: [u8; 4], number: u8) -> Self {
        let builder = PacketBuilder::ethernet2(Self::HOST, [2, 0, 0, 0, 1, 1])
            .ipv4(src, dst, 64)
            .udp(1000, 2000);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[number]).unwrap();
        Self(bytes)
    }

    /// An ARP request (RFC 826) to everybody.
    pub(crate) fn arp_request(from: [u8; 4], target: [u8; 4]) -> Self {
        let mut bytes = vec![0xff; 6];
        bytes.extend(Self::HOST);
        bytes.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        bytes.extend(Self::HOST);
        bytes.extend(from);
        bytes.extend([0; 6]);
        bytes.extend(target);
        Self(bytes)
    }

    /// The number that a datagram carries.
    pub(crate) fn udp_number(&self) -> Option<u8> {
        match SlicedPacket::from_ethernet(&self.0).unwrap().transport? {
            TransportSlice::Udp(udp) => udp.payload().first().copied(),
            _ => None,
        }
    }

    /// Destination and source.
    pub(crate) fn macs(&self) -> ([u8; 6], [u8; 6]) {
        (self.0[..6].try_into().unwrap(), self.0[6..12].try_into().unwrap())
    }

    pub(crate) fn ttl(&self) -> u8 {
        self.0[22]
    }

    pub(crate) fn ip_checksum_is_right(&self) -> bool {
        let words = self.0[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }
}

/// Writes a capture file.
pub(crate) fn write(path: &Path, packets: &[Packet]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for Packet(bytes) in packets {
        writer.write_packet(&PcapPacket::new(Duration::ZERO, bytes.len() as u32, bytes)).unwrap();
    }
}

/// Reads a capture file.
pub(crate) fn read(path: &Path) -> Vec<Packet> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        packets.push(Packet(packet.unwrap().data.into_owned()));
    }
    packets
}
