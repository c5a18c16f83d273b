//! TCP connections taken out of the kernel and put into it elsewhere, with `TCP_REPAIR` of Linux.
//!
//! In repair mode a socket tells and takes its sequence numbers, windows and options, and is closed
//! without a word to its peer. It takes `CAP_NET_ADMIN`. The options are declared by nix's macros,
//! and have values of whole numbers only.

use std::io;
use std::net::{SocketAddr, TcpStream as BlockingStream};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, setsockopt_impl};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::TcpStream;
use weir_state_transfer::wire::{Reader, WireError, Writer};

/// Values of the options (linux/tcp.h).
const REPAIR_ON: u32 = 1;
/// Ends repair mode without a probe of the peer's window.
const REPAIR_OFF: u32 = u32::MAX;
const RECEIVE_QUEUE: u32 = 1;
const SEND_QUEUE: u32 = 2;
const ESTABLISHED: u8 = 1;
/// Options of a connection in `tcpi_options`.
const HAS_TIMESTAMPS: u8 = 1;
const HAS_SACK: u8 = 2;
const HAS_SCALE: u8 = 4;
/// Kinds of TCP options (RFC 9293, section 3.1; RFC 7323; RFC 2018).
const MSS: u32 = 2;
const SCALE: u32 = 3;
const SACK: u32 = 4;
const TIMESTAMPS: u32 = 8;
/// The greatest shift of a window (RFC 7323, section 2.3).
const SCALE_MAX: u8 = 14;

/// What two ends of a connection without data under way have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repaired {
    send_sequence: u32,
    receive_sequence: u32,
    /// As `struct tcp_repair_window` has them.
    window: [u32; 5],
    segment: u32,
    /// Shifts of both windows, of this end and of the peer's, if they are scaled.
    scales: Option<(u8, u8)>,
    sack: bool,
    /// The time stamp that is sent with a segment now, if any is.
    stamp: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct RepairQueue;
setsockopt_impl!(
    RepairQueue,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR_QUEUE,
    u32,
    sockopt::SetStruct<'_, u32>
);

#[derive(Clone, Copy, Debug)]
struct QueueSequence;
setsockopt_impl!(
    QueueSequence,
    libc::IPPROTO_TCP,
    libc::TCP_QUEUE_SEQ,
    u32,
    sockopt::SetStruct<'_, u32>
);
getsockopt_impl!(
    QueueSequence,
    libc::IPPROTO_TCP,
    libc::TCP_QUEUE_SEQ,
    u32,
    sockopt::GetStruct<u32>
);

#[derive(Clone, Copy, Debug)]
struct Timestamp;
setsockopt_impl!(
    Timestamp,
    libc::IPPROTO_TCP,
    libc::TCP_TIMESTAMP,
    u32,
    sockopt::SetStruct<'_, u32>
);
getsockopt_impl!(Timestamp, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, u32, sockopt::GetStruct<u32>);

#[derive(Clone, Copy, Debug)]
struct Window;
setsockopt_impl!(
    Window,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR_WINDOW,
    [u32; 5],
    sockopt::SetStruct<'_, [u32; 5]>
);
getsockopt_impl!(
    Window,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR_WINDOW,
    [u32; 5],
    sockopt::GetStruct<[u32; 5]>
);

/// One option of a connection: its kind and its value.
#[derive(Clone, Copy, Debug)]
struct ConnectionOption;
setsockopt_impl!(
    ConnectionOption,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR_OPTIONS,
    [u32; 2],
    sockopt::SetStruct<'_, [u32; 2]>
);

#[derive(Clone, Copy, Debug)]
struct Info;
getsockopt_impl!(
    Info,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info,
    sockopt::GetStruct<libc::tcp_info>
);

/// Whether this process may do it.
pub(crate) fn is_permitted() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
        .is_ok_and(|socket| setsockopt(&socket, sockopt::TcpRepair, &REPAIR_ON).is_ok())
}

/// What a connection is, which goes on. None when data is under way, or it is about to end.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn get(stream: &TcpStream) -> io::Result<Option<Repaired>> {
    setsockopt(stream, sockopt::TcpRepair, &REPAIR_ON)?;
    let got = in_repair(stream);
    setsockopt(stream, sockopt::TcpRepair, &REPAIR_OFF)?;
    got
}

