//! Connections: their states, histories and counts.

use super::*;

/// State, history and bytes of the one connection of a conversation.
fn summary(talk: &Talk) -> (&'static str, String, (u64, u64)) {
    let records = talk.records();
    let [conn] = conns(&records)[..] else { panic!("{records:?}") };
    let history = String::from_utf8(conn.history.clone()).unwrap();
    (conn.state, history, (conn.bytes.orig, conn.bytes.resp))
}

fn history(talk: &Talk) -> (&'static str, String) {
    let (state, history, _) = summary(talk);
    (state, history)
}

fn is(state: &'static str, history: &str) -> (&'static str, String) {
    (state, history.to_owned())
}

#[test]
fn a_whole_connection_is_sf_with_bytes_by_sequence_numbers() {
    let mut talk = Talk::open(1000);
    talk.say(Side::Orig, &[7; 3000]);
    talk.say(Side::Resp, b"answer");
    talk.close();
    assert_eq!(summary(&talk), ("SF", "ShADadFf".to_owned(), (3000, 6)));
    let records = talk.records();
    let conn = conns(&records)[0];
    assert_eq!((conn.packets.orig, conn.packets.resp), (8, 4));
    assert_eq!((conn.ip_bytes.orig, conn.ip_bytes.resp), (8 * 40 + 3000, 4 * 40 + 6));
    // The last acknowledgement is not part of it.
    assert_eq!(conn.duration.as_millis(), 10);
    assert_eq!((conn.service, conn.missed_bytes), (None, 0));
}

#[test]
fn each_way_to_go_has_its_state() {
    let mut talk = Talk::new(1000);
    talk.send(Side::Orig, SYN, b"");
    assert_eq!(history(&talk), is("S0", "S"));
    talk.send(Side::Resp, RST | ACK, b"");
    assert_eq!(history(&talk), is("REJ", "Sr"));
    let mut talk = Talk::new(1000);
    talk.send(Side::Orig, SYN, b"");
    talk.send(Side::Orig, RST, b"");
    assert_eq!(history(&talk), is("RSTOS0", "SR"));
    let mut talk = Talk::new(1000);
    talk.send(Side::Orig, SYN, b"");
    talk.send(Side::Orig, FIN | ACK, b"");
    assert_eq!(history(&talk), is("SH", "SF"));
    let mut talk = Talk::open(1000);
    assert_eq!(history(&talk), is("S1", "ShA"));
    talk.send(Side::Orig, FIN | ACK, b"");
    assert_eq!(history(&talk), is("S2", "ShAF"));
    talk.send(Side::Resp, RST, b"");
    assert_eq!(history(&talk), is("RSTR", "ShAFr"));
    let mut talk = Talk::open(1000);
    talk.send(Side::Resp, FIN | ACK, b"");
    assert_eq!(history(&talk), is("S3", "ShAf"));
    talk.send(Side::Orig, RST, b"");
    assert_eq!(history(&talk), is("RSTO", "ShAfR"));
    let mut talk = Talk::open(1000);
    talk.close();
    talk.send(Side::Orig, RST, b"");
    assert_eq!(history(&talk), is("SF", "ShAFfR"), "it was over before");
}

#[test]
fn who_has_not_answered_a_syn_can_not_put_the_streams_out_of_step() {
    let mut talk = Talk::new(1000);
    talk.send(Side::Orig, SYN, b"");
    talk.send_at(Side::Resp, 5000, RST, b"");
    talk.send_at(Side::Resp, -7000, FIN | ACK, b"junk");
    talk.send(Side::Resp, SYN | ACK, b"");
    talk.say(Side::Orig, b"GET / HTTP/1.1\r\n\r\n");
    talk.say(Side::Resp, b"HTTP/1.1 204 No\r\n\r\n");
    let records = talk.records();
    assert_eq!((conns(&records)[0].missed_bytes, conns(&records)[0].bytes.resp), (0, 19));
    assert_eq!(https(&records)[0].response.as_ref().unwrap().code, 204);
}

#[test]
fn without_a_syn_the_first_packet_says_who_began_unless_it_answers() {
    let mut talk = Talk::new(1000);
    talk.send(Side::Resp, ACK, b"in the middle");
    let records = talk.records();
    assert_eq!((conns(&records)[0].state, conns(&records)[0].id.orig.1), ("OTH", 80));
    let mut talk = Talk::new(1000);
    talk.lose(Side::Orig, 1);
    talk.send(Side::Resp, SYN | ACK, b"");
    talk.send(Side::Orig, ACK, b"data");
    talk.close();
    assert_eq!(history(&talk), is("SF", "^hDFfA"));
    let mut talk = Talk::new(1000);
    talk.send(Side::Resp, SYN | ACK, b"");
    talk.send(Side::Resp, RST, b"");
    assert_eq!(history(&talk), is("RSTRH", "^hr"));
}

