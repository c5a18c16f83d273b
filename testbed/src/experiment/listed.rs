//! The single instance's logs against what is known of the conversations from elsewhere: the list
//! that comes with the capture, or a count of the frames.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::conversations::{Conversations, End, segment};
use super::known::Known;
use super::logs::Logs;

/// Ethernet header, which the list counts and the logs do not.
const ETHERNET: u64 = 14;
/// Differences told in full.
const EXAMPLES: usize = 5;

/// What is known of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    packets: u64,
    /// Bytes of frames.
    bytes: u64,
    /// Packets that look like a request.
    requests: u64,
}

/// By client.
#[derive(Clone, Debug)]
pub(super) struct List {
    rows: BTreeMap<String, Row>,
    /// Where there are more or fewer requests than packets that look like one.
    known: Known,
}

/// How the logs agree with a list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agreement {
    /// Conversations in the list.
    pub flows: usize,
    /// Of these, those with one connection in conn.log that has all packets and bytes.
    pub exact: usize,
    /// Connections that are in no row.
    pub unlisted: usize,
    /// Some conversations that are not exact.
    pub examples: Vec<String>,
    /// Requests in the logs.
    pub requests: u64,
    /// Conversations with as many requests as packets of them look like one.
    pub requests_as_listed: usize,
    /// Those with more or fewer.
    pub otherwise: Vec<Counted>,
    /// Conversations of which it is known that they have more or fewer, and that have not.
    pub absent: Vec<String>,
}

/// A conversation that has not as many requests as packets of it look like one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counted {
    /// Its client.
    pub client: String,
    /// Requests in the logs.
    pub logged: u64,
    /// Packets that look like one.
    pub listed: u64,
    /// Why, if it is known.
    pub why: Option<&'static str>,
}

impl Agreement {
    /// Conversations with more or fewer requests than they should have.
    pub(super) fn unexplained(&self) -> usize {
        let otherwise = self.otherwise.iter().filter(|counted| counted.why.is_none());
        otherwise.count() + self.absent.len()
    }
}

impl List {
    /// Reads the list that comes with the capture: `flow,client,server,packets,bytes,http_requests`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(path: &Path, known: Known) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let rows = text.lines().skip(1).map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
            let row = || Some(Row { packets: number(3)?, bytes: number(4)?, requests: number(5)? });
            let row = row().with_context(|| format!("not a row of a list: {line}"))?;
            Ok((fields[1].to_owned(), row))
        });
        Ok(Self { rows: rows.collect::<Result<_>>()?, known })
    }

    /// Counts frames, before they were cut up.
    pub(super) fn of(all: &Conversations) -> Self {
        let mut rows = vec![Row { packets: 0, bytes: 0, requests: 0 }; all.clients.len()];
        for packet in &all.packets {
            rows[packet.flow].packets += 1;
            rows[packet.flow].bytes += packet.frame.len() as u64;
            let asks = packet.from == End::Client && looks_like_a_request(&packet.frame);
            rows[packet.flow].requests += u64::from(asks);
        }
        for (row, split) in rows.iter_mut().zip(&all.split) {
            row.packets -= split.packets;
            row.bytes -= split.bytes;
        }
        let rows = all.clients.iter().map(ToString::to_string).zip(rows).collect();
        Self { rows, known: Known::NOTHING }
    }

    /// Compares logs with it.
    pub(super) fn agreement(&self, all: &Conversations, logs: &Logs) -> Agreement {
        let clients = all.clients.iter().map(ToString::to_string);
        let split: BTreeMap<_, _> = clients.zip(&all.split).collect();
        let mut found: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for conn in &logs.conns {
            let sum = |fields: [&str; 2]| -> u64 {
                fields.iter().map(|field| conn.value(field).parse::<u64>().unwrap_or(0)).sum()
            };
            let packets = sum(["orig_pkts", "resp_pkts"]);
            let bytes = sum(["orig_ip_bytes", "resp_ip_bytes"]) + ETHERNET * packets;
            found.entry(conn.value("id.orig_h")).or_default().push((packets, bytes));
        }
        let mut agreement = Agreement {
            flows: self.rows.len(),
            unlisted: found.keys().filter(|client| !self.rows.contains_key(**client)).count(),
            ..Agreement::default()
        };
        for (client, row) in &self.rows {
            let added = split.get(client).map(|added| **added).unwrap_or_default();
            let expected = (row.packets + added.packets, row.bytes + added.bytes);
            let found = found.get(client.as_str()).map_or(&[][..], Vec::as_slice);
            if found == [expected] {
                agreement.exact += 1;
            } else if agreement.examples.len() < EXAMPLES {
                agreement.examples.push(format!("{client}: {expected:?} is logged as {found:?}"));
            }
        }
        self.add_requests(logs, &mut agreement);
        agreement
    }

    fn add_requests(&self, logs: &Logs, agreement: &mut Agreement) {
        let mut requests: BTreeMap<&str, u64> = BTreeMap::new();
        for http in logs.https.iter().filter(|http| http.value("method") != "-") {
            *requests.entry(http.value("id.orig_h")).or_default() += 1;
        }
        agreement.requests = requests.values().sum();
        for (client, row) in &self.rows {
            let listed = row.requests;
            let logged = requests.get(client.as_str()).copied().unwrap_or(0);
            if logged == listed {
                agreement.requests_as_listed += 1;
                continue;
            }
            let (more, fewer) = (logged.saturating_sub(listed), listed.saturating_sub(logged));
            let why = self.known.why(client, more, fewer);
            agreement.otherwise.push(Counted { client: client.clone(), logged, listed, why });
        }
        let otherwise = agreement.otherwise.iter().map(|counted| counted.client.as_str());
        agreement.absent = self.known.absent(otherwise);
    }
}

