//! Sockets of netfilter: one request and its answer at a time.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with,
};

use super::message::answers;
use super::{Answer, Request, Writer};
use crate::error::Error;

/// Longest datagram that the kernel makes, twice over (`netlink_dump`: 32 KiB).
const DATAGRAM_MAX: usize = 64 << 10;
/// The kernel answers within its own system call: who waits longer has missed it.
const LIMIT: Duration = Duration::from_secs(5);

/// A socket that only the kernel writes to.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// Opens one whose receive buffer takes so many bytes, within this network namespace.
    pub(crate) fn open(receive_buffer: usize) -> Result<Self, Error> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))
            .map_err(Error::system("socket"))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0)).map_err(Error::system("bind"))?;
        // From here on datagrams of other processes are refused.
        connect(&socket, &SocketAddrNetlink::new(0, 0)).map_err(Error::system("connect"))?;
        set_socket_recv_buffer_size_force(&socket, receive_buffer)
            .map_err(Error::system("setsockopt SO_RCVBUFFORCE"))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT))
            .map_err(Error::system("setsockopt SO_RCVTIMEO"))?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM_MAX], sequence: 0 })
    }

    /// Asks, and gives every answer to `each` until the kernel says that it was all.
    pub(crate) fn ask(
        &mut self,
        (request, family): (Request, u8),
        put: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.send((request, family), put)?;
        while !self.receive(&mut each)? {}
        Ok(())
    }

    fn send(
        &mut self,
        (request, family): (Request, u8),
        put: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.encode(self.sequence, family, put);
        send(&self.socket, &bytes, SendFlags::empty()).map_err(Error::system("send"))?;
        Ok(())
    }

    /// Takes one datagram in; whether it has the end of the answer.
    fn receive(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<bool, Error> {
        let (_, length) = loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                received => break received.map_err(Error::system("recv"))?,
            }
        };
        let datagram =
            self.buffer.get(..length).ok_or(Error::Malformed("a datagram is too long"))?;
        let mut is_over = false;
        answers(datagram, self.sequence, |answer| {
            match answer {
                Answer::Given(payload) => each(payload)?,
                Answer::Ended(ended) => {
                    is_over = true;
                    ended?;
                }
                Answer::Other => {}
            }
            Ok(())
        })?;
        Ok(is_over)
    }
}

/// A listing of what the kernel has. The kernel goes on with it only as it is read.
#[derive(Debug)]
pub(crate) struct Dump {
    socket: Socket,
    is_over: bool,
}

impl Dump {
    /// Begins one, on a socket of its own.
    pub(crate) fn begin(mut socket: Socket, request: Request) -> Result<Self, Error> {
        socket.send((request, 0), |_| {})?;
        Ok(Self { socket, is_over: false })
    }

    /// Gives what the kernel has put in the next datagram to `each`; whether there was one.
    pub(crate) fn next(
        &mut self,
        each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        if self.is_over {
            return Ok(false);
        }
        self.is_over = self.socket.receive(each)?;
        Ok(true)
    }
}
