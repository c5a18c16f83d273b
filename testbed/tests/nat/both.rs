//! Both NATs, told the same: what each makes of the same packets.

use std::collections::{BTreeMap, HashMap};

use weir_dataplane::nf::nat::Rules;
use weir_state_transfer::{FlowKey, protocol};

use crate::frames;
use crate::kernel::Kernel;
use crate::ours::Ours;

/// The kernel's NAT and ours, told the same.
pub(crate) struct Both {
    pub(crate) kernel: Kernel,
    pub(crate) ours: Ours,
    /// Flows by their first name, with the second that they have there and here.
    pub(crate) names: HashMap<FlowKey, [FlowKey; 2]>,
    pub(crate) tally: BTreeMap<String, usize>,
    pub(crate) differences: Vec<String>,
}

impl Both {
    pub(crate) fn new(pick_up: bool, nft: &[&str], rules: Rules) -> Self {
        Self {
            kernel: Kernel::new(pick_up, nft).unwrap(),
            ours: Ours::new(pick_up, rules),
            names: HashMap::new(),
            tally: BTreeMap::new(),
            differences: Vec::new(),
        }
    }

    /// Lets both see a packet as its sender knows its flow, and errors about it as it arrives.
    pub(crate) fn see(&mut self, frame: &[u8]) {
        let flow = frames::flow(frame);
        // An answer is sent to the name that each NAT has given to the flow.
        let names = self.names.get(&flow.reversed()).map(|names| names.map(|name| name.reversed()));
        let is_answer = names.is_some();
        let sent = match names {
            Some(names) => names.map(|name| frames::renamed(frame, &name)),
            None => [frame.to_vec(), frame.to_vec()],
        };
        let Some(arrived) = self.pass(&sent, &flow) else { return };
        if is_answer {
            // Both have translated it back.
            self.expect(&flow, "answer", &arrived, [frame, frame]);
        } else {
            let names = [0, 1].map(|n| frames::flow(&arrived[n]));
            self.compare(&flow, &names);
            let renamed = names.map(|name| frames::renamed(frame, &name));
            self.expect(&flow, "packet", &arrived, [&renamed[0], &renamed[1]]);
            let had = self.names.insert(flow, names);
            if let Some([_, had]) = had.filter(|[_, had]| *had != names[1]) {
                self.differences.push(format!("{flow}: was {had} here, and is {}", names[1]));
            }
        }
        let is_error = frames::meta(frame).is_some_and(|meta| meta.protocol != flow.protocol());
        if !is_error {
            self.see_errors(&flow, &sent, &arrived, is_answer);
        }
    }

    /// Both give a flow the same name but for the port, or identifier, that each chooses, and both
    /// keep what it has where neither translates.
    fn compare(&mut self, flow: &FlowKey, names: &[FlowKey; 2]) {
        let fixed = |name: &FlowKey| {
            let port = if protocol::is_icmp(flow.protocol()) { 0 } else { name.dst_port() };
            (name.src(), name.dst(), port, name == flow)
        };
        let [theirs, ours] = names;
        if fixed(theirs) != fixed(ours) {
            self.differences.push(format!("{flow}: kernel {theirs}, here {ours}"));
        }
    }

    /// Errors about a packet from both sides are about it as it was sent.
    fn see_errors(
        &mut self,
        flow: &FlowKey,
        sent: &[Vec<u8>; 2],
        arrived: &[Vec<u8>; 2],
        is_answer: bool,
    ) {
        let errors = [0, 1].map(|n| frames::error_about(&arrived[n], is_answer));
        let names = [0, 1].map(|n| frames::flow(&sent[n]).reversed());
        let expected = [0, 1].map(|n| frames::renamed(&errors[n], &names[n]));
        if let Some(arrived) = self.pass(&errors, flow) {
            self.expect(flow, "error", &arrived, [&expected[0], &expected[1]]);
        }
    }

    /// What each makes of its frame, if both let it pass.
    fn pass(&mut self, sent: &[Vec<u8>; 2], flow: &FlowKey) -> Option<[Vec<u8>; 2]> {
        match (self.kernel.pass(&sent[0]), self.ours.pass(&sent[1])) {
            (Some(theirs), Ok(ours)) => Some([theirs, ours]),
            (None, Err(_)) => {
                *self.tally.entry("dropped".to_owned()).or_default() += 1;
                None
            }
            (theirs, ours) => {
                let theirs = theirs.map(|frame| frames::flow(&frame));
                let ours = ours.map(|frame| frames::flow(&frame));
                self.differences.push(format!("{flow}: kernel {theirs:?}, here {ours:?}"));
                None
            }
        }
    }

    pub(crate) fn expect(
        &mut self,
        flow: &FlowKey,
        what: &str,
        arrived: &[Vec<u8>; 2],
        expected: [&[u8]; 2],
    ) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
        for (who, (arrived, expected)) in
            ["kernel", "here"].iter().zip(arrived.iter().zip(expected))
        {
            if arrived != expected {
                self.differences
                    .push(format!("{flow}, {what}, {who}:\n{arrived:02x?}\n{expected:02x?}"));
            }
        }
    }
}