/// Whether the payload of a segment begins as the requests do that are generated.
fn looks_like_a_request(frame: &[u8]) -> bool {
    let meta = segment(frame);
    let tcp = meta.as_ref().and_then(|meta| meta.l4_bytes(frame)).unwrap_or_default();
    let header = tcp.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    let payload = tcp.get(header..).unwrap_or_default();
    [&b"GET "[..], b"POST "].iter().any(|method| payload.starts_with(method))
}

#[cfg(test)]
mod tests {
    use super::super::{full_clone, generated, known};
    use super::*;
    use crate::trace;

    fn all(frames: &[Vec<u8>]) -> (Conversations, Logs) {
        let all = Conversations::new(frames).unwrap();
        let logs = Logs::of(&full_clone::single(&all.packets)).unwrap();
        (all, logs)
    }

    #[test]
    fn a_lost_packet_a_lost_connection_and_one_too_many_are_noticed() {
        let frames = generated::frames(9, 1);
        let (whole, logs) = all(&frames);
        let list = List::of(&whole);
        let exact = |logs: &Logs| {
            let agreement = list.agreement(&whole, logs);
            (agreement.exact, agreement.unlisted)
        };
        assert_eq!(exact(&logs), (9, 0));
        let (_, one_less) = all(&frames[..frames.len() - 1]);
        assert_eq!(exact(&one_less), (8, 0));
        let mut fewer = logs.clone();
        fewer.conns.pop();
        assert_eq!(exact(&fewer), (8, 0));
        let mut more = logs.clone();
        let mut strange = more.conns[0].clone();
        strange.0.insert("id.orig_h".to_owned(), "10.9.9.9".to_owned());
        more.conns.extend([strange, logs.conns[0].clone()]);
        assert_eq!(exact(&more), (8, 1));
    }

    #[test]
    fn a_request_more_or_less_is_noticed_and_so_is_a_difference_that_is_gone() {
        let (whole, logs) = all(&generated::frames(9, 1));
        let mut list = List::of(&whole);
        assert_eq!(list.agreement(&whole, &logs).unexplained(), 0);
        assert_eq!(list.agreement(&whole, &logs).requests_as_listed, 9);
        let mut fewer = logs.clone();
        fewer.https.pop();
        let found = list.agreement(&whole, &fewer);
        assert_eq!((found.unexplained(), found.requests_as_listed), (1, 8), "{found:?}");
        let mut more = logs.clone();
        more.https.push(more.https[0].clone());
        assert_eq!(list.agreement(&whole, &more).unexplained(), 1);
        list.known = Known(&[("10.0.0.1", 1, 0, "it should have one more")]);
        let found = list.agreement(&whole, &logs);
        assert_eq!((found.unexplained(), found.absent), (1, vec!["10.0.0.1".to_owned()]));
    }

    #[test]
    fn the_capture_agrees_with_its_list_though_long_frames_are_cut_up() {
        let (capture, list) = (trace::data(super::super::CAPTURE), trace::data(super::super::LIST));
        if !capture.exists() {
            println!("data test skipped: experiment: ../shared/data/traces is absent");
            return;
        }
        let all = Conversations::read(&capture).unwrap();
        let logs = Logs::of(&full_clone::single(&all.packets)).unwrap();
        let agreement = List::read(&list, known::LISTED).unwrap().agreement(&all, &logs);
        let split: u64 = all.split.iter().map(|split| split.packets).sum();
        println!("data test ran: experiment: {agreement:?}, {split} packets more by cutting up");
        assert_eq!((agreement.flows, agreement.exact, agreement.unlisted), (489, 489, 0));
        assert_eq!((agreement.unexplained(), agreement.requests_as_listed), (0, 455));
        assert!(split > 0 && List::of(&all).agreement(&all, &logs).exact == 489);
    }
}
