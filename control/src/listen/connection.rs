//! One open connection and who is at its other end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use weir_api::preface::Preface;

use super::{authorise::Role, slots::Slot};

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process of the same user or of root.
    Local {
        /// Its user id.
        uid: u32,
    },
    /// Somebody with a certificate of our authority.
    Remote {
        /// What the certificate allows.
        role: Role,
    },
    /// The sidecar of another node, with a certificate of our authority.
    Node {
        /// The node that the certificate names.
        name: String,
    },
}

/// A connection that has been let in; it keeps its slot while it is open.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    caller: Caller,
    preface: Preface,
    _slot: Slot,
}

/// What it runs over.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Lets a caller in, who is to begin to speak HTTP/2 within the limit.
    pub(super) fn new(stream: Stream, caller: Caller, slot: Slot, limit: Duration) -> Self {
        Self { stream, caller, preface: Preface::within(limit), _slot: slot }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, preface, .. } = self.get_mut();
        let before = buffer.filled().len();
        let read = match stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        preface.check(context, read, buffer.filled().len() - before)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