fn in_repair(stream: &TcpStream) -> io::Result<Option<Repaired>> {
    let info = getsockopt(stream, Info)?;
    let to_send = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
    let to_read = rustix::io::ioctl_fionread(stream)? > 0;
    if info.tcpi_state != ESTABLISHED || to_send || to_read {
        return Ok(None);
    }
    let sequence = |queue: u32| {
        setsockopt(stream, RepairQueue, &queue)?;
        getsockopt(stream, QueueSequence)
    };
    let has = |option: u8| info.tcpi_options & option != 0;
    let scales = (info.tcpi_snd_rcv_wscale & 0xf, info.tcpi_snd_rcv_wscale >> 4);
    let stamp = has(HAS_TIMESTAMPS).then(|| getsockopt(stream, Timestamp)).transpose()?;
    Ok(Some(Repaired {
        send_sequence: sequence(SEND_QUEUE)?,
        receive_sequence: sequence(RECEIVE_QUEUE)?,
        window: getsockopt(stream, Window)?,
        // In repair mode this is what both have agreed on, and not what fits now.
        segment: getsockopt(stream, sockopt::TcpMaxSeg)?,
        scales: has(HAS_SCALE).then_some(scales),
        sack: has(HAS_SACK),
        stamp,
    }))
}

/// The connection between two addresses that goes on from there. Nothing is sent.
///
/// # Errors
/// When the kernel refuses, as where `own` is no address of this host.
pub(crate) fn put(
    own: SocketAddr,
    peer: SocketAddr,
    state: &Repaired,
) -> io::Result<BlockingStream> {
    let socket = Socket::new(Domain::for_address(own), Type::STREAM, Some(Protocol::TCP))?;
    setsockopt(&socket, sockopt::TcpRepair, &REPAIR_ON)?;
    for (queue, sequence) in
        [(SEND_QUEUE, state.send_sequence), (RECEIVE_QUEUE, state.receive_sequence)]
    {
        setsockopt(&socket, RepairQueue, &queue)?;
        setsockopt(&socket, QueueSequence, &sequence)?;
    }
    socket.bind(&SockAddr::from(own))?;
    socket.connect(&SockAddr::from(peer))?;
    let scale = state.scales.map(|(own, peer)| [SCALE, u32::from(own) | u32::from(peer) << 16]);
    let sack = state.sack.then_some([SACK, 0]);
    let stamps = state.stamp.map(|_| [TIMESTAMPS, 0]);
    for option in [Some([MSS, state.segment]), scale, sack, stamps].into_iter().flatten() {
        setsockopt(&socket, ConnectionOption, &option)?;
    }
    if let Some(stamp) = state.stamp {
        setsockopt(&socket, Timestamp, &stamp)?;
    }
    setsockopt(&socket, Window, &state.window)?;
    setsockopt(&socket, sockopt::TcpRepair, &REPAIR_OFF)?;
    // Not before: repair mode shares the address with whoever listens there, and this would undo it.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Ends a connection without a word to its peer: it goes on elsewhere.
///
/// # Errors
/// When the kernel refuses; the connection is as it was then.
pub(crate) fn forget(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::TcpRepair, &REPAIR_ON)?;
    let forgotten = rustix::net::connect_unspec(stream);
    if forgotten.is_err() {
        setsockopt(stream, sockopt::TcpRepair, &REPAIR_OFF)?;
    }
    Ok(forgotten?)
}

impl Repaired {
    /// The time stamp that is sent with a segment now, if any is.
    pub(crate) fn stamp(&self) -> Option<u32> {
        self.stamp
    }

    /// The same at another time.
    pub(crate) fn with_stamp(self, stamp: Option<u32>) -> Self {
        Self { stamp, ..self }
    }

    /// Appends it.
    pub(crate) fn put(&self, out: &mut Writer) {
        out.u32(self.send_sequence);
        out.u32(self.receive_sequence);
        self.window.iter().for_each(|value| out.u32(*value));
        out.u32(self.segment);
        out.option(self.scales, |out, (own, peer)| out.raw(&[own, peer]));
        out.bool(self.sack);
        out.option(self.stamp, Writer::u32);
    }

    /// Takes it off the front of bytes.
    ///
    /// # Errors
    /// When they are none.
    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (send_sequence, receive_sequence) = (reader.u32()?, reader.u32()?);
        let mut window = [0; 5];
        for value in &mut window {
            *value = reader.u32()?;
        }
        let segment = reader.u32()?;
        let scales = reader.option("scale", |reader| Ok((reader.u8()?, reader.u8()?)))?;
        let sack = reader.bool("selective acknowledgement")?;
        let stamp = reader.option("time stamp", Reader::u32)?;
        let is_scale = scales.is_none_or(|(own, peer)| own.max(peer) <= SCALE_MAX);
        if !is_scale || !(1..=65_535).contains(&segment) {
            return Err(WireError::BadField { what: "window or segment" });
        }
        Ok(Self { send_sequence, receive_sequence, window, segment, scales, sack, stamp })
    }
}
