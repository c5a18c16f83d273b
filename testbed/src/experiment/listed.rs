//! The single instance's logs against what is known of the conversations from elsewhere: the list
//! that comes with the capture, or a count of the frames.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::conversations::Conversations;
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
    /// Packets that look like a request; not counted when absent.
    requests: Option<u64>,
}

/// By client.
#[derive(Clone, Debug)]
pub(super) struct List(BTreeMap<String, Row>);

/// How the logs agree with a list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agreement {
    /// Conversations in the list.
    pub flows: usize,
    /// Of these, those with one connection in conn.log that has all packets and bytes.
    pub exact: usize,
    /// Connections that are in no row.
    pub unlisted: usize,
    /// Requests in the logs.
    pub requests: u64,
    /// Conversations with as many requests as packets of them look like one. Requests that were
    /// sent again, or several in a packet, make a difference.
    pub requests_as_listed: Option<usize>,
    /// Some conversations that are not exact.
    pub examples: Vec<String>,
}

impl List {
    /// Reads the list that comes with the capture: `flow,client,server,packets,bytes,http_requests`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let rows = text.lines().skip(1).map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
            let row = || {
                let requests = Some(number(5)?);
                Some(Row { packets: number(3)?, bytes: number(4)?, requests })
            };
            let row = row().with_context(|| format!("not a row of a list: {line}"))?;
            Ok((fields[1].to_owned(), row))
        });
        Ok(Self(rows.collect::<Result<_>>()?))
    }

    /// Counts frames, before they were cut up.
    pub(super) fn of(all: &Conversations) -> Self {
        let mut rows = vec![Row { packets: 0, bytes: 0, requests: None }; all.clients.len()];
        for packet in &all.packets {
            rows[packet.flow].packets += 1;
            rows[packet.flow].bytes += packet.frame.len() as u64;
        }
        for (row, split) in rows.iter_mut().zip(&all.split) {
            row.packets -= split.packets;
            row.bytes -= split.bytes;
        }
        Self(all.clients.iter().map(ToString::to_string).zip(rows).collect())
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
        let mut requests: BTreeMap<&str, u64> = BTreeMap::new();
        for http in logs.https.iter().filter(|http| http.value("method") != "-") {
            *requests.entry(http.value("id.orig_h")).or_default() += 1;
        }
        let mut agreement = Agreement {
            flows: self.0.len(),
            unlisted: found.keys().filter(|client| !self.0.contains_key(**client)).count(),
            requests: requests.values().sum(),
            ..Agreement::default()
        };
        for (client, row) in &self.0 {
            let added = split.get(client).map(|added| **added).unwrap_or_default();
            let expected = (row.packets + added.packets, row.bytes + added.bytes);
            let found = found.get(client.as_str()).map_or(&[][..], Vec::as_slice);
            if found == [expected] {
                agreement.exact += 1;
            } else if agreement.examples.len() < EXAMPLES {
                agreement.examples.push(format!("{client}: {expected:?} is logged as {found:?}"));
            }
            if let Some(listed) = row.requests {
                let same = requests.get(client.as_str()).copied().unwrap_or(0) == listed;
                *agreement.requests_as_listed.get_or_insert(0) += usize::from(same);
            }
        }
        agreement
    }
}

#[cfg(test)]
mod tests {
    use super::super::{full_clone, generated};
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
    fn the_capture_agrees_with_its_list_though_long_frames_are_cut_up() {
        let (capture, list) = (trace::data(super::super::CAPTURE), trace::data(super::super::LIST));
        if !capture.exists() {
            println!("data test skipped: experiment: ../shared/data/traces is absent");
            return;
        }
        let all = Conversations::read(&capture).unwrap();
        let logs = Logs::of(&full_clone::single(&all.packets)).unwrap();
        let agreement = List::read(&list).unwrap().agreement(&all, &logs);
        let split: u64 = all.split.iter().map(|split| split.packets).sum();
        println!("data test ran: experiment: {agreement:?}, {split} packets more by cutting up");
        assert_eq!((agreement.flows, agreement.exact, agreement.unlisted), (489, 489, 0));
        assert!(split > 0 && List::of(&all).agreement(&all, &logs).exact == 489);
    }
}
