//! Recognisers, one by one.

use weir_state_transfer::protocol::{TCP, UDP};

use super::*;

const CLIENT: Option<Role> = Some(Role::Client);
const SERVER: Option<Role> = Some(Role::Server);

fn found(number: u8, ports: (u16, u16), bytes: &[u8]) -> Option<Found> {
    recognise(number, &Payload { bytes, ports })
}

fn assert_found(number: u8, ports: (u16, u16), bytes: &[u8], role: Option<Role>, name: &str) {
    let Some(found) = found(number, ports, bytes) else { panic!("{name}: not recognised") };
    assert_eq!((found.role, found.name.as_str()), (role, name));
}

fn tcp(bytes: &[u8], role: Option<Role>, name: &str) {
    assert_found(TCP, (40_000, 9), bytes, role, name);
}

fn udp(ports: (u16, u16), bytes: &[u8], role: Option<Role>, name: &str) {
    assert_found(UDP, ports, bytes, role, name);
}

#[test]
fn heads_of_http_and_its_kin_are_told_with_the_program_that_sent_them() {
    tcp(
        b"GET / HTTP/1.1\r\nHost: a\r\nuser-agent:  curl/8.5.0 \r\n\r\n",
        CLIENT,
        "http curl/8.5.0",
    );
    tcp(b"POST /a b HTTP/1.0\n\nUser-Agent: none", CLIENT, "http");
    tcp(b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n\r\n", SERVER, "http nginx/1.22.1");
    tcp(b"HTTP/1.1 404\r\nX: y\r\nno colon\r\nSERVER: a\r\n", SERVER, "http a");
    // A value that the packet ends in may be longer than it looks.
    tcp(b"HTTP/1.1 200 OK\r\nServer: ngi", SERVER, "http");
    tcp(b"RTSP/1.0 200 OK\r\nServer: GStreamer\r\n\r\n", SERVER, "rtsp GStreamer");
    tcp(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", CLIENT, "http 2");
    udp(
        (5060, 5060),
        b"OPTIONS sip:a SIP/2.0\r\nUser-Agent: friendly\r\n\r\n",
        CLIENT,
        "sip friendly",
    );
    udp((5060, 5060), b"SIP/2.0 200 OK\r\nServer: Asterisk\r\n\r\n", SERVER, "sip Asterisk");
    for bytes in [
        &b"GET / HTTP/1.1"[..],
        b"get / HTTP/1.1\r\n",
        b"GET / FTP/1.1\r\n",
        b" / HTTP/1.1\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 2x0 OK\r\n",
        b"HTTP/1.1\r\n",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n",
    ] {
        assert_eq!(found(TCP, (40_000, 80), bytes), None, "{}", bytes.escape_ascii());
    }
}

#[test]
fn greetings_of_servers_are_told_with_their_products_and_without_times_and_sessions() {
    tcp(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u2\r\n", None, "ssh OpenSSH_9.2p1 Debian-2+deb12u2");
    tcp(b"220 mx.example.org ESMTP Postfix (Debian/GNU)\r\n", SERVER, "smtp Postfix Debian");
    tcp(b"220 a ESMTP Exim 4.96 Mon, 01 Jan 2024 10:00:00 +0000\r\n", SERVER, "smtp Exim 4.96");
    tcp(b"220 mx.google.com ESMTP y12si34wrm.150 - gsmtp\r\n", SERVER, "smtp");
    tcp(b"220 a ESMTP Mon, 01 Jan 2024\r\n", SERVER, "smtp");
    tcp(b"EHLO client.example.org\r\n", CLIENT, "smtp");
    tcp(b"220 (vsFTPd 3.0.3)\r\n", SERVER, "ftp vsFTPd 3.0.3");
    tcp(
        b"220 ProFTPD 1.3.5e Server (Debian) [::ffff:10.0.0.1]\r\n",
        SERVER,
        "ftp ProFTPD 1.3.5e Debian",
    );
    tcp(b"220 Microsoft FTP Service\r\n", SERVER, "ftp Microsoft");
    assert_found(TCP, (21, 999), b"220-FileZilla Server 0.9.60 beta\r\n", SERVER, "ftp FileZilla");
    assert_found(TCP, (21, 999), b"220 ready\r\n", SERVER, "ftp");
    assert_found(TCP, (587, 999), b"220 ready\r\n", SERVER, "smtp");
    tcp(b"+OK Dovecot (Debian) ready.\r\n", SERVER, "pop3 Dovecot Debian");
    tcp(b"+OK POP3 server ready <1@a>\r\n", SERVER, "pop3");
    tcp(b"* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n", SERVER, "imap Dovecot");
    tcp(b"* PREAUTH hello\r\n", SERVER, "imap");
    tcp(b"200 news.example.org NNTP Service Ready\r\n", SERVER, "nntp");
    tcp(b"@RSYNCD: 31.0 sha512\n", None, "rsync 31.0");
    tcp(b"\x13BitTorrent protocol\0\0\0", None, "bittorrent");
    tcp(b"\xff\xfd\x18\xff\xfd\x20", None, "telnet");
    tcp(b"AMQP\0\0\x09\x01", CLIENT, "amqp");
    for bytes in [
        &b"SSH-2.0-"[..],
        b"SSH-x-OpenSSH\r\n",
        b"SSH-2.0",
        b"220 ready\r\n",
        b"+OK 1\r\n",
        b"200 OK\r\n",
        b"EHLO \r\n",
        b"@RSYNCD: EXIT\n",
        b"\xff\xfd\x90",
        b"\xff\xfd\x18a",
        b"AMQP",
        b"\r\n",
    ] {
        assert_eq!(found(TCP, (40_000, 9), bytes), None, "{}", bytes.escape_ascii());
    }
}

/// Hosts and mailboxes are called after systems that they need not run.
#[test]
fn a_greeting_tells_the_system_by_what_is_said_of_its_software_and_not_by_who_greets() {
    for (greeting, name) in [
        ("220 ubuntu-archive.example ESMTP Postfix (Debian/GNU)", "smtp Postfix Debian"),
        ("220 ubuntu.example ESMTP Postfix", "smtp Postfix"),
        ("220 Debian ESMTP Postfix", "smtp Postfix"),
        ("220 smtp.ubuntu.example ESMTP Postfix (Debian/GNU)", "smtp Postfix Debian"),
        ("220 a ESMTP Sendmail 8.14 (Red Hat) at ubuntu.example", "smtp Sendmail 8.14 Red Hat"),
        ("220 a.example Microsoft ESMTP MAIL Service ready at Mon", "smtp MAIL Microsoft"),
        ("220 ubuntu FTP server (Version 6.4/OpenBSD/Linux-ftpd-0.17) ready.", "ftp OpenBSD"),
        ("220 ftp.ubuntu.example FTP server ready", "ftp"),
        ("220 ftp.example.org ready", "ftp"),
        ("+OK Dovecot (Ubuntu) ready. <1.2.abc==@debian>", "pop3 Dovecot Ubuntu"),
        ("+OK Dovecot ready. <1.2.abc==@debian.Ubuntu>", "pop3 Dovecot"),
        ("+OK POP3 server ready <1@ubuntu>", "pop3"),
        ("* OK ubuntu Cyrus IMAP v2.4.17-Debian-2.4.17 server ready", "imap Cyrus Debian"),
        ("* OK ubuntu.example IMAP4rev1 (Linux) ready", "imap Linux"),
        ("* OK The Microsoft Exchange IMAP4 service is ready.", "imap Microsoft"),
    ] {
        tcp(format!("{greeting}\r\n").as_bytes(), SERVER, name);
    }
}

/// A hello with its extensions.
fn hello(kind: u8, version: [u8; 2], extensions: &[u8]) -> Vec<u8> {
    let mut body = [&version[..], &[7; 32], &[4], &[1; 4]].concat();
    let suites: &[u8] = if kind == 1 { &[0, 4, 19, 1, 19, 2, 1, 0] } else { &[19, 1, 0] };
    body.extend(suites);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let length = body.len() as u16;
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([kind, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

const SNI: &[u8] = b"\0\0\0\x10\0\x0e\0\0\x0bexample.org";
const OFFERED: &[u8] = &[0, 43, 0, 7, 6, 0x5a, 0x5a, 3, 4, 3, 3];

#[test]
fn hellos_of_tls_are_told_with_their_version_and_the_server_that_is_asked_for() {
    let offer = hello(1, [3, 3], &[SNI, OFFERED].concat());
    tcp(&offer, CLIENT, "tls 1.3");
    let asks = found(TCP, (9, 443), &offer).and_then(|found| found.asks);
    assert_eq!(asks.as_ref().map(Name::as_str), Some("example.org"));
    tcp(&hello(1, [3, 1], &[]), CLIENT, "tls 1.0");
    tcp(&hello(2, [3, 3], &[]), SERVER, "tls 1.2");
    tcp(&hello(2, [3, 3], &[0, 43, 0, 2, 3, 4]), SERVER, "tls 1.3");
    // Of one that goes on in the next packet the version is not known.
    for length in [45, 60, offer.len() - 1] {
        tcp(&offer[..length], CLIENT, "tls");
    }
    for bad in [
        hello(1, [9, 9], &[]),
        hello(3, [3, 3], &[]),
        [&[22, 9][..], &offer[2..]].concat(),
        offer[..30].to_vec(),
        hello(2, [3, 3], &[0, 43, 0, 2, 9, 9]),
    ] {
        assert_eq!(found(TCP, (9, 443), &bad), None, "{bad:?}");
    }
    // Names that are none.
    for sni in [&b"\0\0\0\x06\0\x04\0\0\x01\xff"[..], b"\0\0\0\x09\0\x07\0\x00\xffabcd"] {
        let asks = found(TCP, (9, 443), &hello(1, [3, 3], sni)).map(|found| found.asks);
        assert_eq!(asks, Some(None));
    }
}

#[test]
fn screens_files_and_databases_are_told() {
    tcp(b"RFB 003.008\n", None, "vnc 3.8");
    let request = b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0";
    tcp(request, CLIENT, "rdp");
    tcp(b"\x03\0\0\x1e\x19\xe0\0\0\0\0\0Cookie: mstshash=a\r", CLIENT, "rdp");
    tcp(b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\x1f\x08\0\x02\0\0\0", SERVER, "rdp");
    let smb = |flags: u8, dialect: [u8; 2]| {
        let mut bytes = vec![0; 4 + 64 + 65];
        bytes[4..8].copy_from_slice(b"\xfeSMB");
        (bytes[4 + 16], bytes[4 + 68], bytes[4 + 69]) = (flags, dialect[0], dialect[1]);
        bytes
    };
    tcp(&smb(0, [0, 0]), CLIENT, "smb 2");
    tcp(&smb(1, [0x11, 3]), SERVER, "smb 3.1.1");
    tcp(&smb(1, [9, 9]), SERVER, "smb 2");
    tcp(b"\0\0\0\x20\xffSMB\x72\0\0\0\0\x18", CLIENT, "smb 1");
    tcp(b"\0\0\0\x20\xffSMB\x72\0\0\0\0\x98", SERVER, "smb 1");
    tcp(b"\x0d\0\0\0\x0a8.0.36\0abcde", SERVER, "mysql 8.0.36");
    tcp(b"\x19\0\0\0\x0a5.5.5-10.11.6-MariaDB\0ab", SERVER, "mysql 10.11.6-MariaDB");
    tcp(b"\0\0\0\x08\x04\xd2\x16\x2f", CLIENT, "postgresql");
    tcp(b"\0\0\0\x12\0\x03\0\0user\0root\0", CLIENT, "postgresql");
    tcp(b"R\0\0\0\x0c\0\0\0\x05abcd", SERVER, "postgresql");
    tcp(b"\x12\x01\0\x0e\0\0\0\0\0\0\x06\0\x06\xff", CLIENT, "sqlserver");
    tcp(b"\x04\x01\0\x14\0\0\x01\0\0\0\x06\0\x06\xff\x0f\0\0\0\0\0", SERVER, "sqlserver 15.0");
    tcp(b"\x10\x0c\0\x04MQTT\x05\x02\0\x3c", CLIENT, "mqtt 5.0");
    for bytes in [
        &b"RFB 003x008\n"[..],
        b"RFB 3.8\n",
        &request[..18],
        b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x07\0\x08\0\x03\0\0\0",
        b"\0\0\0\x20\xffSMB",
        b"\x0e\0\0\0\x0a8.0.36\0abcde",
        b"\0\0\0\x09\x04\xd2\x16\x2f",
        b"R\0\0\0\x0c\0\0\0\x50",
        b"\x12\x01\0\x0f\0\0\0\0\0\0\x06\0\x06\xff",
        b"\x10\xff\xff\xff\xff\0\x04MQTT\x05",
        b"\x10\x0c\0\x04MQTT\x09",
    ] {
        assert_eq!(found(TCP, (40_000, 9), bytes), None, "{}", bytes.escape_ascii());
    }
}

const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";

#[test]
fn datagrams_are_told() {
    udp((999, 53), QUERY, CLIENT, "dns");
    let mut answer = QUERY.to_vec();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    udp((53, 999), &answer, SERVER, "dns");
    tcp(&[&[0, QUERY.len() as u8], QUERY].concat(), CLIENT, "dns");
    let mut dhcp = vec![0; 240];
    dhcp[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    dhcp.extend(b"\x35\x01\x01\0\x3c\x08MSFT 5.0\xff");
    dhcp[0] = 1;
    udp((68, 67), &dhcp, CLIENT, "dhcp MSFT 5.0");
    dhcp[0] = 2;
    udp((67, 68), &dhcp, SERVER, "dhcp");
    let ntp = |first: u8| [&[first][..], &[0; 47]].concat();
    udp((999, 123), &ntp(0x23), CLIENT, "ntp 4");
    udp((123, 999), &ntp(0x1c), SERVER, "ntp 3");
    udp((9, 161), b"\x30\x10\x02\x01\x01\x04\x06public\xa0\x03\x02\x01\x07", CLIENT, "snmp 2c");
    udp((161, 9), b"\x30\x10\x02\x01\0\x04\x06public\xa2\x03\x02\x01\x07", SERVER, "snmp 1");
    udp((161, 9), b"\x30\x81\x05\x02\x01\x03\x30\0", SERVER, "snmp 3");
    udp((9, 443), b"\xc3\0\0\0\x01\x02ab\x01c\0\0", None, "quic 1");
    udp((9, 443), b"\xc3\x6b\x33\x43\xcf\0\0\0", None, "quic 2");
    let stun = |kind: u8| [&[kind, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[0; 12]].concat();
    udp((9, 3478), &stun(0), CLIENT, "stun");
    udp((3478, 9), &stun(1), SERVER, "stun");
    let mut ike = vec![0; 28];
    (ike[17], ike[27]) = (0x20, 28);
    udp((500, 500), &ike, None, "ike 2");
    udp((4500, 4500), &[&[0; 4][..], &ike].concat(), None, "ike 2");
    udp((9, 51_820), &[&[1, 0, 0, 0][..], &[9; 144]].concat(), CLIENT, "wireguard");
    udp((51_820, 9), &[&[2, 0, 0, 0][..], &[9; 88]].concat(), SERVER, "wireguard");
    udp((9, 1900), b"M-SEARCH * HTTP/1.1\r\nUSER-AGENT: x\r\n\r\n", CLIENT, "ssdp x");
    udp((1900, 9), b"HTTP/1.1 200 OK\r\nSERVER: y\r\n\r\n", SERVER, "ssdp y");
    let changed = |place: usize, byte: u8| {
        let mut other = QUERY.to_vec();
        other[place] = byte;
        other
    };
    for bytes in [
        changed(2, 0x79),
        changed(5, 2),
        changed(7, 1),
        changed(12, 0xc0),
        changed(12, 63),
        changed(QUERY.len() - 1, 9),
        QUERY[..QUERY.len() - 1].to_vec(),
        [&[0; 12][..], &[1; 600]].concat(),
        ntp(0x23),
        b"\x30\x82\xff\xff\x02\x01\x01".to_vec(),
        b"\x30\x83\0\0\0".to_vec(),
        b"\xc3\0\0\0\x01\xffab".to_vec(),
        [&[1, 0, 0, 0][..], &[9; 143]].concat(),
    ] {
        assert_eq!(found(UDP, (999, 9), &bytes), None, "{bytes:?}");
    }
    assert_eq!(found(1, (0, 0), QUERY), None, "neither TCP nor UDP");
}

/// Whatever comes, cut anywhere and changed anywhere.
#[test]
fn hostile_bytes_never_panic_and_their_names_are_bounded() {
    let mut rng = weir_seed::rng();
    let mut smb = vec![0; 140];
    smb[4..8].copy_from_slice(b"\xfeSMB");
    smb[20] = 1;
    let seeds: Vec<Vec<u8>> = vec![
        hello(1, [3, 3], &[SNI, OFFERED].concat()),
        hello(2, [3, 3], &[0, 43, 0, 2, 3, 4]),
        QUERY.to_vec(),
        smb,
        b"GET / HTTP/1.1\r\nUser-Agent: x\r\n\r\n".to_vec(),
        b"220 a ESMTP b 1.2\r\n".to_vec(),
        b"\x30\x10\x02\x01\x01\x04\x06public\xa0\x03\x02\x01\x07".to_vec(),
        b"\x0d\0\0\0\x0a8.0.36\0abcde".to_vec(),
        b"\x04\x01\0\x14\0\0\x01\0\0\0\x06\0\x06\xff\x0f\0\0\0\0\0".to_vec(),
        b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0".to_vec(),
        [b"SSH-2.0-", &[b'x'; 3_000][..]].concat(),
        [b"HTTP/1.1 200 OK\r\nServer: ", &[0xff; 3_000][..], b"\r\n"].concat(),
    ];
    let ports = [53, 67, 123, 161, 500, 4500, 1900, 21, 999];
    let mut told = 0;
    for _ in 0..60_000 {
        let mut bytes = rng.choice(&seeds).cloned().unwrap_or_default();
        bytes.truncate(rng.usize(..=bytes.len()));
        for _ in 0..rng.usize(..4) {
            let place = rng.usize(..=bytes.len());
            if let Some(byte) = bytes.get_mut(place) {
                *byte = rng.u8(..);
            }
        }
        let ports = (*rng.choice(&ports).unwrap(), *rng.choice(&ports).unwrap());
        for number in [TCP, UDP] {
            let Some(found) = found(number, ports, &bytes) else { continue };
            told += 1;
            for name in [Some(found.name), found.asks].into_iter().flatten() {
                let text = name.as_str();
                assert!(!text.is_empty() && text.len() <= super::super::NAME_MAX);
                assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
    assert!(told > 1_000, "{told}");
}
