//! Ports on capture files: what is received is replayed from one, what is sent is written to one.
//!
//! Legacy pcap files of either byte order with microseconds or nanoseconds are read, with an
//! Ethernet link layer. A file is read and written piece by piece; a port keeps at most one piece
//! in memory.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use arrayvec::ArrayVec;
use pcap_file::pcap::{PcapHeader, PcapReader};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use weir_frame::{Frame, Pool};

use super::BURST;

/// Frames that are sent and not yet written: the transmit ring of such a port.
pub const TX_SLOTS: usize = 256;

/// The longest packet that is written whole, in bytes.
const SNAP_LEN: u32 = 65_535;

/// The receive side: replays a file as fast as it is polled, once.
pub struct PcapRx {
    reader: Option<PcapReader<File>>,
    path: PathBuf,
    too_long: u64,
    failed: Option<PcapError>,
}

/// The transmit side: what has been flushed is in the file.
pub struct PcapTx {
    writer: Option<BufWriter<File>>,
    path: PathBuf,
    waiting: ArrayVec<Frame, TX_SLOTS>,
    submitted: u64,
    completed: u64,
    failed: Option<io::Error>,
}

/// A capture file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system refuses it.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no pcap file.
    #[error("{path} is not a pcap file (a pcapng file is converted by: editcap -F pcap OLD NEW)")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PcapError,
    },
    /// It holds packets without Ethernet headers.
    #[error("{path} holds {link:?} packets; only ETHERNET can be replayed")]
    Link {
        /// The file.
        path: PathBuf,
        /// What it holds.
        link: DataLink,
    },
}

impl PcapRx {
    /// Opens the file to be replayed.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let path = path.to_owned();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(source) => return Err(CaptureError::Open { path, source }),
        };
        let reader = match PcapReader::new(file) {
            Ok(reader) => reader,
            Err(source) => return Err(CaptureError::Format { path, source }),
        };
        let link = reader.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(CaptureError::Link { path, link });
        }
        Ok(Self { reader: Some(reader), path, too_long: 0, failed: None })
    }

    /// A port that receives nothing: it only has a file to write to.
    pub fn none() -> Self {
        Self { reader: None, path: PathBuf::new(), too_long: 0, failed: None }
    }

    /// Replays the next packets, as many as there are free frames for.
    pub fn receive(&mut self, pool: &mut Pool, out: &mut ArrayVec<Frame, BURST>) {
        while !out.is_full()
            && let Some(reader) = &mut self.reader
            && let Some(mut frame) = pool.alloc()
        {
            match reader.next_raw_packet() {
                Some(Ok(packet)) if frame.write(&packet.data).is_ok() => out.push(frame),
                Some(Ok(_)) => {
                    self.too_long += 1;
                    pool.free(frame);
                }
                end => {
                    self.failed = end.and_then(Result::err);
                    self.reader = None;
                    pool.free(frame);
                }
            }
        }
    }

    /// Packets of the file that did not fit in a frame.
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// Whether the file has been replayed, or could not be read further.
    pub fn is_finished(&self) -> bool {
        self.reader.is_none()
    }

    /// Why the file could not be read further, if so.
    pub fn failure(&self) -> Option<&PcapError> {
        self.failed.as_ref()
    }
}

impl PcapTx {
    /// Creates the file to write to, in place of what has its name.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        let path = path.to_owned();
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(source) => return Err(CaptureError::Open { path, source }),
        };
        let header = PcapHeader {
            snaplen: SNAP_LEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let mut writer = BufWriter::new(file);
        if let Err(source) = header.write_to(&mut writer) {
            return Err(CaptureError::Format { path, source });
        }
        Ok(Self { writer: Some(writer), path, ..Self::none() })
    }

    /// A port whose packets go nowhere: it only has a file to replay.
    pub fn none() -> Self {
        Self {
            writer: None,
            path: PathBuf::new(),
            waiting: ArrayVec::new(),
            submitted: 0,
            completed: 0,
            failed: None,
        }
    }

    /// Queues a frame to be written at the next flush.
    ///
    /// # Errors
    /// Gives the frame back when [`TX_SLOTS`] are waiting.
    pub fn send(&mut self, frame: Frame) -> Result<(), Frame> {
        self.waiting.try_push(frame).map_err(|full| full.element())?;
        self.submitted += 1;
        Ok(())
    }

    /// Whether one more can wait.
    pub fn has_room(&self) -> bool {
        !self.waiting.is_full()
    }

    /// Writes what is queued and frees its frames. What cannot be written is lost, as on a wire;
    /// [`PcapTx::failure`] says why.
    pub fn flush(&mut self, pool: &mut Pool) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = write_packets(writer, &self.waiting)
        {
            self.failed = Some(error);
            self.writer = None;
        }
        self.completed += self.waiting.len() as u64;
        pool.adopt(self.waiting.drain(..));
    }

    /// Packets queued, ever.
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// Packets written, ever.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Why nothing more is written, if so.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failed.as_ref()
    }
}

impl fmt::Debug for PcapRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replay of {}", self.path.display())
    }
}

impl fmt::Debug for PcapTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capture to {}", self.path.display())
    }
}

/// Writes one record for each frame, in the byte order and resolution of the header.
fn write_packets(writer: &mut BufWriter<File>, frames: &[Frame]) -> io::Result<()> {
    let now = wall_clock();
    // Seconds have 32 bits in the format.
    let seconds = (now.as_secs() as u32).to_le_bytes();
    let nanos = now.subsec_nanos().to_le_bytes();
    for frame in frames {
        let length = (frame.len() as u32).to_le_bytes();
        for field in [seconds, nanos, length, length] {
            writer.write_all(&field)?;
        }
        writer.write_all(frame.data())?;
    }
    writer.flush()
}

