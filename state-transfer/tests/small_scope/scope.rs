//! What is explored: who steers what, who moves what, and what is broken on purpose.

use weir_state_transfer::filter::{Endpoint, PortRange};
use weir_state_transfer::mark::{Guarantee, Request};
use weir_state_transfer::{Bucket, BucketSet, Filter, FlowKey, InstanceId, Selection, ServiceId};

/// Most flows of a model.
pub(crate) const FLOWS: usize = 6;

/// An instance by flow.
pub(crate) type Owners = [u8; FLOWS];

/// A small node with its traffic and its moves.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The flows of the packets that each steerer receives, in order; steerers are the first
    /// workers.
    pub(crate) script: Vec<Vec<u8>>,
    pub(crate) workers: usize,
    /// The worker of each instance.
    pub(crate) homes: Vec<usize>,
    /// The owner of each flow at the start.
    pub(crate) owners: Owners,
    /// Flows that have state at the start.
    pub(crate) existing: Vec<u8>,
    pub(crate) by: Grouping,
    /// What the moves promise.
    pub(crate) guarantee: Guarantee,
    /// Whether the state of several flows goes along, and finds room at the destination.
    pub(crate) multi_flow: Option<Room>,
    /// Moves in the order in which they may be started.
    pub(crate) moves: Vec<Change>,
    /// Packets that each end of a move may hold.
    pub(crate) hold: usize,
    /// How often a move may be asked to be undone, at any moment.
    pub(crate) undos: u8,
    /// Whether what asks to undo is the time.
    pub(crate) timeout: bool,
    /// Slots of a ring.
    pub(crate) slots: usize,
    /// Workers whose frames leave later; those of others leave at once.
    pub(crate) slow: Vec<usize>,
    /// Whether steps that commute with all others are left out.
    pub(crate) reduce: bool,
    pub(crate) fault: Option<Fault>,
}

/// A move to be started.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) from: u8,
    pub(crate) to: u8,
    /// First and last flow.
    pub(crate) flows: (u8, u8),
}

/// Whether the destination takes in the state of several flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Ample,
    Full,
}

/// What arrives as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Grouping {
    /// A flow.
    Flow,
    /// A bucket with so many flows.
    Bucket(u8),
}

/// One thing that the node does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The destination processes packets at once.
    NoHold,
    /// A steerer's marker goes in front of its last packet.
    MarkerEarly,
    /// There is no marker: who waits for the last packet takes the first for it that looks like it.
    /// Packets of a flow all look the same.
    LastByBytes,
    /// The source takes the first marker for the last.
    ExportEarly,
    /// The source does not wait for its frames to leave.
    DrainEarly,
    /// The destination releases two packets in the wrong order.
    ReleaseSwapped,
    /// The state of a flow is deleted instead of moved.
    ChunkDropped,
    /// A released packet is processed twice.
    Twice,
    /// END overtakes the last chunk.
    EndEarly,
    /// The source, taking back, processes what comes directly at once.
    DirectFirst,
    /// The destination ends the relay before all markers are back.
    RelayEndEarly,
    /// A steerer that is the source's worker sends itself the marker by ring, though it delivers
    /// packets to itself at once.
    OwnMarkerByRing,
    /// A packet that finds the hold full is forgotten.
    FullUncounted,
    /// A packet whose flow's state is on its way is forgotten.
    InTransitUncounted,
    /// The source, promising nothing, processes what it has no state of any more.
    GoneProcessed,
    /// The state of several flows goes behind that of single ones.
    MultiFlowLate,
    /// The state of several flows that finds no room is forgotten.
    RefusedForgotten,
}

impl Scope {
    /// Two steerers, and two workers with the source and the destination of one move of two
    /// flows, the first of which has state.
    pub(crate) fn small(script: &[&[u8]]) -> Self {
        Self {
            script: script.iter().map(|flows| flows.to_vec()).collect(),
            workers: 4,
            homes: vec![2, 3],
            owners: [0; FLOWS],
            existing: vec![0],
            by: Grouping::Flow,
            guarantee: Guarantee::Ordered,
            multi_flow: None,
            moves: vec![Change { from: 0, to: 1, flows: (0, 1) }],
            hold: 16,
            undos: 0,
            timeout: false,
            slots: usize::MAX,
            slow: vec![2],
            reduce: true,
            fault: None,
        }
    }

    /// The same with the instances on these workers.
    pub(crate) fn on(self, source: usize, destination: usize) -> Self {
        let workers = self.script.len().max(source + 1).max(destination + 1);
        Self { workers, homes: vec![source, destination], slow: vec![source], ..self }
    }

    /// Packets in all.
    pub(crate) fn packets(&self) -> usize {
        self.script.iter().map(Vec::len).sum()
    }

    /// The number of the `n`th packet of a steerer; they grow with time.
    pub(crate) fn packet(&self, steerer: usize, n: usize) -> u8 {
        (self.script[..steerer].iter().map(Vec::len).sum::<usize>() + n) as u8
    }

    /// The packets of a flow that a steerer receives after one.
    pub(crate) fn later(&self, steerer: usize, flow: u8, packet: u8) -> u64 {
        let of = |n: &usize| self.script[steerer][*n] == flow;
        let numbers = (0..self.script[steerer].len()).filter(of).map(|n| self.packet(steerer, n));
        numbers.filter(|number| *number > packet).fold(0, |mask, number| mask | 1 << number)
    }

    /// The packets of a flow.
    pub(crate) fn of_flow(&self, flow: u8) -> u64 {
        let mut mask = 0;
        for (steerer, flows) in self.script.iter().enumerate() {
            for (n, of) in flows.iter().enumerate() {
                mask |= u64::from(*of == flow) << self.packet(steerer, n);
            }
        }
        mask
    }

    /// A move as the coordinator is asked for it.
    pub(crate) fn request(&self, change: &Change) -> Request {
        let (first, last) = change.flows;
        let selection = match self.by {
            Grouping::Flow => {
                let ports = PortRange::new(u16::from(first)..=u16::from(last));
                let dst = Endpoint { ports, ..Endpoint::default() };
                Selection::Filter(Filter { dst, symmetric: false, ..Filter::default() })
            }
            Grouping::Bucket(_) => {
                let flows = (first..=last).filter_map(|flow| self.bucket(flow));
                Selection::Buckets(flows.collect::<BucketSet>())
            }
        };
        let (from, to) = (InstanceId(change.from), InstanceId(change.to));
        Request { guarantee: self.guarantee, ..Request::new(from, to, selection) }
    }

    /// Whether there is one move, and all flows are under it.
    pub(crate) fn all_move(&self) -> bool {
        let [Change { from, flows: (first, last), .. }] = self.moves.as_slice() else {
            return false;
        };
        let mut flows = self.script.iter().flatten().chain(&self.existing);
        self.owners == [*from; FLOWS] && flows.all(|flow| (first..=last).contains(&flow))
    }

    /// Whether a selection has a flow.
    pub(crate) fn selects(&self, selection: &Selection, flow: u8) -> bool {
        let address = "192.0.2.1".parse().expect("an address");
        let key = FlowKey::new(address, address, (1, u16::from(flow)), 17, ServiceId(0))
            .expect("both ends are IPv4");
        let bucket = self.bucket(flow).unwrap_or(Bucket::of(0));
        selection.matches(&key, bucket)
    }

    fn bucket(&self, flow: u8) -> Option<Bucket> {
        match self.by {
            Grouping::Flow => None,
            Grouping::Bucket(flows) => Some(Bucket::of(u32::from(flow / flows))),
        }
    }
}
