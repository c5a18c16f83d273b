//! A client of the proxy that writes what it is told, byte by byte, and reads answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Generous: the machine may be busy with other things.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A connection to the proxy.
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects from an address of this machine.
    pub(crate) fn from(own: impl Into<IpAddr>, proxy: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(own.into(), 0).into()).expect("an address");
        socket.connect(&proxy.into()).expect("the proxy");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LONG)).expect("a limit");
        stream.set_nodelay(true).expect("no delay");
        Self(BufReader::new(stream))
    }

    pub(crate) fn connect(proxy: SocketAddr) -> Self {
        Self::from([127, 0, 0, 1], proxy)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("it is taken");
    }

    /// Asks for a URL.
    pub(crate) fn get(&mut self, url: &str) -> Answer {
        self.ask(url, "")
    }

    /// Asks for a URL, with header lines.
    pub(crate) fn ask(&mut self, url: &str, lines: &str) -> Answer {
        self.write(format!("GET {url} HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes());
        self.answer(false).expect("an answer")
    }

    /// Reads an answer; none where the connection ends first, or in the midst of it.
    pub(crate) fn answer(&mut self, to_head: bool) -> Option<Answer> {
        let mut line = self.line()?;
        let status: u16 = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if to_head || status == 304 || status == 204 || status == 100 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                self.0.read_exact(&mut chunk).ok()?;
                if size == 0 {
                    return Some(answer);
                }
                answer.body.extend(&chunk[..size]);
            }
        }
        match answer.header("content-length").map(str::to_owned) {
            Some(length) => {
                answer.body = vec![0; length.parse().ok()?];
                self.0.read_exact(&mut answer.body).ok()?;
            }
            None => drop(self.0.read_to_end(&mut answer.body).ok()?),
        }
        Some(answer)
    }

    /// Whether the other end has ended the connection, and sends nothing more.
    pub(crate) fn is_over(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).map_or(true, |count| count == 0)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.0.read_line(&mut line).ok()?;
        (count > 0 && line.ends_with("\r\n")).then(|| line.trim_end().to_owned())
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// How it came about.
    pub(crate) fn how(&self) -> &str {
        self.header("x-cache").unwrap_or("not said")
    }

    /// Why it was refused.
    pub(crate) fn why(&self) -> &str {
        let status = self.header("proxy-status").unwrap_or_default();
        status.split("details=").nth(1).unwrap_or_default().trim_matches('"')
    }

    /// Its body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
