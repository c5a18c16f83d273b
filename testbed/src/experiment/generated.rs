//! HTTP/1.1 conversations of the shape of the capture: all open at once, most small, a few large.

use std::collections::VecDeque;

use etherparse::{PacketBuilder, TcpHeader};

/// Payload of a full segment, in bytes.
const MSS: usize = 1400;
/// Segments before an acknowledgement.
const ACK_EVERY: usize = 2;
/// One conversation in so many goes to another port than 80.
const OTHER_PORT_ONE_IN: usize = 5;

/// The frames of so many conversations, from a seed. Client `n` is at 10.0.(n / 256).(n % 256) and
/// has a server of its own in 198.18.0.0/15.
///
/// First all connections are opened, then all requests are made, then all are closed; within each
/// part the conversations take turns at random.
pub(super) fn frames(conversations: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut parts = [const { Vec::new() }; 3];
    for number in 0..conversations {
        let mut talk = Talk::new(number, &mut random);
        talk.open();
        parts[0].push(talk.take());
        for request in 0..random.usize(1..=3) {
            talk.request(request, &mut random);
        }
        parts[1].push(talk.take());
        talk.close();
        parts[2].push(talk.take());
    }
    parts.into_iter().flat_map(|part| in_turns(part, &mut random)).collect()
}

/// One after the other, each in its order, whose turn it is drawn by what is left of each.
fn in_turns(mut talks: Vec<VecDeque<Vec<u8>>>, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let each = talks.iter().enumerate();
    let mut turns: Vec<usize> =
        each.flat_map(|(talk, frames)| std::iter::repeat_n(talk, frames.len())).collect();
    random.shuffle(&mut turns);
    turns.into_iter().filter_map(|talk| talks[talk].pop_front()).collect()
}

/// A conversation as it is written.
struct Talk {
    hosts: [[u8; 4]; 2],
    ports: [u16; 2],
    /// The next sequence number of client and server.
    next: [u32; 2],
    frames: VecDeque<Vec<u8>>,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Talk {
    fn new(number: usize, random: &mut fastrand::Rng) -> Self {
        let client = number as u16;
        let server = client.wrapping_add(1);
        let [a, b] = client.to_be_bytes();
        let [c, d] = server.to_be_bytes();
        let port = if number % OTHER_PORT_ONE_IN == OTHER_PORT_ONE_IN - 1 { 8080 } else { 80 };
        Self {
            hosts: [[10, 0, a, b], [198, 18, c, d]],
            ports: [random.u16(32_768..), port],
            next: [random.u32(..), random.u32(..)],
            frames: VecDeque::new(),
        }
    }

    fn take(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.frames)
    }

    fn open(&mut self) {
        self.send(CLIENT, b"", |tcp| (tcp.syn, tcp.ack) = (true, false));
        self.send(SERVER, b"", |tcp| tcp.syn = true);
        self.send(CLIENT, b"", |_| {});
    }

    fn request(&mut self, number: usize, random: &mut fastrand::Rng) {
        let host = random.u16(..);
        if random.u8(..4) == 0 {
            let length = random.usize(1..2 * MSS);
            let head = format!(
                "POST /form/{number} HTTP/1.1\r\nHost: h{host}.test\r\nContent-Length: {length}\r\n\r\n"
            );
            self.say(CLIENT, &[head.into_bytes(), vec![b'p'; length]].concat());
        } else {
            let head = format!(
                "GET /page/{number}?{host} HTTP/1.1\r\nHost: h{host}.test\r\nUser-Agent: weir\r\n\r\n"
            );
            self.say(CLIENT, head.as_bytes());
        }
        // Most answers are small; one in eight fills tens of segments.
        let most = if random.u8(..8) == 0 { 50 * MSS } else { 8 * MSS };
        let body = vec![b'a' + (number % 26) as u8; random.usize(..most)];
        let status = ["200 OK", "200 OK", "404 Not Found", "304 Not Modified"][random.usize(..4)];
        let answer = if status.starts_with("304") {
            format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()
        } else if random.bool() {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), &body].concat()
        } else {
            chunked(status, &body)
        };
        self.say(SERVER, &answer);
    }

    fn close(&mut self) {
        self.send(CLIENT, b"", |tcp| tcp.fin = true);
        self.send(SERVER, b"", |tcp| tcp.fin = true);
        self.send(CLIENT, b"", |_| {});
    }

    /// Payload in segments, and its acknowledgements.
    fn say(&mut self, from: usize, payload: &[u8]) {
        let segments: Vec<_> = payload.chunks(MSS).collect();
        for group in segments.chunks(ACK_EVERY) {
            for segment in group {
                self.send(from, segment, |tcp| tcp.psh = true);
            }
            self.send(1 - from, b"", |_| {});
        }
    }

    fn send(&mut self, from: usize, payload: &[u8], shape: impl Fn(&mut TcpHeader)) {
        let to = 1 - from;
        let mut tcp = TcpHeader::new(self.ports[from], self.ports[to], self.next[from], 0xffff);
        tcp.ack = true;
        shape(&mut tcp);
        tcp.acknowledgment_number = if tcp.ack { self.next[to] } else { 0 };
        let ends = u32::from(tcp.syn) + u32::from(tcp.fin);
        self.next[from] = self.next[from].wrapping_add(payload.len() as u32 + ends);
        let step = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(self.hosts[from], self.hosts[to], 64)
            .tcp_header(tcp);
        let mut frame = Vec::with_capacity(step.size(payload.len()));
        step.write(&mut frame, payload).expect("a segment fits into a packet");
        self.frames.push_back(frame);
    }
}

fn chunked(status: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for part in body.chunks(1_000) {
        answer.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        answer.extend_from_slice(part);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

#[cfg(test)]
mod tests {
    use super::super::conversations::{Conversations, segment};
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_frames() {
        assert_eq!(frames(5, 1), frames(5, 1));
        assert_ne!(frames(5, 1), frames(5, 2));
    }

    #[test]
    fn they_have_the_shape_of_the_capture() {
        let frames = frames(489, 3);
        assert!((8_000..20_000).contains(&frames.len()), "{}", frames.len());
        assert!(frames.iter().all(|frame| segment(frame).is_some()));
        let all = Conversations::new(&frames).unwrap();
        assert_eq!(all.clients.len(), 489);
        assert!(all.all_open().len() > frames.len() * 3 / 4);
    }
}
