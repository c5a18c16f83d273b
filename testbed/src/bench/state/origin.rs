//! An HTTP origin all of whose answers may be kept.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use anyhow::{Result, ensure};
use socket2::SockRef;

use crate::namespace::Namespace;

/// Bytes of the body of an answer.
pub(super) const BODY: usize = 1_000;

/// An origin that answers until it is dropped.
#[derive(Debug)]
pub(super) struct Origin {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Starts one in a namespace.
    ///
    /// # Errors
    /// When the address can not be had.
    pub(super) fn start(namespace: &Namespace, at: SocketAddr) -> Result<Self> {
        let listener = namespace.enter(|| TcpListener::bind(at))??;
        let accepting = listener.try_clone()?;
        let thread = thread::Builder::new().name("origin".into()).spawn(move || {
            // A connection ends with its other end.
            while let Ok((stream, _)) = accepting.accept() {
                thread::spawn(move || answer(stream));
            }
        })?;
        Ok(Self { listener, thread: Some(thread) })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // It accepts no more.
        let _ended = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _result = thread.join();
        }
    }
}

/// Answers every request of a connection with an object that may be kept for an hour.
fn answer(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream);
    let head_of_answer =
        format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: {BODY}\r\n\r\n");
    let answer = [head_of_answer.as_bytes(), &[b'.'; BODY]].concat();
    while head(&mut from)?.is_some() {
        from.get_mut().write_all(&answer)?;
    }
    Ok(())
}

/// The lines of a head; none where the connection has ended.
pub(super) fn head(from: &mut impl BufRead) -> Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            ensure!(lines.is_empty(), "a head without an end: {lines:?}");
            return Ok(None);
        }
        match line.trim_end() {
            "" => return Ok(Some(lines)),
            line => lines.push(line.to_owned()),
        }
    }
}
