//! Logs as text.

use super::*;
use crate::nf::ids::log::{Log, line};

#[test]
fn a_line_has_a_value_for_each_field_of_its_header() {
    let mut talk = Talk::open(1000);
    talk.say(Side::Orig, b"GET /a\tb HTTP/1.1\r\nHost: -\r\nUser-Agent: \xff\\\r\n\r\n");
    talk.say(Side::Orig, b"GET /a HTTP/1.1\r\nHost: -\r\nUser-Agent: \xff\\\r\n\r\n");
    let records = talk.records();
    assert!(conns(&records).len() == 1);
    for record in &records {
        let header = Log::of(record).header(Timestamp(0));
        let names = header.lines().find_map(|line| line.strip_prefix("#fields\t")).unwrap();
        let types = header.lines().find_map(|line| line.strip_prefix("#types\t")).unwrap();
        let (names, line) = (names.split('\t').count(), line(record));
        assert_eq!((names, line.lines().count()), (types.split('\t').count(), 1));
        assert_eq!(line.trim_end().split('\t').count(), names, "{line}");
    }
}

#[test]
fn a_connection_and_a_transaction_read_as_in_zeek() {
    let mut talk = Talk::open(1000);
    talk.say(Side::Orig, b"GET /a HTTP/1.1\r\nHost: -\r\nUser-Agent: \xff\\\r\n\r\n");
    talk.say(Side::Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    talk.close();
    let records = talk.records();
    let uid = conns(&records)[0].id.uid.to_string();
    assert!(uid.len() == 17 && uid.starts_with('C'));
    let lines: Vec<_> = records.iter().map(line).collect();
    let unset = "-\t".repeat(9);
    assert_eq!(
        lines[0],
        format!(
            "1700000000.003000\t{uid}\t10.0.0.1\t1000\t192.0.2.80\t80\t1\tGET\t\\x2d\t/a\t-\t1.1\t\
             \\xff\\\\\t-\t0\t2\t200\tOK\t-\t-\t(empty)\t{unset}-\t49f68a5c8493ec2c0bf489821c21fc3b\n"
        )
    );
    assert_eq!(
        lines[1],
        format!(
            "1700000000.000000\t{uid}\t10.0.0.1\t1000\t192.0.2.80\t80\ttcp\thttp\t0.008000\t44\t40\t\
             SF\t-\t-\t0\tShADadFf\t6\t284\t4\t200\t-\t6\t(empty)\n"
        )
    );
}

/// Zeek tells the length of the content, of which an encoding says nothing.
#[test]
fn an_encoded_body_has_no_length_and_a_tag_that_says_why() {
    for (coding, length, tag) in [
        ("gzip", "-", "response_encoded"),
        ("identity", "2", "(empty)"),
        ("Identity, br", "-", "response_encoded"),
        ("", "2", "(empty)"),
    ] {
        let mut talk = Talk::open(1000);
        let body = "Content-Encoding: deflate\r\nContent-Length: 3\r\n\r\nabc";
        talk.say(Side::Orig, format!("POST /a HTTP/1.1\r\n{body}").as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n");
        talk.say(Side::Resp, format!("{head}Content-Length: 2\r\n\r\nhi").as_bytes());
        talk.close();
        let records = talk.records();
        let line = line(&records[0]);
        let values: Vec<_> = line.trim_end().split('\t').collect();
        let tags = match tag {
            "(empty)" => "request_encoded".to_owned(),
            tag => format!("request_encoded,{tag}"),
        };
        assert_eq!((values[14], values[15], values[20]), ("-", length, tags.as_str()), "{coding}");
        // The digest is of what was sent.
        assert_eq!(values[31], "49f68a5c8493ec2c0bf489821c21fc3b");
    }
}

/// What is not there is not encoded, whatever is said of it: its length is 0, as in Zeek.
#[test]
fn a_message_without_a_body_has_a_length_whatever_encoding_it_names() {
    for (method, status, length) in [
        ("HEAD", "200 OK", 100),
        ("POST", "204 No Content", 100),
        ("POST", "304 Not Modified", 100),
        ("POST", "200 OK", 0),
    ] {
        let mut talk = Talk::open(1000);
        let fields = "Content-Encoding: gzip\r\nContent-Length: ";
        talk.say(Side::Orig, format!("{method} /a HTTP/1.1\r\n{fields}0\r\n\r\n").as_bytes());
        talk.say(Side::Resp, format!("HTTP/1.1 {status}\r\n{fields}{length}\r\n\r\n").as_bytes());
        talk.close();
        let records = talk.records();
        let [requested, responded, tags] =
            ["request_body_len", "response_body_len", "tags"].map(|name| field(&records[0], name));
        assert_eq!((&*requested, &*responded, &*tags), ("0", "0", "(empty)"), "{method} {status}");
    }
}

#[test]
fn an_encoded_body_that_was_not_read_has_no_length() {
    for (fields, note) in [
        ("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "lengths_differ"),
        ("Content-Length: 3\r\n\r\n", "incomplete"),
        ("Transfer-Encoding: chunked\r\n\r\nx", "bad_chunk"),
    ] {
        let fields = format!("Content-Encoding: gzip\r\n{fields}");
        for side in Side::BOTH {
            let mut talk = Talk::open(1000);
            let (asks, answers) = match side {
                Side::Orig => (fields.as_str(), "\r\n"),
                Side::Resp => ("\r\n", fields.as_str()),
            };
            talk.say(Side::Orig, format!("POST /a HTTP/1.1\r\n{asks}").as_bytes());
            talk.say(Side::Resp, format!("HTTP/1.1 200 OK\r\n{answers}").as_bytes());
            talk.close();
            let records = talk.records();
            let [requested, responded, tags] = ["request_body_len", "response_body_len", "tags"]
                .map(|name| field(&records[0], name));
            let (lengths, encoded) = match side {
                Side::Orig => (("-", "0"), "request_encoded"),
                Side::Resp => (("0", "-"), "response_encoded"),
            };
            assert_eq!((&*requested, &*responded), lengths, "{fields}");
            let tags: Vec<_> = tags.split(',').collect();
            assert!(tags.contains(&encoded) && tags.contains(&note), "{tags:?} of {fields}");
        }
    }
}

/// Packets of one poll round have one time, which is no reason to leave out what they carry.
#[test]
fn packets_of_one_time_have_bytes_and_a_single_one_has_none_as_in_zeek() {
    let mut talk = Talk::open(1000);
    talk.say(Side::Orig, b"hello");
    talk.frames.iter_mut().for_each(|timed| timed.at = Timestamp(START));
    let records = talk.records();
    let of_conn = ["duration", "orig_bytes", "resp_bytes"].map(|name| field(&records[0], name));
    assert_eq!(of_conn, ["0.000000", "5", "0"]);
    let mut single = Talk::new(1000);
    single.send(Side::Orig, SYN, b"");
    let records = single.records();
    let of_conn = ["duration", "orig_bytes", "resp_bytes"].map(|name| field(&records[0], name));
    assert_eq!(of_conn, ["-"; 3]);
}

/// The value of a field in the line of a record.
fn field(record: &Record, name: &str) -> String {
    let header = Log::of(record).header(Timestamp(0));
    let names = header.lines().find_map(|line| line.strip_prefix("#fields\t")).unwrap();
    let line = line(record);
    let mut values = names.split('\t').zip(line.trim_end().split('\t'));
    values.find(|(field, _)| *field == name).unwrap().1.to_owned()
}

#[test]
fn what_is_remarkable_stands_in_the_lines_by_name() {
    let mut talk = Talk::open(1000);
    talk.say(
        Side::Orig,
        b"POST /a HTTP/1.1\r\nHost: h\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\n\r\n",
    );
    talk.say(Side::Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    // Ahead, again with other bytes, and much too far ahead; what is between never comes.
    talk.send_at(Side::Orig, 10, ACK, b"one");
    talk.send_at(Side::Orig, 10, ACK, b"two");
    talk.send_at(Side::Orig, 20 << 20, ACK, b"far");
    let records = talk.records();
    let of = |log: Log| records.iter().find(|record| Log::of(record) == log).unwrap();
    assert_eq!(field(of(Log::Http), "tags"), "bare_line_feed,length_and_chunked");
    assert_eq!(field(of(Log::Conn), "notes"), "overlap_conflict,out_of_window,gap");
}
