//! Bulk transfers over the kernel's TCP, every byte of which is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::namespace::Namespace;
use crate::topology::{Host, Topology};
use crate::wait::Deadline;

/// The port of the first streams of a host; the next have the next.
const PORT: u16 = 5_001;
const CHUNK: usize = 16 << 10;
/// Bounds what a stream has in flight to about 45 packets, so that all streams together stay
/// within the room that [`crate::traffic::CREDIT`] leaves in the queues on the way.
const SOCKET_BUFFER: usize = 64 << 10;
/// A stream that makes no progress for so long has failed.
const STALLED_AFTER: Duration = Duration::from_secs(20);

/// What to transfer on each stream.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes a second on each stream.
    pub rate: u64,
    /// Bytes of each stream; fewer when it is stopped before.
    pub bytes: u64,
    /// Where the contents come from.
    pub seed: u64,
    /// Streams from each host to the next.
    pub each: u16,
}

/// Streams around the hosts of a topology, from each to the next, half of them over IPv6.
#[derive(Debug)]
pub struct Bulk {
    /// Dropping it tells the senders to stop.
    stop: Vec<Sender<()>>,
    senders: Vec<JoinHandle<Result<u64>>>,
    receivers: Vec<JoinHandle<Result<u64>>>,
    received: Arc<AtomicU64>,
}

/// What came of the transfers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// Streams of which every byte that was sent arrived, in order and unchanged.
    pub whole: usize,
    /// Streams.
    pub streams: usize,
    /// Bytes that arrived as they were sent.
    pub bytes_ok: u64,
}

impl Bulk {
    /// Starts streams from each host to the next.
    ///
    /// # Errors
    /// When a host cannot listen, or another not connect to it.
    pub fn start(topology: &Topology, options: Options) -> Result<Self> {
        let mut bulk = Self {
            stop: Vec::new(),
            senders: Vec::new(),
            receivers: Vec::new(),
            received: Arc::default(),
        };
        let hosts = &topology.hosts;
        let pairs = || hosts.iter().zip(hosts.iter().cycle().skip(1));
        let streams = (0..options.each).flat_map(|port| pairs().map(move |pair| (port, pair)));
        for (index, (port, (from, to))) in streams.enumerate() {
            let address =
                if index % 2 == 0 { IpAddr::V4(to.ipv4()) } else { IpAddr::V6(to.ipv6()) };
            let target = SocketAddr::new(address, PORT + port);
            let listener = listen(&to.namespace, target)?;
            let content = Content::new(options.seed.wrapping_add(index as u64));
            let check = content.clone();
            let received = Arc::clone(&bulk.received);
            bulk.receivers.push(thread::spawn(move || receive(&listener, check, &received)));
            let stream = connect(&from.namespace, target)?;
            let (stop, stopped) = mpsc::channel();
            bulk.stop.push(stop);
            bulk.senders.push(thread::spawn(move || send(stream, content, options, &stopped)));
        }
        Ok(bulk)
    }

    /// Bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether every stream has sent and received all of its bytes.
    pub fn is_finished(&self) -> bool {
        self.receivers.iter().all(JoinHandle::is_finished)
    }

    /// Tells the senders to stop where they are, waits for the receivers, and reports.
    pub fn stop(mut self) -> BulkReport {
        self.stop.clear();
        self.finish()
    }

    /// Waits for all transfers to end by themselves, and reports.
    pub fn finish(mut self) -> BulkReport {
        let mut report = BulkReport { streams: self.senders.len(), ..BulkReport::default() };
        for (sender, receiver) in self.senders.drain(..).zip(self.receivers.drain(..)) {
            let sent = join(sender);
            let received = join(receiver);
            if let (Ok(sent), Ok(received)) = (&sent, &received) {
                report.whole += usize::from(sent == received);
            }
            report.bytes_ok += received.unwrap_or_default();
        }
        report
    }
}

/// TCP segments that the hosts of a topology have sent again since they were made.
///
/// # Errors
/// When the counters of a host cannot be read.
pub fn retransmits(topology: &Topology) -> Result<u64> {
    topology.hosts.iter().map(|host| count(&host.namespace, "RetransSegs")).sum()
}

/// TCP resets that the hosts of a topology have sent, and connections that have ended by one there,
/// since they were made.
///
/// # Errors
/// When the counters of a host cannot be read.
pub fn resets(topology: &Topology) -> Result<u64> {
    let of_host = |host: &Host| -> Result<u64> {
        Ok(count(&host.namespace, "OutRsts")? + count(&host.namespace, "EstabResets")?)
    };
    topology.hosts.iter().map(of_host).sum()
}

/// A counter of TCP of a kernel.
fn count(namespace: &Namespace, name: &str) -> Result<u64> {
    let counters = namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    // Two lines: the names of the counters and their values.
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = lines.next().zip(lines.next()).context("no TCP counters")?;
    let mut counters = names.split(' ').zip(values.split(' '));
    let (_, count) = counters.find(|(known, _)| *known == name).context("no such counter")?;
    Ok(count.parse()?)
}

