//! TCP connections that are busy in both directions, every byte of which is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};
use weir_testbed::bulk::Content;
use weir_testbed::namespace::Namespace;
use weir_testbed::wait::{LIMIT, pause, until};

/// Bytes that are written at once, and how long a writer waits between two times: so much that every
/// connection has packets on their way at any time, and so little that all fit in the queues.
const PIECE: usize = 1_000;
const BETWEEN: Duration = Duration::from_millis(8);
/// Bounds what one direction of a connection has in flight.
const SOCKET_BUFFER: usize = 8 << 10;
/// The ports of the server: what is published, and another.
const PORT: u16 = 5_001;
pub(crate) const OTHER_PORT: u16 = 5_002;

/// Connections from a client to a server.
pub(crate) struct Conversations {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<u64>>>,
    open: Open,
    /// Bytes that have arrived as they were sent, by connection and direction.
    progress: Vec<Arc<AtomicU64>>,
    seed: u64,
}

/// Connections on which all has been said, closed when dropped.
///
/// Not before: who closes last forgets a connection at once, and answers with a reset when the other end
/// asks once more whether its end has come (a tail loss probe).
pub(crate) struct Ended {
    /// Bytes that arrived, in all.
    pub(crate) bytes: u64,
    _open: Open,
}

/// The ends of connections: what writes, and who reads until they are shut down.
#[derive(Default)]
struct Open {
    writing: Vec<TcpStream>,
    readers: Vec<JoinHandle<Result<u64>>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        for stream in &self.writing {
            // Fails for one that has ended by itself.
            let _shut = stream.shutdown(Shutdown::Both);
        }
        for reader in self.readers.drain(..) {
            let _ended = reader.join();
        }
    }
}

impl Conversations {
    /// Opens one to each of the addresses, and starts to talk.
    pub(crate) fn start(
        client: &Namespace,
        server: &Namespace,
        to: &[SocketAddr],
        seed: u64,
    ) -> Self {
        let listeners = ["203.0.113.2", "fd02::2"].map(|address| {
            [PORT, OTHER_PORT].map(|port| {
                let address = SocketAddr::new(address.parse().unwrap(), port);
                server.enter(|| TcpListener::bind(address)).unwrap().unwrap()
            })
        });
        let mut all = Self {
            stop: Arc::default(),
            writers: Vec::new(),
            open: Open::default(),
            progress: Vec::new(),
            seed,
        };
        for address in to {
            let [published, other] = &listeners[usize::from(address.is_ipv6())];
            let listener = if address.port() == OTHER_PORT { other } else { published };
            let near = client.enter(|| connect(*address)).unwrap().unwrap();
            let far = listener.accept().unwrap().0;
            all.talk(&near, &far);
        }
        all
    }

    /// Both ends write to each other, and check what they read.
    fn talk(&mut self, near: &TcpStream, far: &TcpStream) {
        for (from, to) in [(near, far), (far, near)] {
            let content = Content::new(self.seed.wrapping_add(self.progress.len() as u64));
            let progress = Arc::<AtomicU64>::default();
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let (stop, expected, read) =
                (Arc::clone(&self.stop), content.clone(), Arc::clone(&progress));
            self.open.writing.push(from.try_clone().unwrap());
            self.writers.push(thread::spawn(move || write(from, content, &stop)));
            self.open.readers.push(thread::spawn(move || check(to, expected, &read)));
            self.progress.push(progress);
        }
    }

    /// Waits until every direction of every connection has had so many bytes more.
    pub(crate) fn let_flow(&self, bytes: u64) -> Result<()> {
        let now = || self.progress.iter().map(|count| count.load(Ordering::Relaxed));
        let before: Vec<u64> = now().collect();
        until("every connection to go on", LIMIT, || {
            now().zip(&before).all(|(now, before)| now >= before + bytes).then_some(())
        })
    }

    /// Ends them when all has arrived as it was sent; they are open until the answer is dropped.
    pub(crate) fn finish(self) -> Result<Ended> {
        let Self { stop, writers, mut open, progress, .. } = self;
        stop.store(true, Ordering::Relaxed);
        let place = |number: usize| format!("connection {}", number / 2);
        let mut sent = Vec::new();
        for (number, writer) in writers.into_iter().enumerate() {
            sent.push(writer.join().unwrap().with_context(|| place(number))?);
        }
        let has_come = |number: usize| progress[number].load(Ordering::Relaxed) == sent[number];
        until("all that was sent to arrive", LIMIT, || {
            let mut readers = open.readers.iter().enumerate();
            readers.all(|(number, end)| has_come(number) || end.is_finished()).then_some(())
        })?;
        if let Some(number) = (0..sent.len()).find(|number| !has_come(*number)) {
            let ended = open.readers.swap_remove(number).join().unwrap();
            let received = ended.with_context(|| place(number))?;
            bail!("{}: {} bytes were sent and {received} arrived", place(number), sent[number]);
        }
        Ok(Ended { bytes: sent.iter().sum(), _open: open })
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.connect_timeout(&address.into(), LIMIT)?;
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn write(mut to: TcpStream, mut content: Content, stop: &AtomicBool) -> Result<u64> {
    to.set_write_timeout(Some(LIMIT))?;
    let mut piece = [0; PIECE];
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        content.fill(&mut piece);
        to.write_all(&piece).context("writing")?;
        sent += PIECE as u64;
        pause(&mut [], BETWEEN)?;
    }
    Ok(sent)
}

fn check(mut from: TcpStream, mut expected: Content, progress: &AtomicU64) -> Result<u64> {
    from.set_read_timeout(Some(LIMIT))?;
    let (mut piece, mut wanted) = ([0; 4 * PIECE], [0; 4 * PIECE]);
    let mut received = 0;
    loop {
        let length = match from.read(&mut piece) {
            Ok(0) => return Ok(received),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("reading"),
        };
        expected.fill(&mut wanted[..length]);
        if piece[..length] != wanted[..length] {
            bail!("the content differs within {length} bytes of {received}");
        }
        received += length as u64;
        progress.fetch_add(length as u64, Ordering::Relaxed);
    }
}
