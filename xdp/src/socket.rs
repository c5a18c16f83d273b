//! AF_XDP sockets: one a queue, in two halves that may live on different threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use weir_frame::{Frame, Loans, Pool};

use crate::device::Device;
use crate::error::{Error, Step};
use crate::live::LiveTx;
use crate::receiver::Receiver;
use crate::ring;
use crate::sender::{Sender, TxCounters};
use crate::sys::{self, Mapping};
use crate::umem::{RingSizes, Umem, register};
use crate::ways::{LiveCounters, Ways};
use crate::{probe, ring::Chunk, ring::Descriptor};

/// The socket of one queue of a device.
#[derive(Debug)]
pub struct Socket {
    rx: Rx,
    tx: Tx,
}

impl Socket {
    /// Opens a socket on `queue` of `device`, over `umem`. Packets arrive once the fill ring is
    /// stocked ([`Rx::refill`]) and the program knows the socket
    /// ([`Program::connect`](crate::Program::connect)).
    ///
    /// A queue that another socket has just left is asked for again for a second.
    ///
    /// # Errors
    /// If the ring sizes do not fit together, or the kernel refuses a step.
    pub fn open(
        umem: &Umem,
        device: &Device,
        queue: u32,
        rings: RingSizes,
    ) -> Result<Socket, Error> {
        rings.check()?;
        let failed = |step| {
            let place = format!("{} queue {queue}", device.name());
            move |source| Error::Step { step, place, source }
        };
        let fd = sys::socket().map_err(failed(Step::Socket))?;
        let mut members = umem.members();
        let first = members.iter().find_map(Weak::upgrade);
        if first.is_none() {
            register(fd.as_fd(), umem.region()).map_err(failed(Step::Umem))?;
        }
        rings.set(fd.as_fd()).map_err(failed(Step::Rings))?;
        let (receiver, sender) = map_rings(fd.as_fd(), umem, rings).map_err(failed(Step::Rings))?;
        let (flags, shared) = match &first {
            Some(first) => (libc::XDP_SHARED_UMEM, Some(first.fd())),
            None if umem.is_zero_copy() => (libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP, None),
            None => (libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP, None),
        };
        sys::while_busy(|| sys::bind(fd.as_fd(), device.index(), queue, flags, shared))
            .map_err(failed(Step::Bind))?;
        let connection = Arc::new(Connection {
            fd: Some(fd),
            device: device.index(),
            queue,
            given_up: Mutex::default(),
        });
        members.push(Arc::downgrade(&connection));
        let rx = Rx { receiver, connection: Arc::clone(&connection) };
        Ok(Socket { rx, tx: Tx { sender, live: None, connection } })
    }

    /// The two halves.
    #[must_use]
    pub fn split(self) -> (Rx, Tx) {
        (self.rx, self.tx)
    }

    /// Puts the halves of one socket together again.
    ///
    /// # Errors
    /// Gives them back if they are not of one socket.
    #[expect(clippy::result_large_err, reason = "halves are given back, rarely and not in a hurry")]
    pub fn join(rx: Rx, tx: Tx) -> Result<Socket, (Rx, Tx)> {
        if Arc::ptr_eq(&rx.connection, &tx.connection) {
            Ok(Socket { rx, tx })
        } else {
            Err((rx, tx))
        }
    }

    /// Unmaps the rings, closes the socket, and returns the frames that were lent through it once
    /// the kernel has let go of them: after about 50 ms. If it has not in a second, they stay lent.
    ///
    /// What is in the rings is lost; flush until [`Tx::completed`] equals [`Tx::submitted`]
    /// first. If another socket is being opened on the UMEM, or the halves are dropped instead,
    /// the frames come home to the region ([`Region::reclaim`](weir_frame::Region::reclaim)).
    #[must_use]
    pub fn close(self) -> Vec<Frame> {
        let connection = Arc::clone(&self.rx.connection);
        drop(self);
        Arc::into_inner(connection).map_or_else(Vec::new, |mut last| last.close())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rx.as_fd()
    }
}

/// The receiving half of a socket.
#[derive(Debug)]
pub struct Rx {
    // Before `connection`: the rings are unmapped before the socket is closed.
    receiver: Receiver,
    connection: Arc<Connection>,
}

