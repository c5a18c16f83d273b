//! Both firewalls, told the same: what becomes of the same packets, and in what they differ.

use std::collections::BTreeMap;
use std::fmt;

use weir_dataplane::nf::firewall::Limits;
use weir_dataplane::packet::Meta;
use weir_dataplane::packet::checksum::{Sum, pseudo_header};
use weir_state_transfer::protocol;

use super::kernel::{Nftables, Tracking};
use super::ours::Ours;
use super::rules::rules_of;
use super::verdict::Verdict;
use crate::model::{LeftOut, fit_for_both, flow, shown};

/// The kernel and ours, told the same.
pub(crate) struct Both {
    pub(crate) kernel: Nftables,
    pub(crate) ours: Ours,
    pub(crate) tally: Tally,
    flows: BTreeMap<String, Flow>,
}

/// What is known to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The kernel does not answer what has a wrong checksum; here nobody looks at those of what is
    /// forwarded.
    WrongChecksum,
    /// A SYN that begins another connection where one has been closed, and that a rule refuses: the
    /// kernel has forgotten the old one before it asks the rules, and here it stays.
    RefusedReopening,
}

/// What was compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Packets, by what became of them at both.
    pub(crate) verdicts: BTreeMap<&'static str, usize>,
    /// Packets and flows that differ as it is known that they do.
    pub(crate) classes: BTreeMap<Class, usize>,
    pub(crate) left_out: BTreeMap<LeftOut, usize>,
    /// What led to the first difference of each flow that differs otherwise.
    pub(crate) differences: Vec<String>,
}

/// What has become of a flow.
#[derive(Debug, Default)]
struct Flow {
    story: Vec<String>,
    forwarded: bool,
    reopening_refused: bool,
    /// Whether it is compared no more.
    differs: bool,
}

impl Both {
    pub(crate) fn new(
        tracking: Tracking,
        nft: &[String],
        rules: &[String],
        limits: Limits,
    ) -> Self {
        Self {
            kernel: Nftables::new(tracking, nft).unwrap(),
            ours: Ours::new(tracking.pick_up, rules_of(rules), limits),
            tally: Tally::default(),
            flows: BTreeMap::new(),
        }
    }

    /// Packets that both have forwarded.
    pub(crate) fn forwarded(&self) -> usize {
        self.tally.verdicts.get("forwarded").copied().unwrap_or_default()
    }

    /// Lets both judge a packet, unless they have differed about its flow.
    pub(crate) fn judge(&mut self, frame: &[u8]) {
        let (frame, meta) = match fit_for_both(frame) {
            Ok(fit) => fit,
            Err(why) => return *self.tally.left_out.entry(why).or_default() += 1,
        };
        let flow = self.flows.entry(flow(&meta)).or_default();
        if flow.differs {
            return;
        }
        let (theirs, ours) = (self.kernel.judge(&frame), self.ours.judge(&frame));
        flow.story.push(format!("{}: kernel {theirs:?}, here {ours:?}", shown(&frame, &meta)));
        let class = if theirs == ours { None } else { flow.class(&frame, &meta, &theirs, &ours) };
        match class {
            None if theirs == ours => {
                *self.tally.verdicts.entry(ours.name()).or_default() += 1;
            }
            None => {
                flow.differs = true;
                self.tally.differences.push(flow.story.join("\n"));
            }
            Some(class) => {
                flow.differs = class == Class::RefusedReopening;
                *self.tally.classes.entry(class).or_default() += 1;
            }
        }
        flow.note(&frame, &meta, &ours);
    }
}

impl Flow {
    /// How a packet is known to differ, if it is.
    fn class(&self, frame: &[u8], meta: &Meta, theirs: &Verdict, ours: &Verdict) -> Option<Class> {
        let answered = matches!((theirs, ours), (Verdict::Dropped, Verdict::Answered(_)));
        if answered && !has_right_checksum(frame, meta) {
            return Some(Class::WrongChecksum);
        }
        self.reopening_refused.then_some(Class::RefusedReopening)
    }

    fn note(&mut self, frame: &[u8], meta: &Meta, verdict: &Verdict) {
        let flags = meta.l4_bytes(frame).and_then(|tcp| tcp.get(13)).map(|flags| flags & 0x17);
        let is_syn = meta.protocol == protocol::TCP && flags == Some(0x02);
        let forwarded = *verdict == Verdict::Forwarded;
        self.reopening_refused |= self.forwarded && is_syn && !forwarded;
        self.forwarded |= forwarded;
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        let Self { verdicts, classes, left_out, differences } = other;
        verdicts.into_iter().for_each(|(key, n)| *self.verdicts.entry(key).or_default() += n);
        classes.into_iter().for_each(|(key, n)| *self.classes.entry(key).or_default() += n);
        left_out.into_iter().for_each(|(key, n)| *self.left_out.entry(key).or_default() += n);
        self.differences.extend(differences);
    }

    /// No more flows differ than this, but for what is known to.
    pub(crate) fn assert_same(&self, allowed: usize) {
        for difference in self.differences.iter().take(3) {
            println!("{difference}\n");
        }
        assert!(self.differences.len() <= allowed, "{self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdicts, classes, left_out, differences } = self;
        let differ = differences.len();
        write!(f, "{verdicts:?}, {differ} flows differ, known {classes:?}, left out {left_out:?}")
    }
}

/// Whether the checksum of what is behind the IP header is right, or there is none.
fn has_right_checksum(frame: &[u8], meta: &Meta) -> bool {
    let Some(l4) = meta.l4_bytes(frame) else { return true };
    let l3 = usize::from(meta.l3);
    // The cast holds: a frame has at most 1,514 bytes.
    let length = l4.len() as u16;
    let sum = match (meta.protocol, meta.key.is_v4()) {
        (protocol::UDP, true) if l4.get(6..8) == Some(&[0, 0]) => return true,
        (protocol::ICMP, _) => Sum::default(),
        (number, true) => {
            let (src, dst) = (&frame[l3 + 12..l3 + 16], &frame[l3 + 16..l3 + 20]);
            pseudo_header(src, dst, number, length)
        }
        (number, false) => {
            let (src, dst) = (&frame[l3 + 8..l3 + 24], &frame[l3 + 24..l3 + 40]);
            pseudo_header(src, dst, number, length)
        }
    };
    sum.with(l4).checksum() == 0
}
