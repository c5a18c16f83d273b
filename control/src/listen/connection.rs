//! One open connection and who is at its other end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::authorise::Role;

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
}

/// A connection that has been let in; it counts against the bound while it is open.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn unix(stream: UnixStream, uid: u32, permit: OwnedSemaphorePermit) -> Self {
        Self { stream: Stream::Unix(stream), caller: Caller::Local { uid }, _permit: permit }
    }

    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        role: Role,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let stream = Stream::Tls(Box::new(stream));
        Self { stream, caller: Caller::Remote { role }, _permit: permit }
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
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
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
