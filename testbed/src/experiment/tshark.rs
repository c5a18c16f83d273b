//! The requests in the logs against those that tshark finds in the same packets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde::Serialize;

use super::conversations::Conversations;
use super::known::Known;
use super::logs::Logs;

/// Ports of HTTP that tshark does not know.
const PORTS: [u16; 8] = [1080, 2375, 3128, 4000, 8000, 8001, 8080, 8888];
/// Between the values of several messages in one packet stands what no value has.
const BETWEEN: &str = "\x01";

/// The versions of which it is known what they read otherwise than the logs have it. Others are held
/// to the same.
pub(super) const KNOWN_OF: &str = "4.0";

/// How the logs agree with what tshark finds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// The version of tshark.
    pub version: String,
    /// Requests: method, host and target of each.
    pub requests: Said,
    /// Final answers: the status of each.
    pub statuses: Said,
}

impl Found {
    /// Whether this version is one of those of which it is known what they read otherwise.
    pub(super) fn is_known(&self) -> bool {
        self.version.strip_prefix(KNOWN_OF).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Conversations that are read otherwise, and should not be, or the other way round.
    pub(super) fn unexplained(&self) -> usize {
        self.requests.unexplained() + self.statuses.unexplained()
    }

    /// What of this is a fault, if there is any, and what to do where the version may be the reason.
    pub(super) fn fault(&self) -> Option<String> {
        let count = self.unexplained();
        let of_another = if self.is_known() {
            String::new()
        } else {
            format!(
                "; this is {}: install one of {KNOWN_OF}, or ask for --without-tshark",
                self.version
            )
        };
        (count > 0).then(|| {
            format!("{count} connections are not read as is known of tshark {KNOWN_OF}{of_another}")
        })
    }
}

/// What is said in all conversations, in one of the two directions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Said {
    /// Messages of conversations in which all are the same.
    pub same: usize,
    /// Conversations in which they are not.
    pub otherwise: Vec<Otherwise>,
    /// Conversations of which it is known that they are read otherwise, and that are not.
    pub absent: Vec<String>,
}

impl Said {
    fn unexplained(&self) -> usize {
        let otherwise = self.otherwise.iter().filter(|otherwise| otherwise.why.is_none());
        otherwise.count() + self.absent.len()
    }
}

/// A conversation that is read otherwise: in either list what the other has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Otherwise {
    /// Its client.
    pub client: String,
    /// What only the log has.
    pub logged: Vec<String>,
    /// What only tshark has.
    pub tshark: Vec<String>,
    /// Why, if it is known.
    pub why: Option<&'static str>,
}

/// Messages by client.
type Messages = BTreeMap<String, Vec<String>>;

/// Requests and final answers.
#[derive(Clone, Debug, Default)]
struct Both {
    requests: Messages,
    statuses: Messages,
}

/// Compares logs with what tshark finds, where it is known of which requests and of which statuses
/// it finds something else; nothing when it is not installed.
///
/// # Errors
/// When tshark fails, or the folder cannot be written.
pub(super) fn compare(
    all: &Conversations,
    logs: &Logs,
    [requests, statuses]: [Known; 2],
    folder: &Path,
) -> Result<Option<Found>> {
    let Ok(said) = Command::new("tshark").arg("--version").output() else { return Ok(None) };
    let capture = folder.join("replayed.pcap");
    write(all, &capture)?;
    let (ours, theirs) = (logged(logs), found(&capture)?);
    Ok(Some(Found {
        version: version(&String::from_utf8_lossy(&said.stdout)),
        requests: agreement(&ours.requests, &theirs.requests, requests),
        statuses: agreement(&ours.statuses, &theirs.statuses, statuses),
    }))
}

/// The version in what tshark says of itself: `TShark (Wireshark) 4.0.17 (Git …).`
fn version(said: &str) -> String {
    let begins = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    said.split_whitespace().find(begins).unwrap_or("of no version").to_owned()
}