/// The time of day, for the packets of one flush.
fn wall_clock() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a capture file holds times of day")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use pcap_file::pcap::{PcapPacket, PcapWriter};
    use weir_frame::{FrameSize, HomeId, Homes, Region};

    use super::*;

    /// A file that is removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("weir-pcap-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    fn pool(frames: u32) -> (Region, Pool) {
        let (region, frames) = Region::heap(frames, FrameSize::B2048);
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        pool.adopt(frames);
        (region, pool)
    }

    fn packets(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|number| vec![number as u8; 60 + number]).collect()
    }

    fn write_file(path: &Path, header: PcapHeader, packets: &[Vec<u8>]) {
        let mut writer = PcapWriter::with_header(File::create(path).unwrap(), header).unwrap();
        for packet in packets {
            let packet = PcapPacket::new(Duration::from_secs(1), packet.len() as u32, packet);
            writer.write_packet(&packet).unwrap();
        }
    }

    /// Replays a file to its end.
    fn replay(path: &Path, pool: &mut Pool) -> (Vec<Vec<u8>>, PcapRx) {
        let mut rx = PcapRx::open(path).unwrap();
        let mut found = vec![];
        while !rx.is_finished() {
            let mut out = ArrayVec::new();
            rx.receive(pool, &mut out);
            for frame in out {
                found.push(frame.data().to_vec());
                pool.free(frame);
            }
        }
        (found, rx)
    }

    #[test]
    fn files_of_both_byte_orders_and_resolutions_are_replayed_in_order() {
        let file = Scratch::new("orders");
        let (_region, mut pool) = pool(8);
        for endianness in [Endianness::Big, Endianness::Little] {
            for ts_resolution in [TsResolution::MicroSecond, TsResolution::NanoSecond] {
                let header = PcapHeader { endianness, ts_resolution, ..PcapHeader::default() };
                write_file(&file.0, header, &packets(100));
                let (found, rx) = replay(&file.0, &mut pool);
                assert_eq!(found, packets(100));
                assert!(rx.failure().is_none());
                assert_eq!(pool.len(), 8);
            }
        }
    }

    #[test]
    fn what_was_flushed_is_in_the_file() {
        let file = Scratch::new("sent");
        let (_region, mut pool) = pool(TX_SLOTS as u32 + 1);
        let mut tx = PcapTx::create(&file.0).unwrap();
        for packet in packets(10) {
            let mut frame = pool.alloc().unwrap();
            frame.write(&packet).unwrap();
            tx.send(frame).unwrap();
        }
        assert_eq!((tx.submitted(), tx.completed()), (10, 0));
        tx.flush(&mut pool);
        assert_eq!((tx.submitted(), tx.completed()), (10, 10));
        assert_eq!(pool.len(), TX_SLOTS + 1);
        for _ in 0..TX_SLOTS {
            tx.send(pool.alloc().unwrap()).unwrap();
        }
        let frame = tx.send(pool.alloc().unwrap()).unwrap_err();
        pool.free(frame);
        tx.flush(&mut pool);
        assert!(tx.failure().is_none());
        let (found, _) = replay(&file.0, &mut pool);
        assert_eq!(found[..10], packets(10));
        assert_eq!(found.len(), 10 + TX_SLOTS);
    }

    #[test]
    fn packets_that_fit_in_no_frame_are_counted_and_skipped() {
        let file = Scratch::new("long");
        let (_region, mut pool) = pool(4);
        let packets = [vec![1; 60], vec![2; 4000], vec![3; 60]];
        write_file(&file.0, PcapHeader::default(), &packets);
        let (found, rx) = replay(&file.0, &mut pool);
        assert_eq!((found.len(), rx.too_long()), (2, 1));
    }

    #[test]
    fn a_file_that_is_cut_ends_the_replay_with_a_reason() {
        let file = Scratch::new("cut");
        let (_region, mut pool) = pool(4);
        write_file(&file.0, PcapHeader::default(), &packets(5));
        let bytes = std::fs::read(&file.0).unwrap();
        for cut in (24..bytes.len()).step_by(7) {
            File::create(&file.0).unwrap().write_all(&bytes[..cut]).unwrap();
            let (found, _) = replay(&file.0, &mut pool);
            assert!(found.len() < 5 && packets(5).starts_with(&found));
            assert_eq!(pool.len(), 4);
        }
    }

    #[test]
    fn files_that_are_no_capture_of_ethernet_are_refused_with_a_reason() {
        let file = Scratch::new("refused");
        assert!(matches!(PcapRx::open(&file.0), Err(CaptureError::Open { .. })));
        std::fs::write(&file.0, b"no capture at all, but long enough").unwrap();
        assert!(matches!(PcapRx::open(&file.0), Err(CaptureError::Format { .. })));
        let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
        write_file(&file.0, header, &[]);
        assert!(matches!(PcapRx::open(&file.0), Err(CaptureError::Link { .. })));
    }

    #[test]
    fn a_port_without_files_receives_nothing_and_sends_nowhere() {
        let (_region, mut pool) = pool(2);
        let mut out = ArrayVec::new();
        PcapRx::none().receive(&mut pool, &mut out);
        assert!(out.is_empty());
        let mut tx = PcapTx::none();
        tx.send(pool.alloc().unwrap()).unwrap();
        tx.flush(&mut pool);
        assert_eq!((tx.completed(), pool.len()), (1, 2));
    }
}
