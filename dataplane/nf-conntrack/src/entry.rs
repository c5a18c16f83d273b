//! An entry of the connection tracking, as ctnetlink codes it.

use crate::error::Error;
use crate::netlink::{Attributes, NFGENMSG, Writer};
use crate::protocol_state::ProtocolState;
use crate::translation::{Translation, untranslated};
use crate::tuple::Tuple;

/// Attributes: `enum ctattr_type`, and those of what they hold.
mod cta {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const PROTOCOL: u16 = 4;
    pub(super) const HELPER: u16 = 5;
    pub(super) const SOURCE: u16 = 6;
    pub(super) const TIMEOUT: u16 = 7;
    pub(super) const MARK: u16 = 8;
    pub(super) const COUNTERS: [u16; 2] = [9, 10];
    pub(super) const ID: u16 = 12;
    pub(super) const DESTINATION: u16 = 13;
    pub(super) const MASTER: u16 = 14;
    pub(super) const SEQUENCE: [u16; 2] = [15, 16];
    pub(super) const ZONE: u16 = 18;
    pub(super) const TIMESTAMP: u16 = 20;
    pub(super) const LABELS: u16 = 22;
    pub(super) const PROXY: u16 = 24;
    /// Within a tuple.
    pub(super) const TUPLE_ZONE: u16 = 3;
    /// Within `PROTOCOL`.
    pub(super) const DCCP: u16 = 2;
}

/// Bits of the status: `enum ip_conntrack_status`.
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;
const CONFIRMED: u32 = 1 << 3;
const FIXED_TIMEOUT: u32 = 1 << 10;
const OFFLOADED: u32 = 1 << 14 | 1 << 15;
/// What of the status is a fact about the flow. The rest follows from how the entry is made.
pub(crate) const STATUS_OWN: u32 = SEEN_REPLY | ASSURED | FIXED_TIMEOUT;
/// Bytes of all labels of an entry.
pub(crate) const LABELS: usize = 16;
/// Bytes of the name of what can not be moved, at most.
pub(crate) const OBSTACLE_MAX: usize = 64;

/// An entry. What is about a direction is in the order original, reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) original: Tuple,
    pub(crate) reply: Tuple,
    /// The zone, within which no two flows have a tuple in common.
    pub(crate) zone: u16,
    /// Bits of [`STATUS_OWN`].
    pub(crate) status: u32,
    pub(crate) mark: u32,
    /// Seconds that it still lives; none when something else decides on its end.
    pub(crate) timeout: Option<u32>,
    pub(crate) protocol_state: ProtocolState,
    /// Nothing while the kernel does not count.
    pub(crate) counters: [Counters; 2],
    /// How numbers of TCP are adjusted, where somebody has changed lengths.
    pub(crate) sequence: Option<[Adjustment; 2]>,
    /// What a proxy for handshakes has promised, where one has: initial number, and both times.
    pub(crate) proxy: Option<[u32; 3]>,
    pub(crate) labels: Option<[u8; LABELS]>,
    /// What keeps it from being put elsewhere, by name.
    pub(crate) obstacle: Option<String>,
    /// The number by which the kernel tells it from later ones with its tuples.
    pub(crate) id: u32,
    /// Which connection it is of.
    pub(crate) connection: Connection,
}

/// What tells a connection from others that have its tuples before and after it, wherever its entry
/// goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The kernel that it began in, and the network namespace there.
    pub(crate) kernel: u64,
    /// The number of its entry there.
    pub(crate) number: u32,
    /// When it began, in nanoseconds since 1970; 0 where the kernel does not note it.
    pub(crate) began: u64,
}

impl Connection {
    /// Whether it began before another; no where nobody knows.
    pub(crate) fn is_before(self, other: Self) -> bool {
        (1..other.began).contains(&self.began)
    }
}

/// Packets and bytes of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// How sequence numbers of a direction are adjusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adjustment {
    /// The number from which on the second offset counts.
    pub(crate) position: u32,
    pub(crate) before: u32,
    pub(crate) after: u32,
}