fn agreement(ours: &Messages, theirs: &Messages, known: Known) -> Said {
    let clients: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let mut said = Said::default();
    for client in clients {
        match (ours.get(client), theirs.get(client)) {
            (Some(ours), Some(theirs)) if ours == theirs => said.same += ours.len(),
            (ours, theirs) => {
                let of = |said: Option<&Vec<String>>| said.cloned().unwrap_or_default();
                let (ours, theirs) = (of(ours), of(theirs));
                let (logged, tshark) = (without(&ours, &theirs), without(&theirs, &ours));
                let why = known.why(client, logged.len() as u64, tshark.len() as u64);
                said.otherwise.push(Otherwise { client: client.clone(), logged, tshark, why });
            }
        }
    }
    said.absent = known.absent(said.otherwise.iter().map(|otherwise| otherwise.client.as_str()));
    said
}

/// What `some` has and `others` has not, however often.
fn without(some: &[String], others: &[String]) -> Vec<String> {
    let mut others = others.to_vec();
    let is_other = |said: &&String| match others.iter().position(|other| other == *said) {
        Some(place) => {
            others.swap_remove(place);
            false
        }
        None => true,
    };
    some.iter().filter(is_other).cloned().collect()
}

/// The packets as a capture; when each came does not matter.
fn write(all: &Conversations, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(file, header)?;
    for (at, packet) in (0..).zip(&all.packets) {
        let length = u32::try_from(packet.frame.len())?;
        let at = Duration::from_micros(100 * at);
        writer.write_packet(&PcapPacket::new(at, length, &packet.frame))?;
    }
    Ok(())
}

fn found(capture: &Path) -> Result<Both> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture).args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    for port in PORTS {
        command.args(["-d", &format!("tcp.port=={port},http")]);
    }
    command.args(["-Y", "http.request or http.response", "-T", "fields"]);
    command.args(["-E", &format!("aggregator={BETWEEN}")]);
    for field in [
        "ip.src",
        "ip.dst",
        "http.request.method",
        "http.host",
        "http.request.uri",
        "http.response.code",
    ] {
        command.args(["-e", field]);
    }
    let output = command.output().context("starting tshark")?;
    ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let mut both = Both::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [from, to, methods, hosts, targets, codes] = fields[..] else { continue };
        let parts = |field: &str| -> Vec<String> {
            let parts = field.split(BETWEEN).filter(|part| !part.is_empty());
            parts.map(|part| part.replace("\\\\", "\\")).collect()
        };
        let mut hosts = parts(hosts).into_iter();
        for (method, target) in parts(methods).into_iter().zip(parts(targets)) {
            let host = hosts.next().unwrap_or_default();
            let line = format!("{method} {host} {target}");
            both.requests.entry(from.to_owned()).or_default().push(line);
        }
        for code in parts(codes).into_iter().filter(|code| !code.starts_with('1')) {
            both.statuses.entry(to.to_owned()).or_default().push(code);
        }
    }
    Ok(both)
}

fn logged(logs: &Logs) -> Both {
    let mut https: Vec<_> = logs.https.iter().collect();
    https.sort_by_key(|http| http.value("trans_depth").parse::<u64>().unwrap_or(0));
    let mut both = Both::default();
    for http in https {
        let client = || http.value("id.orig_h").to_owned();
        if http.value("method") != "-" {
            let parts = ["method", "host", "uri"].map(|field| text(http.value(field)));
            both.requests.entry(client()).or_default().push(parts.join(" "));
        }
        let status = http.value("status_code");
        if status != "-" && !status.starts_with('1') {
            both.statuses.entry(client()).or_default().push(status.to_owned());
        }
    }
    both
}

