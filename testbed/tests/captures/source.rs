//! Captures, addressed to the router.

use std::fs;
use std::path::Path;

use pcap_file::DataLink;
use weir_testbed::memory_node::{host_mac, port_mac};
use weir_testbed::trace::{data, read, readdress};

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

/// The captures, or none where the data is absent. A folder without any is a fault: a test over no
/// capture would pass.
pub(crate) fn captures() -> Option<Vec<Capture>> {
    let folder = data("traces");
    let mut paths: Vec<_> = fs::read_dir(&folder).ok()?.map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().contains(".pcap"));
    paths.sort();
    assert!(!paths.is_empty(), "{} has no capture", folder.display());
    Some(paths.iter().map(|path| capture(path)).collect())
}

/// The frames addressed to the router, from a host.
pub(crate) fn readdressed(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let [to, from] = [port_mac(PORT_IN).0, host_mac(PORT_IN).0];
    frames.iter().map(|frame| readdress(frame, to, from)).collect()
}

fn capture(path: &Path) -> Capture {
    let (frames, link) = read(path).unwrap();
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