#[test]
fn data_out_of_order_twice_and_missing_is_told_apart() {
    let mut talk = Talk::open(1000);
    talk.send_at(Side::Orig, 4, ACK, b"5678");
    talk.send_at(Side::Orig, 0, ACK, b"1234");
    talk.send_at(Side::Orig, 0, ACK, b"1234");
    talk.lose(Side::Orig, 8);
    // 100 bytes that nobody saw, and that are acknowledged.
    talk.lose(Side::Orig, 100);
    talk.send(Side::Resp, ACK, b"");
    talk.close();
    let records = talk.records();
    let conn = conns(&records)[0];
    assert_eq!((conn.missed_bytes, conn.bytes.orig), (100, 108));
    assert_eq!(String::from_utf8_lossy(&conn.history), "ShADTaGFf");
}

#[test]
fn repetitions_are_told_by_their_order_of_magnitude() {
    let mut talk = Talk::open(1000);
    talk.send(Side::Orig, ACK, b"x");
    (0..100).for_each(|_| talk.send_at(Side::Orig, -1, ACK, b"x"));
    assert_eq!(history(&talk), is("S1", "ShADTTT"));
}

#[test]
fn of_an_overlap_the_first_bytes_stay_and_it_is_noted() {
    let mut talk = Talk::open(1000);
    let request = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    talk.send_at(Side::Orig, 5, ACK, &request[5..]);
    talk.send(Side::Orig, ACK, b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    let records = talk.records();
    assert_eq!(https(&records)[0].request.as_ref().unwrap().uri, b"/first");
    assert!(conns(&records)[0].notes.has(Note::OverlapConflict));
    let mut same = Talk::open(1000);
    same.send_at(Side::Orig, 5, ACK, &request[5..]);
    same.send(Side::Orig, ACK, request);
    assert_eq!(conns(&same.records())[0].notes, Notes::default());
}

#[test]
fn what_is_out_of_order_is_bounded_and_then_the_gap_is_counted() {
    for (count, length) in [(200, 10), (60, 1400)] {
        let mut talk = Talk::open(1000);
        for number in 0..count {
            talk.send_at(Side::Orig, 1 + number * (length + 1), ACK, &vec![1; length as usize]);
        }
        let records = talk.records();
        let conn = conns(&records)[0];
        assert!(conn.notes.has(Note::ReassemblyLimit));
        // One byte is missing before each segment.
        assert_eq!(conn.missed_bytes, count as u64);
        assert_eq!(conn.bytes.orig, (count * (length + 1)) as u64);
    }
}

#[test]
fn numbers_far_out_of_the_window_are_not_believed() {
    let mut talk = Talk::open(1000);
    talk.send_at(Side::Orig, 1 << 30, ACK, b"far");
    talk.send(Side::Orig, ACK, b"near");
    let records = talk.records();
    let conn = conns(&records)[0];
    assert_eq!((conn.bytes.orig, conn.missed_bytes), (4, 0));
    assert!(conn.notes.has(Note::OutOfWindow));
}

#[test]
fn a_connection_ends_once_when_it_has_been_idle_as_its_state_allows() {
    let mut talk = Talk::open(1000);
    talk.close();
    let mut closed = Node::new(1);
    closed.take_all(&talk.frames);
    let last = talk.frames.last().unwrap().at;
    closed.sweep(Timestamp(last.0 + 5 * SECOND - 1));
    assert_eq!(closed.records.len(), 0);
    closed.sweep(Timestamp(last.0 + 5 * SECOND));
    closed.sweep(Timestamp(last.0 + 500 * SECOND));
    assert_eq!(closed.records.len(), 1);
    assert_eq!(closed.finish().len(), 1);
    let talk = Talk::open(1000);
    let mut open = Node::new(1);
    open.take_all(&talk.frames);
    open.sweep(Timestamp(last.0 + 200 * SECOND));
    assert_eq!(open.records.len(), 0);
    open.sweep(Timestamp(last.0 + 300 * SECOND));
    assert_eq!(conns(&open.records)[0].state, "S1");
}

#[test]
fn a_late_packet_ends_the_old_connection_though_nobody_has_swept() {
    let mut talk = Talk::open(1000);
    talk.wait(301);
    talk.send(Side::Orig, ACK, b"late");
    let records = talk.records();
    let states: Vec<_> = conns(&records).iter().map(|conn| conn.state).collect();
    assert_eq!(states, ["S1", "OTH"]);
    assert_ne!(conns(&records)[0].id.uid, conns(&records)[1].id.uid);
}

#[test]
fn a_syn_behind_a_closed_connection_begins_another_and_one_that_comes_again_does_not() {
    let mut talk = Talk::open(1000);
    talk.close();
    let again = talk.frames[0].frame.clone();
    talk.frames.push(Timed { at: Timestamp(talk.now), frame: again });
    assert_eq!(conns(&talk.records()).len(), 1);
    talk.lose(Side::Orig, 5000);
    talk.send(Side::Orig, SYN, b"");
    let records = talk.records();
    let states: Vec<_> = conns(&records).iter().map(|conn| conn.state).collect();
    assert_eq!(states, ["SF", "S0"]);
}

/// Frames of both directions, a second apart.
fn exchange(frames: &[Vec<u8>]) -> Vec<Record> {
    let at = |index| Timestamp(START + index as u64 * SECOND);
    let frames = frames.iter().enumerate();
    let frames: Vec<_> =
        frames.map(|(index, frame)| Timed { at: at(index), frame: frame.clone() }).collect();
    records(&frames)
}

#[test]
fn udp_and_icmp_of_both_families_are_connections_too() {
    use crate::packet::samples::{self, HOST_A, HOST_A6, HOST_B, HOST_B6};
    let query = samples::udp4(HOST_A, HOST_B, (5000, 53), b"query");
    let answer = samples::udp4(HOST_B, HOST_A, (53, 5000), b"the answer");
    let records = exchange(&[query.clone(), answer, query]);
    let [conn] = conns(&records)[..] else { panic!("{records:?}") };
    assert_eq!((conn.state, &conn.history[..]), ("SF", &b"Dd"[..]));
    assert_eq!((conn.bytes.orig, conn.bytes.resp, conn.packets.orig), (10, 10, 2));
    assert_eq!(conn.duration.as_secs(), 2);
    let lonely = exchange(&[samples::udp6(HOST_A6, HOST_B6, (5000, 53), b"query")]);
    assert_eq!(conns(&lonely)[0].state, "S0");
    let echo = samples::icmp4(HOST_A, HOST_B, 8, b"ping");
    let reply = samples::icmp4(HOST_B, HOST_A, 0, b"ping");
    let records = exchange(&[echo, reply]);
    let [conn] = conns(&records)[..] else { panic!("{records:?}") };
    assert_eq!((conn.id.orig.1, conn.id.resp.1, conn.state), (8, 0, "OTH"));
    assert_eq!((conn.bytes.orig, conn.bytes.resp), (4, 4));
    let records = exchange(&[samples::icmp6(HOST_A6, HOST_B6, 128, b"ping")]);
    assert_eq!((conns(&records)[0].protocol, conns(&records)[0].id.orig.1), (58, 128));
}

#[test]
fn fragments_are_counted_and_errors_are_noted_at_the_connection_that_they_are_about() {
    use crate::packet::samples::{self, HOST_A, HOST_B};
    let mut fragment = samples::udp4(HOST_A, HOST_B, (5000, 53), b"a part");
    fragment[20] = 0x20;
    samples::mend_ipv4(&mut fragment);
    let records = exchange(&[fragment]);
    let conn = conns(&records)[0];
    assert!(conn.notes.has(Note::Fragment));
    assert_eq!((conn.packets.orig, conn.protocol, conn.id.orig.1), (1, 17, 0));
    let query = samples::udp4(HOST_A, HOST_B, (5000, 53), b"query");
    let error = samples::icmp4(HOST_B, HOST_A, 3, &query[14..]);
    let records = exchange(&[query, error]);
    let [conn] = conns(&records)[..] else { panic!("{records:?}") };
    assert!(conn.notes.has(Note::IcmpError));
    assert_eq!((conn.state, conn.packets.resp), ("S0", 0));
}

#[test]
fn records_that_nobody_fetches_are_bounded_and_the_lost_ones_counted() {
    let mut node = Node::with(Config { records_max: 2, ..Config::default() }, 1);
    for port in 0..5 {
        node.take_all(&Talk::open(1000 + port).frames);
    }
    node.connections.values_mut().for_each(|connection| node.ids.end(connection));
    assert_eq!(node.ids.drain().count(), 2);
    assert_eq!(node.ids.totals().lost_records.value(), 3);
    assert_eq!(node.ids.totals().ended.value(), 5);
}