/// What a value of a log stands for.
fn text(value: &str) -> String {
    if value == "-" || value == "(empty)" {
        return String::new();
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = value_of_escape(rest);
        bytes.push(escaped.map_or(*first, |(byte, _)| byte));
        rest = escaped.map_or(behind, |(_, length)| &rest[length..]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte that an escape stands for, and the length of the escape.
fn value_of_escape(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'\\', b'\\', ..] => Some((b'\\', 2)),
        [b'\\', b'x', high, low, ..] => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            Some(((digit(high)? * 16 + digit(low)?) as u8, 4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{full_clone, generated, known};
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(text("a\\\\b\\x2d\\x09\\xz"), "a\\b-\t\\xz");
        assert_eq!(["-", "(empty)", "\\x2d"].map(text), ["", "", "-"]);
    }

    #[test]
    fn a_message_more_less_or_other_is_noticed() {
        let all = Conversations::new(&generated::frames(9, 1)).unwrap();
        let logs = Logs::of(&full_clone::single(&all.packets)).unwrap();
        let Both { requests, statuses } = logged(&logs);
        for ours in [requests, statuses] {
            assert_eq!(agreement(&ours, &ours, Known::NOTHING).unexplained(), 0);
            let client = ours.keys().next().unwrap();
            let spoil: [fn(&mut Vec<String>); 3] = [
                |said| drop(said.pop()),
                |said| said.push("GET".to_owned()),
                |said| said[0].push('x'),
            ];
            for spoil in spoil {
                let mut theirs = ours.clone();
                spoil(theirs.get_mut(client).unwrap());
                let said = agreement(&ours, &theirs, Known::NOTHING);
                let otherwise = &said.otherwise;
                assert_eq!((otherwise.len(), said.unexplained()), (1, 1));
                assert_eq!(&otherwise[0].client, client);
                assert!(otherwise[0].logged.len() + otherwise[0].tshark.len() > 0);
            }
        }
    }

    #[test]
    fn the_version_is_what_looks_like_one() {
        let said = "TShark (Wireshark) 4.0.17 (Git v4.0.17 packaged as 4.0.17-0+deb12u3).\n";
        assert_eq!(version(said), "4.0.17");
        assert_eq!(version(""), "of no version");
    }

    #[test]
    fn another_version_is_held_to_the_same_and_its_fault_says_what_to_do() {
        let of = |version: &str| {
            let requests = Said { absent: vec![String::new()], ..Said::default() };
            Found { version: version.to_owned(), requests, ..Found::default() }
        };
        for (version, is_known) in
            [("4.0.17", true), ("4.0.6", true), ("4.2.2", false), ("4.0", false)]
                .into_iter()
                .chain(["4.01.1", "14.0.1", ""].map(|version| (version, false)))
        {
            let fault = of(version).fault().unwrap();
            assert_eq!(fault.contains("--without-tshark"), !is_known, "{fault}");
            assert_eq!(Found { requests: Said::default(), ..of(version) }.fault(), None);
        }
    }

    /// How the logs of conversations agree with an installed tshark of a version that is known.
    fn compared(name: &str, all: &Conversations, known: [Known; 2]) -> Option<Found> {
        let logs = Logs::of(&full_clone::single(&all.packets)).unwrap();
        let folder = Folder::new().unwrap();
        let found = compare(all, &logs, known, folder.path()).unwrap();
        match &found {
            Some(found) if found.is_known() => {
                println!("data test ran: {name} by tshark: {found:?}");
            }
            _ => println!("data test skipped: {name} by tshark: there is none of {KNOWN_OF}"),
        }
        found.filter(Found::is_known)
    }

    #[test]
    fn generated_requests_are_those_that_tshark_finds() {
        let all = Conversations::new(&generated::frames(60, 2)).unwrap();
        let Some(found) = compared("experiment", &all, [Known::NOTHING; 2]) else { return };
        assert_eq!(found.unexplained(), 0, "{found:?}");
        assert!(found.requests.same >= 60 && found.statuses.same >= 60, "{found:?}");
    }

    #[test]
    fn what_tshark_finds_otherwise_in_the_capture_is_known() {
        let capture = crate::trace::data(super::super::CAPTURE);
        if !capture.exists() {
            println!("data test skipped: capture by tshark: ../shared/data/traces is absent");
            return;
        }
        let all = Conversations::read(&capture).unwrap();
        let known = [known::REQUESTS, known::STATUSES];
        let Some(found) = compared("capture", &all, known) else { return };
        assert_eq!(found.unexplained(), 0, "known of tshark 4.0; this is {found:#?}");
        assert!(found.requests.same > 600 && found.statuses.same > 530, "{found:?}");
    }
}
