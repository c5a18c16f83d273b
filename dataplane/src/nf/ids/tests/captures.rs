//! Real captures, against what other programs have found in them.

use super::*;

/// The records of a capture, which are the same when connections travel at every packet, and when
/// all of them move to another instance at some packets.
fn checked(name: &str) -> Option<Vec<Record>> {
    let frames = capture(name)?;
    let single = records(&frames);
    let (travelled, most) = transfer::travelled(&frames);
    assert_eq!(travelled, single, "{name}");
    let expected = lines(&single);
    let step = (frames.len() / 20).max(1);
    for at in (0..frames.len()).step_by(step) {
        assert_eq!(lines(&transfer::moved(&frames, at)), expected, "{name} moved at {at}");
    }
    println!(
        "data test ran: {name}: {} packets, {} records, the same with connections that travel, \
         of {most} bytes at most",
        frames.len(),
        single.len()
    );
    Some(single)
}

/// The values of some fields, of all records of a log.
fn values(records: &[Record], log: log::Log, names: &[&str]) -> Vec<String> {
    let header = log.header(Timestamp(0));
    let fields = header.lines().find_map(|line| line.strip_prefix("#fields\t")).unwrap();
    let fields: Vec<_> = fields.split('\t').collect();
    let places: Vec<_> =
        names.iter().map(|name| fields.iter().position(|field| field == name).unwrap()).collect();
    let records = records.iter().filter(|record| log::Log::of(record) == log);
    let mut lines: Vec<_> = records
        .map(|record| {
            let line = log::line(record);
            let values: Vec<_> = line.trim_end().split('\t').collect();
            places.iter().map(|place| values[*place]).collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

const ALL: [&str; 10] = [
    "service",
    "duration",
    "orig_bytes",
    "resp_bytes",
    "conn_state",
    "missed_bytes",
    "history",
    "orig_pkts",
    "orig_ip_bytes",
    "resp_pkts",
];

fn conn_values(records: &[Record]) -> Vec<String> {
    values(records, log::Log::Conn, &ALL)
}

fn http_values(records: &[Record]) -> Vec<String> {
    values(records, log::Log::Http, &["method", "host", "uri", "status_code", "response_body_len"])
}

/// The line that Zeek's own test expects of this capture.
#[test]
fn a_capture_without_its_syn_gives_zeeks_line() {
    let Some(records) = checked("zeek_zeek__missing-syn.pcap") else { return };
    assert_eq!(conn_values(&records), ["http 1.550793 98 9417 SF 0 ^hADdFaf 11 670 10"]);
}

/// What Zeek's own test expects of the ends: closed with 3 packets, reset with 2.
#[test]
fn a_capture_with_a_fin_that_comes_again_is_read() {
    let Some(records) = checked("zeek_zeek__fin_retransmission.pcap") else { return };
    assert_eq!(conn_values(&records), ["- 0.610409 0 0 RSTR 0 SFhr 3 156 2"]);
}

#[test]
fn captures_of_unusual_handshakes_are_read() {
    if let Some(records) = checked("zeek_zeek__handshake-reorder.pcap") {
        assert_eq!(conn_values(&records), ["http 0.141744 136 5007 SF 0 ^hSADadFf 7 512 7"]);
        assert_eq!(http_values(&records), ["GET bro.org /download/CHANGES.bro-aux.txt 200 4705"]);
    }
    if let Some(records) = checked("zeek_zeek__tcp-fast-open.pcap") {
        let expected = [
            "http 0.005275 86 1307 SF 0 ShAdfFa 4 314 4",
            "http 0.006866 65 200 SF 0 ShDadfF 3 233 5",
        ];
        assert_eq!(conn_values(&records), expected);
        let expected =
            ["GET - //index.php?page=../../../etc/passwd 200 1158", "GET - /index.php 302 0"];
        assert_eq!(http_values(&records), expected);
    }
}

#[test]
fn a_capture_with_packets_that_come_twice_misses_nothing() {
    let Some(records) = checked("zeek_zeek__ssh-dups.pcap") else { return };
    assert_eq!(conn_values(&records), ["- 4.937069 3705 4273 SF 0 ShADTadtTtFf 225 26532 152"]);
}

#[test]
fn captures_of_many_requests_are_read() {
    if let Some(records) = checked("zeek_zeek__pipelined-requests.pcap") {
        let expected = [
            "GET www.mozilla.org /images/template/screen/bullet_utility.png 200 94",
            "GET www.mozilla.org /images/template/screen/key-point-top.png 200 2349",
            "GET www.mozilla.org /projects/calendar/images/header-sunbird.png 200 27579",
            // These are encoded: how long their content is, which Zeek tells, is not known.
            "GET www.mozilla.org /script/urchin.js 200 -",
            "GET www.mozilla.org /style/enhanced.css 200 -",
        ];
        assert_eq!(http_values(&records), expected);
    }
    if let Some(records) = checked("zeek_zeek__206_example_a.pcap") {
        let expected = [
            "GET cs.gmu.edu /~tr-admin/papers/GMU-CS-TR-2010-20.pdf 206 32768",
            "GET cs.gmu.edu /~tr-admin/papers/GMU-CS-TR-2010-20.pdf 206 522755",
        ];
        assert_eq!(http_values(&records), expected);
    }
    if let Some(records) = checked("zeek_zeek__methods.pcap") {
        let methods = values(&records, log::Log::Http, &["method"]);
        let count = |wanted: &str| methods.iter().filter(|method| *method == wanted).count();
        // Most lines of this capture are no requests, and are answered all the same.
        assert_eq!((methods.len(), conns(&records).len()), (49, 49));
        let known = ["GET", "HEAD", "PUT", "TRACE", "DELETE", "OPTIONS", "CCM_POST", "CONNECT"];
        assert_eq!((known.map(count), count("-")), ([3, 2, 2, 2, 2, 2, 2, 2], 31));
    }
}

/// What others find in it is compared with in the testbed, where the experiment does so too.
#[test]
fn the_capture_of_489_conversations_has_a_connection_for_each() {
    if let Some(records) = checked("http-489.pcap") {
        assert!(conns(&records).len() >= 489, "{}", conns(&records).len());
    }
}