fn listen(namespace: &Namespace, address: SocketAddr) -> Result<TcpListener> {
    namespace.enter(|| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok(socket.into())
    })?
}

fn connect(namespace: &Namespace, address: SocketAddr) -> Result<TcpStream> {
    namespace.enter(|| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        socket.connect_timeout(&address.into(), STALLED_AFTER)?;
        let stream: TcpStream = socket.into();
        stream.set_write_timeout(Some(STALLED_AFTER))?;
        stream.set_read_timeout(Some(STALLED_AFTER))?;
        Ok(stream)
    })?
}

/// Sends at the rate until all is sent or the other end of `stop` is gone; returns the bytes sent.
fn send(
    mut stream: TcpStream,
    mut content: Content,
    options: Options,
    stop: &mpsc::Receiver<()>,
) -> Result<u64> {
    let mut chunk = [0; CHUNK];
    let mut sent = 0;
    let interval = Duration::from_nanos(CHUNK as u64 * 1_000_000_000 / options.rate.max(1));
    while sent < options.bytes {
        let next = Deadline::after(interval);
        let length = CHUNK.min(usize::try_from(options.bytes - sent).unwrap_or(CHUNK));
        content.fill(&mut chunk[..length]);
        stream.write_all(&chunk[..length]).context("a transfer has stalled")?;
        sent += length as u64;
        // The wait between chunks, unless it is time to stop.
        if stop.recv_timeout(next.left()) == Err(RecvTimeoutError::Disconnected) {
            break;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    // The other end closes when it has everything.
    ensure!(stream.read(&mut chunk)? == 0, "the receiver sent something");
    Ok(sent)
}

/// Receives to the end of the stream; returns the bytes, all of which were as expected.
fn receive(listener: &TcpListener, mut expected: Content, total: &AtomicU64) -> Result<u64> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(STALLED_AFTER))?;
    let (mut chunk, mut wanted) = ([0; CHUNK], [0; CHUNK]);
    let mut received = 0;
    loop {
        let length = match stream.read(&mut chunk) {
            Ok(0) => return Ok(received),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("a transfer has stalled"),
        };
        expected.fill(&mut wanted[..length]);
        if chunk[..length] != wanted[..length] {
            bail!("the content differs within {length} bytes of {received}");
        }
        received += length as u64;
        total.fetch_add(length as u64, Ordering::Relaxed);
    }
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A stream of bytes that both ends can make, however it is cut into pieces.
#[derive(Clone, Debug)]
pub struct Content {
    random: fastrand::Rng,
    word: [u8; 8],
    used: usize,
}

impl Content {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), word: [0; 8], used: 8 }
    }

    /// Writes what comes next of it.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.word.len() {
                self.word = self.random.u64(..).to_le_bytes();
                self.used = 0;
            }
            *byte = self.word[self.used];
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_however_it_is_cut() {
        let (mut whole, mut pieces) = ([0; 1000], [0; 1000]);
        Content::new(4).fill(&mut whole);
        let mut content = Content::new(4);
        for piece in pieces.chunks_mut(37) {
            content.fill(piece);
        }
        assert_eq!(whole, pieces);
        assert_ne!(whole[..8], whole[8..16]);
    }

    #[test]
    fn a_changed_byte_fails_the_receiver() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut bytes = [0; 5_000];
        Content::new(9).fill(&mut bytes);
        bytes[4_321] ^= 1;
        stream.write_all(&bytes).unwrap();
        drop(stream);
        let error = receive(&listener, Content::new(9), &AtomicU64::new(0)).unwrap_err();
        assert!(error.to_string().contains("differs"), "{error}");
    }

    #[test]
    #[ignore = "needs root"]
    fn transfers_through_the_kernel_arrive_whole() {
        let topology = Topology::new(1).unwrap();
        topology.forward_by_kernel().unwrap();
        let options = Options { rate: 1 << 30, bytes: 3 << 20, seed: 1, each: 2 };
        let report = Bulk::start(&topology, options).unwrap().finish();
        assert_eq!(report, BulkReport { whole: 8, streams: 8, bytes_ok: 24 << 20 });
        let slow = Bulk::start(&topology, Options { rate: 1 << 20, ..options }).unwrap();
        let report = slow.stop();
        assert_eq!((report.whole, report.streams), (8, 8));
        assert!(report.bytes_ok < 24 << 20);
        retransmits(&topology).unwrap();
        assert_eq!(resets(&topology).unwrap(), 0);
        // Nobody listens.
        assert!(
            connect(&topology.hosts[0].namespace, (topology.hosts[1].ipv4(), 9).into()).is_err()
        );
        assert_eq!(resets(&topology).unwrap(), 1);
    }
}
