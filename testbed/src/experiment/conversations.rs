//! The packets of the experiment: HTTP conversations between clients and servers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcap_file::DataLink;
use weir_dataplane::packet::{Flags, Meta, Parsed, parse};
use weir_state_transfer::{FlowKey, ServiceId};

use super::segments;
use crate::topology::HOSTS;
use crate::trace;
use crate::udp::{HOST, ROUTER, mac};

/// The SAP at which all hosts of an end are.
pub(super) const SAPS: [usize; 2] = [0, 1];
const _: () = assert!(SAPS[1] < HOSTS);

/// An end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Who asks.
    Client = 0,
    /// Who answers.
    Server = 1,
}

/// A packet of a conversation.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// The number of its conversation.
    pub(super) flow: usize,
    /// Who sends it.
    pub(super) from: End,
    /// Its flow in this direction.
    pub(super) key: FlowKey,
    /// The frame, addressed to the router.
    pub(super) frame: Vec<u8>,
}

/// The packets of some conversations, in the order in which an observer has seen them.
#[derive(Clone, Debug)]
pub(super) struct Conversations {
    pub(super) packets: Vec<Packet>,
    /// Clients by the number of the conversation.
    pub(super) clients: Vec<IpAddr>,
    /// By the number of the conversation: packets and bytes that there are more of because a frame
    /// was longer than a port takes and has become several.
    pub(super) split: Vec<Added>,
}

/// What cutting a frame up has added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) packets: u64,
    /// Bytes of frames, from the Ethernet header on.
    pub(super) bytes: u64,
}

impl End {
    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// Clients are in 10.0.0.0/8, servers elsewhere.
    fn of(source: IpAddr) -> Self {
        match source {
            IpAddr::V4(address) if address.octets()[0] == 10 => Self::Client,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Server,
        }
    }
}

impl Conversations {
    /// Those of a capture file.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else than TCP segments between clients in
    /// 10.0.0.0/8 and servers elsewhere.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let (frames, link) = trace::read(path)?;
        ensure!(link == DataLink::ETHERNET, "{} is a capture of {link:?}", path.display());
        Self::new(&frames).with_context(|| format!("replaying {}", path.display()))
    }

    /// Those of frames of Ethernet.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn new(frames: &[Vec<u8>]) -> Result<Self> {
        let mut all = Self { packets: Vec::new(), clients: Vec::new(), split: Vec::new() };
        let mut numbers = HashMap::new();
        for (at, frame) in frames.iter().enumerate() {
            let parts =
                segments::of(frame).with_context(|| format!("frame {at} is no TCP segment"))?;
            let first = all.packets.len();
            for part in &parts {
                let meta =
                    segment(part).with_context(|| format!("frame {at} is no TCP segment"))?;
                let (key, from) = (meta.key, End::of(meta.key.src()));
                ensure!(from != End::of(key.dst()), "{key:?} is not between client and server");
                let next = numbers.len();
                let flow = *numbers.entry(key.both_ways()).or_insert(next);
                if flow == all.clients.len() {
                    let client = if from == End::Client { key.src() } else { key.dst() };
                    all.clients.push(client);
                    all.split.push(Added::default());
                }
                let sap = SAPS[from as usize];
                let frame = trace::readdress(part, mac(sap, ROUTER), mac(sap, HOST));
                all.packets.push(Packet { flow, from, key, frame });
            }
            let bytes: usize = parts.iter().map(Vec::len).sum();
            let split = &mut all.split[all.packets[first].flow];
            split.packets += parts.len() as u64 - 1;
            split.bytes += (bytes - frame.len()) as u64;
        }
        Ok(all)
    }

    /// The packets, by their places, in which every conversation has begun and none has ended.
    pub(super) fn all_open(&self) -> std::ops::Range<usize> {
        let mut ends = vec![(usize::MAX, 0); self.clients.len()];
        for (at, packet) in self.packets.iter().enumerate() {
            let (first, last) = &mut ends[packet.flow];
            *first = (*first).min(at);
            *last = at;
        }
        let begun = ends.iter().map(|(first, _)| first + 1).max().unwrap_or(0);
        begun..ends.iter().map(|(_, last)| *last).min().unwrap_or(0).max(begun)
    }
}

/// What is in a frame, if it is a whole TCP segment.
pub(super) fn segment(frame: &[u8]) -> Option<Meta> {
    let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { return None };
    let not_whole = meta.flags.has(Flags::FRAGMENT) || meta.flags.has(Flags::L4_TRUNCATED);
    let tcp = meta.key.protocol() == weir_state_transfer::protocol::TCP;
    (tcp && !not_whole).then_some(meta)
}

#[cfg(test)]
mod tests {
    use super::super::generated;
    use super::*;

    #[test]
    fn conversations_are_numbered_and_addressed_to_the_router() {
        let all = Conversations::new(&generated::frames(7, 1)).unwrap();
        assert_eq!((all.clients.len(), all.split.clone()), (7, vec![Added::default(); 7]));
        for packet in &all.packets {
            let client =
                if packet.from == End::Client { packet.key.src() } else { packet.key.dst() };
            assert_eq!(all.clients[packet.flow], client);
            let sap = SAPS[packet.from as usize];
            assert_eq!(packet.frame[..12], [mac(sap, ROUTER), mac(sap, HOST)].concat());
        }
    }

    #[test]
    fn in_between_all_are_open() {
        let all = Conversations::new(&generated::frames(20, 2)).unwrap();
        let open = all.all_open();
        assert!(open.len() > all.packets.len() / 2, "{open:?} of {}", all.packets.len());
        for side in [&all.packets[..open.start], &all.packets[open.end..]] {
            let flows: std::collections::BTreeSet<_> = side.iter().map(|p| p.flow).collect();
            assert_eq!(flows.len(), 20);
        }
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        assert!(Conversations::new(&[vec![0; 60]]).is_err());
        let frame = generated::frames(1, 1).remove(0);
        let mut among_clients = frame.clone();
        // 198.18.0.1 -> 10.18.0.1, and the checksum with it.
        among_clients[30] = 10;
        let sum = u16::from_be_bytes([frame[24], frame[25]]);
        let sum = weir_dataplane::packet::checksum::update(sum, 198 << 8 | 18, 10 << 8 | 18);
        among_clients[24..26].copy_from_slice(&sum.to_be_bytes());
        let error = Conversations::new(&[among_clients]).unwrap_err();
        assert!(format!("{error:#}").contains("between client and server"), "{error:#}");
    }
}
