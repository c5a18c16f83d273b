//! Raw frames to and from a device of a namespace (packet(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
    recvmmsg, socket,
};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{SockFilter, SockRef};

use crate::namespace::Namespace;

/// Most frames a call sends or receives.
pub const BURST: usize = 64;
/// Longest frame received; longer ones are cut off.
pub const FRAME_MAX: usize = 2048;
/// Room for what arrives while the reader is off its core: 4,096 frames of full length and more.
const RECEIVE_BUFFER: usize = 32 << 20;

/// An AF_PACKET socket bound to one device. Never blocks.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on a device; only frames that `filter` accepts are received.
    ///
    /// # Errors
    /// When there is no such device, or without root.
    pub fn open(namespace: &Namespace, device: &str, filter: &[SockFilter]) -> Result<Self> {
        let opened = namespace.enter(|| -> Result<OwnedFd> {
            let address = nix::ifaddrs::getifaddrs()?
                .filter(|interface| interface.interface_name == device)
                .filter_map(|interface| interface.address)
                .find(|address| address.as_link_addr().is_some())
                .with_context(|| format!("no device {device}"))?;
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let protocol = SockProtocol::EthAll;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, protocol)?;
            set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
            SockRef::from(&socket).attach_filter(filter)?;
            bind(socket.as_raw_fd(), &address)?;
            Ok(socket)
        })?;
        let socket = opened.with_context(|| format!("{device} in {}", namespace.name()))?;
        let opened = Self { socket };
        // What other devices brought between opening and binding does not belong here.
        let mut burst = Burst::default();
        while opened.receive(&mut burst, |_| {})? > 0 {}
        Ok(opened)
    }

    /// Sends frames in order; returns how many of them left. At most [`BURST`] are tried.
    ///
    /// # Errors
    /// When the first frame could not be sent.
    pub fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> =
            frames.take(BURST).map(|frame| [IoSlice::new(frame)]).collect();
        let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut messages: Vec<MMsgHdr<'_>> = slices
            .iter()
            .zip(&mut controls)
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        if messages.is_empty() {
            return Ok(0);
        }
        match sendmmsg(&self.socket, &mut messages, SendFlags::DONTWAIT) {
            Ok(sent) => Ok(sent),
            // The queue of the device is full: nothing is lost, it is tried again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives each frame that has arrived, at most [`BURST`], to `each`; returns how many there were.
    ///
    /// # Errors
    /// When the device has gone.
    pub fn receive(&self, burst: &mut Burst, mut each: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut slices = burst.frames.each_mut().map(|frame| [IoSliceMut::new(frame)]);
        let mut lengths = [0_usize; BURST];
        let mut count = 0;
        let socket = self.socket.as_raw_fd();
        match recvmmsg(socket, &mut burst.headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(received) => {
                for message in received {
                    lengths[count] = message.bytes;
                    count += 1;
                }
            }
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        for (frame, length) in burst.frames.iter().zip(&lengths[..count]) {
            each(&frame[..*length]);
        }
        Ok(count)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Buffers for one call of [`PacketSocket::receive`].
#[derive(Debug)]
pub struct Burst {
    frames: Box<[[u8; FRAME_MAX]; BURST]>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Default for Burst {
    fn default() -> Self {
        Self {
            frames: Box::new([[0; FRAME_MAX]; BURST]),
            headers: MultiHeaders::preallocate(BURST, None),
        }
    }
}

/// A filter that accepts every frame that arrives, and none that leaves.
pub fn arriving() -> Vec<SockFilter> {
    let mut program = Vec::from(arriving_unless(1));
    program.extend([ACCEPT, REFUSE]);
    program
}

/// A filter that accepts arriving UDP packets to the ports `first..=last`, without IP options.
pub fn arriving_udp(first: u16, last: u16) -> Vec<SockFilter> {
    let (first, last) = (u32::from(first), u32::from(last));
    let mut program = Vec::from(arriving_unless(13));
    program.extend([
        load_half(12),                      //  2: the EtherType
        jump_if_equal(0x0800, 0, 4),        //  3: IPv4, else to 8
        load_byte(23),                      //  4: the protocol
        jump_if_equal(17, 0, 9),            //  5: UDP, else refuse
        load_half(14 + 20 + 2),             //  6: the destination port
        SockFilter::new(0x05, 0, 0, 4),     //  7: to 12
        jump_if_equal(0x86dd, 0, 6),        //  8: IPv6, else refuse
        load_byte(20),                      //  9: the next header
        jump_if_equal(17, 0, 4),            // 10: UDP, else refuse
        load_half(14 + 40 + 2),             // 11: the destination port
        SockFilter::new(0x35, 0, 2, first), // 12: at least the first port, else refuse
        SockFilter::new(0x25, 1, 0, last),  // 13: beyond the last port: refuse
        ACCEPT,                             // 14
        REFUSE,                             // 15
    ]);
    program
}

const ACCEPT: SockFilter = SockFilter::new(0x06, 0, 0, 0x4_0000);
const REFUSE: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// Two instructions that jump over `to_refuse` others for a frame that leaves.
const fn arriving_unless(to_refuse: u8) -> [SockFilter; 2] {
    // SKF_AD_OFF + SKF_AD_PKTTYPE; PACKET_OUTGOING (linux/filter.h, linux/if_packet.h).
    [load_byte(0xffff_f000_u32 + 4), jump_if_equal(4, to_refuse, 0)]
}

const fn load_byte(offset: u32) -> SockFilter {
    SockFilter::new(0x30, 0, 0, offset)
}

const fn load_half(offset: u32) -> SockFilter {
    SockFilter::new(0x28, 0, 0, offset)
}

const fn jump_if_equal(value: u32, then: u8, otherwise: u8) -> SockFilter {
    SockFilter::new(0x15, then, otherwise, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;
    use crate::wait::{LIMIT, until};

    #[test]
    #[ignore = "needs root"]
    fn only_udp_frames_to_the_ports_of_the_filter_are_received() {
        let topology = Topology::new(1).unwrap();
        let (from, to) = (&topology.hosts[0], &topology.hosts[1]);
        let plain = from.socket(&arriving()).unwrap();
        let filtered = to.socket(&arriving_udp(20_000, 20_009)).unwrap();
        topology.forward_by_kernel().unwrap();
        from.namespace.run("ping -c 1 -W 5 10.0.2.2").unwrap();
        let mut burst = Burst::default();
        let mut icmp = 0;
        until("the echo reply", LIMIT, || {
            plain.receive(&mut burst, |frame| icmp += u32::from(frame[23] == 1)).ok()?;
            (icmp > 0).then_some(())
        })
        .unwrap();
        let ports = [19_999, 20_000, 20_009, 20_010];
        let frames: Vec<Vec<u8>> = ports.iter().map(|port| udp_to(*port)).collect();
        assert_eq!(plain.send(frames.iter().map(Vec::as_slice)).unwrap(), 4);
        let mut seen = Vec::new();
        until("the frames to accepted ports", LIMIT, || {
            let port = |frame: &[u8]| u16::from_be_bytes([frame[36], frame[37]]);
            filtered.receive(&mut burst, |frame| seen.push(port(frame))).ok()?;
            (seen.len() == 2).then_some(())
        })
        .unwrap();
        assert_eq!(seen, [20_000, 20_009]);
    }

    fn udp_to(port: u16) -> Vec<u8> {
        let flow = crate::flow::Flow {
            from: 0,
            to: 1,
            source: "10.0.1.2:10000".parse().unwrap(),
            destination: format!("10.0.2.2:{port}").parse().unwrap(),
        };
        let mut frame = vec![0; 128];
        let mark = crate::udp::Mark { flow: 0, sequence: 0, sent_ns: 0 };
        crate::udp::write(&flow, &mark, 64, &mut frame);
        frame
    }
}
