//! A connection for whose streams there is no memory goes on without.

use super::*;

#[test]
fn a_connection_without_memory_is_counted_to_its_end_and_not_read() {
    let mut talk = Talk::open(4_000);
    talk.send(Side::Orig, ACK, b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    // Out of order, and then given up.
    talk.send_at(Side::Resp, 100, ACK, &[b'x'; 50]);
    let given_up = talk.frames.len();
    talk.lose(Side::Resp, 150);
    talk.send(Side::Resp, ACK, &[b'y'; 10]);
    talk.send_at(Side::Resp, 1_000, ACK, &[b'z'; 10]);
    talk.lose(Side::Resp, 1_010);
    talk.send(Side::Orig, ACK, b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.close();
    let mut node = Node::new(1);
    for (n, frame) in talk.frames.iter().enumerate() {
        if n == given_up {
            let connection = node.connections.values_mut().flatten().next().expect("one");
            assert!(connection.kept() > 50 + 30, "{} bytes", connection.kept());
            node.ids.give_up(connection);
        }
        node.take(frame);
        if n >= given_up {
            let connection = node.connections.values().flatten().next().expect("one");
            assert_eq!(connection.kept(), 0);
        }
    }
    assert_eq!(node.ids.totals().without_memory.value(), 1);
    let records = node.finish();
    let conn = conns(&records)[0];
    assert!(conn.notes.has(Note::MemoryLimit) && !conn.notes.has(Note::ReassemblyLimit));
    assert_eq!((conn.bytes.resp, conn.missed_bytes, conn.state), (1_170, 1_100, "SF"));
    let transactions = https(&records);
    assert_eq!(transactions.len(), 1, "what had been found out is not lost");
    assert_eq!(transactions[0].request.as_ref().expect("a request").uri, b"/one");
    assert!(transactions[0].tags.has(Note::MemoryLimit));
}
