//! Certificates: made by `weir pki`, asked for on TCP, and what each allows.

use std::{io::Read as _, net::TcpStream, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::node::{Directory, LIMIT, Node, Running, weir};

fn pki(arguments: &[&str]) {
    let made = weir(&[&["pki"], arguments].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

pub(crate) fn authority(path: &Path) -> String {
    let directory = path.to_str().unwrap().to_owned();
    pki(&["init", &directory]);
    pki(&["issue", &directory, "--name", "edge", "--role", "server", "--san", "localhost"]);
    pki(&["issue", &directory, "--name", "alice", "--role", "operator"]);
    pki(&["issue", &directory, "--name", "bob", "--role", "viewer"]);
    directory
}

/// Runs `weir` over TCP with a certificate and returns its exit code and what it said.
fn over_tcp(running: &Running, ca: &str, certificate: &str, arguments: &[&str]) -> (i32, String) {
    let server = format!("https://localhost:{}", running.listening.unwrap().port());
    let (ca, cert, key) =
        (format!("{ca}/ca.crt"), format!("{certificate}.crt"), format!("{certificate}.key"));
    let tls = ["-s", &server, "--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let ran = weir(&[&tls, arguments].concat());
    (ran.status.code().unwrap(), String::from_utf8_lossy(&ran.stderr).into_owned())
}

#[test]
fn the_authoritys_files_are_private_and_never_overwritten() {
    let directory = Directory::new();
    let path = directory.0.join("pki");
    authority(&path);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    let expected = [
        "alice.crt",
        "alice.key",
        "bob.crt",
        "bob.key",
        "ca.crt",
        "ca.key",
        "edge.crt",
        "edge.key",
    ];
    assert_eq!(names, expected);
    let key = std::fs::read(path.join("ca.key")).unwrap();
    let path = path.to_str().unwrap();
    for (arguments, code) in [
        (vec!["init", path], 4),
        (vec!["issue", path, "--name", "bob", "--role", "viewer"], 4),
        (vec!["issue", path, "--name", "../eve", "--role", "viewer"], 2),
        (vec!["issue", path, "--name", "ca", "--role", "viewer"], 2),
        (vec!["issue", path, "--name", "x", "--role", "server"], 2),
        (vec!["issue", "/nonexistent", "--name", "x", "--role", "viewer"], 5),
    ] {
        let refused = weir(&[&["pki"], arguments.as_slice()].concat());
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}");
    }
    assert_eq!(std::fs::read(format!("{path}/ca.key")).unwrap(), key);
}

#[test]
fn tcp_asks_for_a_certificate_of_the_authority_and_its_role_decides() {
    let node = Node::new(1);
    let ours = authority(&node.directory.0.join("ours"));
    let theirs = authority(&node.directory.0.join("theirs"));
    let control = format!(
        "listen = '127.0.0.1:0'\n[control.tls]\nca = '{ours}/ca.crt'\n\
         cert = '{ours}/edge.crt'\nkey = '{ours}/edge.key'\n"
    );
    let running = node.start_with(&control, None);

    assert_eq!(over_tcp(&running, &ours, &format!("{ours}/alice"), &["status"]).0, 0);
    let operate = ["scale", "auto", "off"];
    assert_eq!(over_tcp(&running, &ours, &format!("{ours}/alice"), &operate).0, 0);
    assert_eq!(over_tcp(&running, &ours, &format!("{ours}/bob"), &["status"]).0, 0);
    let (code, said) = over_tcp(&running, &ours, &format!("{ours}/bob"), &operate);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("a viewer may not call SetAuto   [ROLE_TOO_LOW]"), "{said}");

    // Another authority's certificate, one without a role, and a server that we do not trust.
    for (authority, certificate, says) in [
        (&ours, format!("{theirs}/alice"), "--tls-cert and --tls-key must be issued"),
        (&ours, format!("{ours}/edge"), "--tls-cert and --tls-key must be issued"),
        (&theirs, format!("{ours}/alice"), "--tls-ca must be the authority"),
    ] {
        let (code, said) = over_tcp(&running, authority, &certificate, &["status"]);
        assert_eq!(code, 6, "{said}");
        assert!(said.contains(says) && !said.contains("start weir-control"), "{said}");
    }

    // No certificate at all: plain bytes are answered by an alert or the end, never by data.
    let mut plain = TcpStream::connect(running.listening.unwrap()).unwrap();
    plain.set_read_timeout(Some(LIMIT)).unwrap();
    std::io::Write::write_all(&mut plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as any.
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.len() < 16, "{answer:?}");

    let missing = weir(&["-s", "https://localhost:1", "status"]);
    assert_eq!(missing.status.code(), Some(2), "certificates are asked for before connecting");
}