impl Counters {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Entry {
    /// Of a message, from the header of netfilter on.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Error> {
        let attributes = message.get(NFGENMSG..).ok_or(Error::Malformed("a message is cut"))?;
        let all = Attributes::parse(attributes)?;
        let original = all.within(cta::ORIGINAL, "an entry without a tuple")?;
        let reply = all.within(cta::REPLY, "an entry without a tuple of replies")?;
        let bits = all.u32(cta::STATUS)?.unwrap_or_default();
        let info = all.nested(cta::PROTOCOL)?;
        let own_zone = original.u16(cta::TUPLE_ZONE)?;
        let is_split = own_zone.is_some() || reply.get(cta::TUPLE_ZONE).is_some();
        let obstacle = if let Some(helper) = all.nested(cta::HELPER)? {
            Some(format!("the helper {}", name(helper.get(1).unwrap_or_default())))
        } else if all.get(cta::MASTER).is_some() {
            Some("it belongs to another connection, whose helper expected it".to_owned())
        } else if bits & OFFLOADED != 0 {
            Some("it is offloaded to a flow table".to_owned())
        } else if is_split {
            Some("a zone for one direction".to_owned())
        } else if info.as_ref().is_some_and(|info| info.get(cta::DCCP).is_some()) {
            Some("the state of DCCP".to_owned())
        } else {
            None
        };
        let labels = all.array::<LABELS>(cta::LABELS)?;
        let timestamp = all.nested(cta::TIMESTAMP)?;
        let began = timestamp.map(|times| times.u64(1)).transpose()?.flatten().unwrap_or_default();
        let entry = Self {
            original: Tuple::parse(&original)?,
            reply: Tuple::parse(&reply)?,
            zone: all.u16(cta::ZONE)?.or(own_zone).unwrap_or_default(),
            status: bits & STATUS_OWN,
            mark: all.u32(cta::MARK)?.unwrap_or_default(),
            timeout: all.u32(cta::TIMEOUT)?,
            protocol_state: ProtocolState::parse(info.as_ref())?,
            counters: both(&all, cta::COUNTERS, |counters| {
                let number = |kind| Ok(counters.u64(kind)?.unwrap_or_default());
                Ok(Counters { packets: number(1)?, bytes: number(2)? })
            })?
            .unwrap_or_default(),
            sequence: both(&all, cta::SEQUENCE, |adjustment| {
                let [position, before, after] = three(adjustment)?;
                Ok(Adjustment { position, before, after })
            })?,
            proxy: all.nested(cta::PROXY)?.as_ref().map(three).transpose()?,
            labels: labels.filter(|labels| labels.iter().any(|byte| *byte != 0)),
            obstacle,
            id: all.u32(cta::ID)?.unwrap_or_default(),
            connection: Connection { began, ..Connection::default() },
        };
        if !entry.original.pairs_with(&entry.reply) {
            return Err(Error::Malformed("tuples that do not belong together"));
        }
        let proxy = entry.proxy.filter(|numbers| *numbers != [0; 3]);
        Ok(Self { proxy, ..entry })
    }

    /// Appends what makes the kernel have it. Counters it keeps by itself.
    pub(crate) fn put(&self, out: &mut Writer) {
        self.original.put(cta::ORIGINAL, out);
        untranslated(&self.original, &self.reply).put(cta::REPLY, out);
        if self.zone != 0 {
            out.u16(cta::ZONE, self.zone);
        }
        let translation = Translation::of(&self.original, &self.reply);
        if let Some(destination) = translation.destination {
            destination.put(cta::DESTINATION, out);
        }
        if let Some(source) = translation.source {
            source.put(cta::SOURCE, out);
        }
        out.u32(cta::STATUS, self.status & STATUS_OWN | CONFIRMED);
        // One without a second would never be seen.
        out.u32(cta::TIMEOUT, self.timeout.unwrap_or_default().max(1));
        out.u32(cta::MARK, self.mark);
        self.protocol_state.put(cta::PROTOCOL, out);
        for (kind, of) in cta::SEQUENCE.into_iter().zip(self.sequence.iter().flatten()) {
            out.nest(kind, |out| put_three([of.position, of.before, of.after], out));
        }
        if let Some(proxy) = self.proxy {
            out.nest(cta::PROXY, |out| put_three(proxy, out));
        }
        if let Some(labels) = self.labels {
            out.bytes(cta::LABELS, &labels);
        }
    }

    /// Appends what names it to the kernel, and no other that comes after it.
    pub(crate) fn put_name(&self, out: &mut Writer) {
        put_tuple(&self.original, self.zone, out);
        out.u32(cta::ID, self.id);
    }

    /// What both directions have counted.
    pub(crate) fn packets(&self) -> u64 {
        self.counters[0].plus(self.counters[1]).packets
    }

    /// Which of two states of one connection is later: its packets. 0 is before all state.
    pub(crate) fn version(&self) -> u64 {
        self.packets().max(1)
    }
}

/// Appends a tuple of either direction, by which the kernel finds an entry.
pub(crate) fn put_tuple(tuple: &Tuple, zone: u16, out: &mut Writer) {
    tuple.put(cta::ORIGINAL, out);
    if zone != 0 {
        out.u16(cta::ZONE, zone);
    }
}

/// What there is of both directions; one that is absent has nothing.
fn both<T: Default>(
    all: &Attributes<'_>,
    kinds: [u16; 2],
    take: impl Fn(&Attributes<'_>) -> Result<T, Error>,
) -> Result<Option<[T; 2]>, Error> {
    let one = |kind| all.nested(kind)?.as_ref().map(&take).transpose();
    Ok(match (one(kinds[0])?, one(kinds[1])?) {
        (None, None) => None,
        (original, reply) => Some([original.unwrap_or_default(), reply.unwrap_or_default()]),
    })
}

fn three(all: &Attributes<'_>) -> Result<[u32; 3], Error> {
    let number = |kind| Ok(all.u32(kind)?.unwrap_or_default());
    Ok([number(1)?, number(2)?, number(3)?])
}

fn put_three(numbers: [u32; 3], out: &mut Writer) {
    (1..).zip(numbers).for_each(|(kind, number)| out.u32(kind, number));
}

/// Text that the kernel has ended with a zero, as far as there is room for it.
fn name(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(&text[..text.len().min(16)]);
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests;
