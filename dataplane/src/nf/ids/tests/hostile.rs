//! TCP that lies: any flags, numbers, windows and header lengths, and pieces of HTTP in any order.

use super::*;

/// What is kept of a connection at most: of each direction 64 KiB out of order in 64 segments, and
/// a head of 32 KiB; and 32 transactions, each with a line of 4 KiB and six fields of 512 bytes.
const KEPT_MAX: usize = 2 * ((64 << 10) + 64 * 64 + (32 << 10)) + 32 * (8 << 10);
const PACKETS: usize = 60_000;
const PIECES: [&[u8]; 12] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 101 X\r\n\r\n",
    b"\r\n",
    b"Content-Length: 5\r\n",
    b"ffffffffffffffff\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"a: b\r\n",
    b"\0\xff\n",
    &[b'u'; 1_400],
    b"",
];

/// A segment of a connection whose ends say what they please, mostly near where they were. While
/// `calm`, connections last, and what comes ahead of its place piles up.
fn segment(rng: &mut fastrand::Rng, next: &mut Both<u32>, calm: bool) -> Vec<u8> {
    let port = 1_000 + rng.u16(..4);
    let from = if rng.bool() { Side::Orig } else { Side::Resp };
    let mut payload = Vec::new();
    for _ in 0..rng.usize(..4) {
        payload.extend_from_slice(rng.choice(&PIECES).unwrap());
    }
    payload.truncate(1_400);
    let all = [0, 1, 5, 1_400, 64 << 10, (16 << 20) + 1, 1 << 31, rng.u32(..)];
    let edges = if calm { &all[..5] } else { &all };
    let near = |rng: &mut fastrand::Rng, number: u32| {
        let edge = if rng.u8(..3) == 0 { *rng.choice(edges).unwrap() } else { 0 };
        if rng.bool() { number.wrapping_add(edge) } else { number.wrapping_sub(edge) }
    };
    let numbers = (near(rng, next[from]), near(rng, next[from.other()]));
    next[from] = numbers.0.wrapping_add(payload.len() as u32);
    let (ends, ports) = match from {
        Side::Orig => ((CLIENT, SERVER), (port, 80)),
        Side::Resp => ((SERVER, CLIENT), (80, port)),
    };
    let mut frame = tcp(ends, ports, numbers, ACK, &payload);
    let header = &mut frame[34..54];
    header[13] = match rng.u16(..if calm { 1_000 } else { 4 }) {
        0 => rng.u8(..),
        1 => *rng.choice(&[SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, SYN | FIN, 0]).unwrap(),
        _ => ACK,
    };
    header[14..16].copy_from_slice(&rng.u16(..).to_be_bytes());
    if !calm && rng.u8(..16) == 0 {
        header[12] = rng.u8(..);
    }
    frame
}

#[test]
fn tcp_of_any_flags_numbers_and_windows_never_panics_and_keeps_no_more_than_its_bound() {
    let mut rng = weir_seed::rng();
    let (mut node, mut now) = (Node::new(1), START);
    let (mut next, mut kept_most) = (Both { orig: 0, resp: 0 }, 0);
    for number in 0..PACKETS {
        now += rng.u64(..20) * MILLISECOND;
        let calm = (number / 2_000).is_multiple_of(2);
        let (at, frame) = (Timestamp(now), segment(&mut rng, &mut next, calm));
        let Some(key) = node.take(&Timed { at, frame }) else { continue };
        let Some(Some(connection)) = node.connections.get_mut(&key) else { continue };
        assert!(connection.kept() <= KEPT_MAX, "{} bytes", connection.kept());
        kept_most = kept_most.max(connection.kept());
        if rng.u8(..16) == 0 {
            // Whatever it has come to, it can be moved.
            let timeouts = Timeouts::default();
            let chunk = connection.to_chunk(&timeouts, at);
            *connection = Connection::from_chunk(&chunk, &timeouts, at).unwrap();
        }
        if rng.u8(..) == 0 {
            node.sweep(at);
        }
    }
    let records = node.finish();
    let noted = conns(&records).iter().filter(|conn| conn.notes != Notes::default()).count();
    println!("{} connections, {noted} with notes, {kept_most} bytes kept", conns(&records).len());
    assert!(noted > 100 && kept_most > 16 << 10, "{noted}, {kept_most}");
    for record in &records {
        assert_eq!(log::line(record).lines().count(), 1);
    }
}
