//! Captures in files, and their frames addressed to a router.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

/// Ethernet header: the destination, the source, the type of the packet behind it.
const ETHERNET: usize = 14;

/// A file of the test data, `../shared/data` of the repository. It may be absent.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name)
}

/// The frames of a capture file as they are, and what is in front of their packets. A file whose
/// name ends in `gz` is unpacked by `gzip`.
///
/// # Errors
/// When it cannot be read, or is no capture.
pub fn read(path: &Path) -> Result<(Vec<Vec<u8>>, DataLink)> {
    let about = || format!("reading {}", path.display());
    if path.extension().is_some_and(|extension| extension == "gz") {
        let unzipped = Command::new("gzip").arg("-dc").arg(path).output().with_context(about)?;
        ensure!(unzipped.status.success(), "gzip cannot unpack {}", path.display());
        return frames(&unzipped.stdout[..]).with_context(about);
    }
    frames(File::open(path).with_context(about)?).with_context(about)
}

fn frames(file: impl Read) -> Result<(Vec<Vec<u8>>, DataLink)> {
    let mut reader = PcapReader::new(file)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_raw_packet() {
        frames.push(packet?.data.into_owned());
    }
    Ok((frames, reader.header().datalink))
}

/// An Ethernet frame as if the host `from` had sent it to the router's port `to`, without a VLAN
/// tag; loopback addresses become a host's.
pub fn readdress(frame: &[u8], to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.len() >= 18 && frame[12..14] == [0x81, 0] {
        frame.drain(12..16);
    }
    if frame.len() >= ETHERNET {
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
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

#[cfg(test)]
mod tests {
    use weir_dataplane::packet::checksum;

    use super::*;

    #[test]
    fn a_frame_is_addressed_without_its_tag_and_with_a_valid_checksum() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        (packet[12], packet[16]) = (127, 127);
        let sum = checksum::of(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let tagged = [&[9; 12][..], &[0x81, 0, 0, 1, 8, 0], &packet].concat();
        let frame = readdress(&tagged, [1; 6], [2; 6]);
        assert_eq!(frame[..14], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0]);
        assert_eq!((frame[26], frame[30], frame.len()), (11, 11, 34));
        assert!(checksum::is_valid(&frame[14..]));
    }

    #[test]
    fn a_file_that_is_no_capture_is_named() {
        let error = read(Path::new("/dev/null")).expect_err("it is empty");
        assert!(format!("{error:#}").contains("/dev/null"));
    }
}
