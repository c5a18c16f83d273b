//! An origin whose answers are written by the test, and which remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as the origin has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What the origin does with a request.
pub(crate) enum Reply {
    /// It writes this, and goes on.
    Bytes(Vec<u8>),
    /// It writes this, and ends the connection.
    Last(Vec<u8>),
    /// It writes this, and then nothing, for as long as the other end stays.
    Silence(Vec<u8>),
}

/// A running origin. It ends with the process.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Origin {
    pub(crate) fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::on(listener, reply)
    }

    pub(crate) fn on(
        listener: TcpListener,
        reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (reply, log) = (Arc::new(reply), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (reply, log) = (Arc::clone(&reply), Arc::clone(&log));
                thread::spawn(move || serve(stream, &*reply, &log));
            }
        });
        Self { address, asked }
    }

    /// One whose answers may be kept for ten minutes, and have their path and size in them:
    /// `/NAME/SIZE`.
    pub(crate) fn plain() -> Self {
        Self::start(|asked| {
            let size = asked.path().rsplit('/').next().and_then(|size| size.parse().ok());
            let mut body = asked.path().into_bytes();
            body.resize(size.unwrap_or(body.len()), b'.');
            Reply::Bytes(answer("Cache-Control: max-age=600\r\nETag: \"1\"\r\n", &body))
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics here").clone()
    }

    /// How many requests it has had.
    pub(crate) fn count(&self) -> usize {
        self.asked().len()
    }
}

impl Asked {
    pub(crate) fn path(&self) -> String {
        self.line.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// An answer with some header lines and a body of known length.
pub(crate) fn answer(lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn serve(stream: TcpStream, reply: &dyn Fn(&Asked) -> Reply, log: &Mutex<Vec<Asked>>) {
    stream.set_nodelay(true).expect("no delay");
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        log.lock().expect("nobody panics here").push(asked.clone());
        let (bytes, is_last, is_silent) = match reply(&asked) {
            Reply::Bytes(bytes) => (bytes, false, false),
            Reply::Last(bytes) => (bytes, true, false),
            Reply::Silence(bytes) => (bytes, false, true),
        };
        if reader.get_mut().write_all(&bytes).is_err() {
            return;
        }
        if is_silent {
            let _ended = reader.read_to_end(&mut Vec::new());
            return;
        }
        if is_last {
            let _ended = reader.get_mut().shutdown(Shutdown::Both);
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut asked = Asked::default();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    asked.line = line.trim_end().to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if let Some(length) = asked.header("content-length").and_then(|length| length.parse().ok()) {
        asked.body = vec![0; length];
        reader.read_exact(&mut asked.body).ok()?;
    } else if asked.header("transfer-encoding").is_some() {
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            asked.body.extend(&chunk[..size]);
        }
    }
    Some(asked)
}