impl Rx {
    /// Hands up to `max` packets to `out`, and stocks the fill ring from `pool`; returns the
    /// number of packets.
    #[inline]
    pub fn receive(&mut self, pool: &mut Pool, max: usize, out: impl FnMut(Frame)) -> usize {
        let packets = self.receiver.receive(max, out);
        self.refill(pool);
        packets
    }

    /// Stocks the fill ring from `pool`; returns the number of frames lent.
    #[inline]
    pub fn refill(&mut self, pool: &mut Pool) -> usize {
        let lent = self.receiver.refill(pool);
        if self.receiver.needs_wakeup() {
            sys::kick_rx(self.connection.fd());
        }
        lent
    }

    /// Number of frames lent to the kernel to receive into, at most the size of the fill ring.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.receiver.lent()
    }

    /// Number of descriptors that named no frame lent here; 0 with a sound kernel.
    #[must_use]
    pub fn bad_descriptors(&self) -> u64 {
        self.receiver.bad_descriptors()
    }

    /// Reads the kernel's counters of this socket: a system call.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn statistics(&self) -> io::Result<Statistics> {
        sys::option::<libc::xdp_statistics>(self.as_fd(), libc::XDP_STATISTICS).map(Into::into)
    }
}

impl AsFd for Rx {
    /// Readable while packets wait: to sleep on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.fd()
    }
}

impl Drop for Rx {
    fn drop(&mut self) {
        self.connection.give_up(self.receiver.give_up());
    }
}

/// The sending half of a socket.
#[derive(Debug)]
pub struct Tx {
    // Before `connection`, as in `Rx`.
    sender: Sender,
    live: Option<Box<(LiveTx, Ways)>>,
    connection: Arc<Connection>,
}

impl Tx {
    /// Has packets leave as live frames, while the device takes them and nothing is left in the socket's
    /// rings.
    ///
    /// # Errors
    /// Gives the way back if something has been queued already.
    pub fn set_live(&mut self, live: LiveTx) -> Result<(), LiveTx> {
        if self.in_flight() > 0 {
            return Err(live);
        }
        self.live = Some(Box::new((live, Ways::new(self.sender.slots()))));
        Ok(())
    }

    /// Queues a frame, to leave at the next flush.
    ///
    /// # Errors
    /// Gives the frame back if the ring is full, or the frame shorter than an Ethernet header.
    #[inline]
    pub fn send(&mut self, frame: Frame) -> Result<(), Frame> {
        match &mut self.live {
            Some(live) => live.1.send(&self.sender, frame),
            None => self.sender.send(frame),
        }
    }

    /// Has the kernel send what is queued, and frees to `pool` what has left. Returns how many
    /// packets are still queued: 0 unless the device is down or gone, or nothing moves.
    #[inline]
    pub fn flush(&mut self, pool: &mut Pool) -> u32 {
        let fd = self.connection.fd();
        let kick = || sys::kick_tx(fd);
        match &mut self.live {
            Some(ways) => {
                let (live, ways) = &mut **ways;
                let run = live.is_open().then_some(|frames: &[Frame]| live.run(frames));
                ways.flush(&mut self.sender, pool, kick, run)
            }
            None => self.sender.flush(pool, kick),
        }
    }

    /// Whether one more frame can be queued before the next flush.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        match &self.live {
            Some(live) => live.1.has_room(&self.sender),
            None => self.sender.has_room(),
        }
    }

    /// Frames that can be queued or on their way at one time.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.sender.slots()
    }

    /// Packets queued since the socket was opened.
    #[must_use]
    pub fn submitted(&self) -> u64 {
        let live = self.live.as_ref();
        let live = live.map_or(0, |live| live.1.completed() + live.1.waiting() as u64);
        self.sender.submitted() + live
    }

    /// Packets of those whose frames the kernel has returned; equal when all have left.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.sender.completed() + self.live.as_ref().map_or(0, |live| live.1.completed())
    }

    /// Packets queued that have not left.
    fn in_flight(&self) -> u64 {
        self.submitted() - self.completed()
    }

    /// What has left by live frames, all 0 where nothing can.
    #[must_use]
    pub fn live_counters(&self) -> LiveCounters {
        self.live.as_ref().map_or_else(LiveCounters::default, |live| live.1.counters())
    }

    /// Whether a flush found that the device was removed, or left the namespace. What is queued
    /// never leaves, and its frames stay lent until the socket is closed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.sender.is_gone()
    }

    /// Number of frames lent to the kernel to send, or waiting to be.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.in_flight() as usize
    }

    /// What went wrong in sending.
    #[must_use]
    pub fn counters(&self) -> TxCounters {
        self.sender.counters()
    }

    /// Reads the kernel's counters of this socket: a system call.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn statistics(&self) -> io::Result<Statistics> {
        sys::option::<libc::xdp_statistics>(self.connection.fd(), libc::XDP_STATISTICS)
            .map(Into::into)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        self.connection.give_up(self.sender.give_up());
    }
}

