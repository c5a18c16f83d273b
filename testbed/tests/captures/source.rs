//! Captures, addressed to the router.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use weir_testbed::memory_node::{host_mac, port_mac};

/// The port that all packets come in by.
pub(crate) const PORT_IN: u8 = 0;
/// The longest frame that a port receives: a frame of the pool less its headroom, in bytes.
pub(crate) const RECEIVED_MAX: usize = 2048 - 256;

/// A capture whose frames a host behind the port could have sent to the router.
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) frames: Vec<Vec<u8>>,
    /// Frames that are left out because no port receives them: segments before they were cut up.
    pub(crate) too_long: usize,
}

/// The captures, or none where the data is absent.
pub(crate) fn captures() -> Option<Vec<Capture>> {
    let mut paths: Vec<_> = fs::read_dir(data("traces")).ok()?.map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().contains(".pcap"));
    paths.sort();
    Some(paths.iter().map(|path| capture(path)).collect())
}

/// A file of the test data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name)
}

/// The frames of a capture file as they are, and what is in front of their packets.
pub(crate) fn read(path: &Path) -> (Vec<Vec<u8>>, DataLink) {
    if path.extension().is_some_and(|extension| extension == "gz") {
        let unzipped = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip");
        assert!(unzipped.status.success(), "{}", path.display());
        return frames_of(PcapReader::new(&unzipped.stdout[..]).unwrap());
    }
    frames_of(PcapReader::new(File::open(path).unwrap()).unwrap())
}

/// The frames addressed to the router, from a host.
pub(crate) fn readdressed(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| readdress(frame)).collect()
}

fn capture(path: &Path) -> Capture {
    let (frames, link) = read(path);
    let frames: Vec<_> = match link {
        DataLink::ETHERNET => frames,
        // Four bytes of address family instead of an Ethernet header, and a checksum that a
        // loopback device leaves out.
        DataLink::NULL => frames
            .iter()
            .map(|frame| with_checksum([&[0; 12][..], &[8, 0], &frame[4..]].concat()))
            .collect(),
        other => panic!("{}: a link layer of {other:?}", path.display()),
    };
    let mut readdressed = readdressed(&frames);
    readdressed.retain(|frame| frame.len() <= RECEIVED_MAX);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    Capture { name, too_long: frames.len() - readdressed.len(), frames: readdressed }
}

/// An IPv4 frame with the checksum of its header (RFC 1071) filled in.
fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let words = frame[14..end].as_chunks::<2>().0.iter();
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

fn frames_of(mut reader: PcapReader<impl std::io::Read>) -> (Vec<Vec<u8>>, DataLink) {
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_raw_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    (frames, reader.header().datalink)
}

/// To the router's port, from its host, without a VLAN tag; loopback addresses become a host's.
fn readdress(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.len() >= 18 && frame[12..14] == [0x81, 0] {
        frame.drain(12..16);
    }
    if frame.len() >= 14 {
        frame[..6].copy_from_slice(&port_mac(PORT_IN).0);
        frame[6..12].copy_from_slice(&host_mac(PORT_IN).0);
    }
    if frame.len() >= 34 && frame[12..14] == [8, 0] && frame[26] == 127 && frame[30] == 127 {
        // Two words of the header grow by 0x0b00 - 0x7f00, so its checksum shrinks by as much.
        (frame[26], frame[30]) = (11, 11);
        let sum = u32::from(u16::from_be_bytes([frame[24], frame[25]])) + 2 * (0x7f00 - 0x0b00);
        let folded = (sum & 0xffff) + (sum >> 16);
        frame[24..26].copy_from_slice(&(folded as u16).to_be_bytes());
    }
    frame
}
