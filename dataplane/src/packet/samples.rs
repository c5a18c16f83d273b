//! Packets for tests, built by an independent library, and captured frames where the data is.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use etherparse::{PacketBuilder, PacketBuilderStep};

use super::MacAddr;
use super::checksum;

pub(crate) const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
pub(crate) const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
pub(crate) const HOST_A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub(crate) const HOST_B: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub(crate) const HOST_A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
pub(crate) const HOST_B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

pub(crate) fn udp4(src: Ipv4Addr, dst: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let step = v4(src, dst).udp(ports.0, ports.1);
    let mut frame = vec![];
    step.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn udp6(src: Ipv6Addr, dst: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let step = v6(src, dst).udp(ports.0, ports.1);
    let mut frame = vec![];
    step.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn tcp4(src: Ipv4Addr, dst: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let step = v4(src, dst).tcp(ports.0, ports.1, 1, 64);
    let mut frame = vec![];
    step.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn tcp6(src: Ipv6Addr, dst: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let step = v6(src, dst).tcp(ports.0, ports.1, 1, 64);
    let mut frame = vec![];
    step.write(&mut frame, payload).unwrap();
    frame
}

/// An ICMP message with code 0 and four zero bytes before its payload.
pub(crate) fn icmp4(src: Ipv4Addr, dst: Ipv4Addr, kind: u8, payload: &[u8]) -> Vec<u8> {
    let step = v4(src, dst).icmpv4_raw(kind, 0, [0; 4]);
    let mut frame = vec![];
    step.write(&mut frame, payload).unwrap();
    frame
}

/// An ICMPv6 message with code 0 and four zero bytes before its payload.
pub(crate) fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, kind: u8, payload: &[u8]) -> Vec<u8> {
    let step = v6(src, dst).icmpv6_raw(kind, 0, [0; 4]);
    let mut frame = vec![];
    step.write(&mut frame, payload).unwrap();
    frame
}

/// Makes the header checksum of an IPv4 frame right, over as many words as it says it has.
pub(crate) fn mend_ipv4(frame: &mut [u8]) {
    let end = (14 + usize::from(frame[14] & 0xf) * 4).min(frame.len());
    frame[24..26].fill(0);
    let sum = checksum::of(&frame[14..end]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// Frames of strangers that are broken in many ways, or `None` where the data is absent.
pub(crate) fn strange_frames() -> Option<Vec<Vec<u8>>> {
    let file = std::fs::File::open(data("badinput/derived/unique-frames.pcap")?).unwrap();
    let mut reader = pcap_file::pcap::PcapReader::new(file).unwrap();
    let mut frames = vec![];
    while let Some(packet) = reader.next_raw_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    Some(frames)
}

/// What another program found in each of [`strange_frames`], by its name for the field.
pub(crate) fn strange_rows() -> Option<Vec<BTreeMap<String, String>>> {
    let text = std::fs::read_to_string(data("badinput/derived/unique-frames.tshark.tsv")?).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_owned));
    let names: Vec<String> = lines.next().unwrap().collect();
    Some(lines.map(|fields| names.iter().cloned().zip(fields).collect()).collect())
}

/// The place of test data, or `None`, and a word about it, where it is absent.
fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !path.exists() {
        println!("data test skipped: {name}: ../shared/data/{name} is absent");
        return None;
    }
    Some(path)
}

fn v4(src: Ipv4Addr, dst: Ipv4Addr) -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(MAC_A.0, MAC_B.0).ipv4(src.octets(), dst.octets(), 64)
}

fn v6(src: Ipv6Addr, dst: Ipv6Addr) -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(MAC_A.0, MAC_B.0).ipv6(src.octets(), dst.octets(), 64)
}