/// The kernel's counters of a socket; running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets lost because the rx ring was full.
    pub rx_ring_full: u64,
    /// Packets lost because the fill ring was empty.
    pub rx_fill_ring_empty: u64,
    /// Packets lost because they were longer than a chunk holds.
    pub rx_too_long: u64,
    /// Descriptors of the fill ring that were invalid; 0 unless we have a bug.
    pub rx_invalid: u64,
    /// Descriptors of the tx ring that were invalid; 0 unless we have a bug.
    pub tx_invalid: u64,
}

impl From<libc::xdp_statistics> for Statistics {
    fn from(kernel: libc::xdp_statistics) -> Statistics {
        Statistics {
            rx_ring_full: kernel.rx_ring_full,
            rx_fill_ring_empty: kernel.rx_fill_ring_empty_descs,
            // The kernel counts a packet that finds no chunk in both.
            rx_too_long: kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty_descs),
            rx_invalid: kernel.rx_invalid_descs,
            tx_invalid: kernel.tx_invalid_descs,
        }
    }
}

/// The socket that two halves share, and the frames that were lent by a half that is gone.
#[derive(Debug)]
pub(crate) struct Connection {
    /// There until it is closed.
    fd: Option<OwnedFd>,
    device: u32,
    queue: u32,
    given_up: Mutex<Vec<Loans>>,
}

impl Connection {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd
            .as_ref()
            .expect("open while a half, or the opening of another socket, has it")
            .as_fd()
    }

    fn give_up(&self, loans: Loans) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).push(loans);
    }

    /// Closes the socket and recovers what was lent. A driver that uses zero-copy lets go later
    /// than `close` returns, and so does the kernel while a child that was just forked has yet to
    /// close its copy of the descriptor; so the queue is asked whether it is free.
    fn close(&mut self) -> Vec<Frame> {
        if self.fd.take().is_some() && !probe::is_released(self.device, self.queue) {
            // The kernel may write to the frames still: they stay lent for ever.
            return Vec::new();
        }
        let given_up = self.given_up.get_mut().unwrap_or_else(PoisonError::into_inner);
        given_up.drain(..).flat_map(Loans::recover).collect()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

fn map_rings(fd: BorrowedFd<'_>, umem: &Umem, rings: RingSizes) -> io::Result<(Receiver, Sender)> {
    let offsets: libc::xdp_mmap_offsets = sys::option(fd, libc::XDP_MMAP_OFFSETS)?;
    let map = |at: &libc::xdp_ring_offset, slots: u32, slot: usize, offset: u64| {
        Mapping::ring(fd, at.desc as usize + slots as usize * slot, offset)
    };
    let (descriptor, chunk) = (size_of::<Descriptor>(), size_of::<Chunk>());
    let rx = map(&offsets.rx, rings.rx, descriptor, libc::XDP_PGOFF_RX_RING as u64)?;
    let tx = map(&offsets.tx, rings.tx, descriptor, libc::XDP_PGOFF_TX_RING as u64)?;
    let fill = map(&offsets.fr, rings.fill, chunk, libc::XDP_UMEM_PGOFF_FILL_RING)?;
    let completion =
        map(&offsets.cr, rings.completion, chunk, libc::XDP_UMEM_PGOFF_COMPLETION_RING)?;
    let receiver = Receiver::new(
        ring::consumer(rx, &offsets.rx, rings.rx),
        ring::producer(fill, &offsets.fr, rings.fill),
        Loans::new(umem.region()),
    );
    let sender = Sender::new(
        ring::producer(tx, &offsets.tx, rings.tx),
        ring::consumer(completion, &offsets.cr, rings.completion),
        Loans::new(umem.region()),
    );
    Ok((receiver, sender))
}
