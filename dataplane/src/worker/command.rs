//! What the node tells a worker, and what a worker tells the node.

use std::sync::Arc;

use weir_frame::Frame;
use weir_nf_api::server::Desk;
use weir_state_transfer::bucket::{Bucket, BucketSet};
use weir_state_transfer::filter::{Filter, Selection};
use weir_state_transfer::mark::{Guarantee, Steerers};
use weir_state_transfer::{FlowKey, InstanceId, MoveId, Nanos, ShareId, StateFilter, WorkerId};

use super::mesh::{Inbox, Outbox};
use super::{Fault, PolicyHold, Probing, ShareCommand, ShareEvent, StampCommand};
use crate::instance::Instance;
use crate::local::Probe;
use crate::moves::MoveEnd;
use crate::neighbour::{NeighbourRecord, Owner};
use crate::nf::{Chain, Record};
use crate::policy::Policies;
use crate::port::{FarQueue, RxQueue, TxQueue};
use crate::steering::Steering;

/// From the node to a worker. Commands of one worker are carried out in order.
#[derive(Debug)]
pub enum Command {
    /// Connects the worker with another, or with itself.
    Connect(WorkerId, Outbox, Inbox),
    /// Steer by this from the next packet on, and send the markers.
    Steer(Arc<Steered>, Vec<Flip>),
    /// Hold packets of policy routes in this; given once, before the first of them holds.
    HoldIn(PolicyHold),
    /// Take an instance. Answered with [`Event::Ready`].
    AddInstance(Box<Instance>),
    /// Give an instance up. Answered with [`Event::Removed`].
    RemoveInstance(InstanceId),
    /// Serve what is asked for of an instance's state here.
    Serve(InstanceId, Box<Desk>),
    /// Have the network functions of an instance take over what those of one that is gone knew.
    Inherit(InstanceId, Chain),
    /// End all that network functions know of flows, with the records of their ends. Answered with
    /// [`Event::FlowsEnded`].
    EndFlows,
    /// Take one end of a move. Answered with [`Event::Prepared`], and with [`Event::Ended`] when
    /// it is over.
    Prepare(MoveEnd),
    /// Forget a move that has not flipped: its ends are handed back.
    Forget(MoveId),
    /// Ask the source to undo the move.
    Ask(MoveId),
    /// Poll a receive queue.
    AddRx(Box<RxQueue>),
    /// Send by this queue; replaces a path through another worker.
    AddTx(Box<TxQueue>),
    /// Send to a port by handing frames to another worker, which has this queue.
    TxVia(weir_state_transfer::PortId, WorkerId, FarQueue),
    /// Own a port: answer for its addresses and resolve its neighbours.
    Own(Box<Owner>),
    /// A worker owns a port from here on.
    PortOwner(weir_state_transfer::PortId, WorkerId),
    /// Sort the free frames: homes have been divided anew.
    SortFrames,
    /// Free frames of a worker that has left.
    AdoptFrames(Vec<Frame>),
    /// Give every receive queue and port up, and send a fence behind the last packet. Answered
    /// with [`Event::GaveUp`].
    GiveUp,
    /// Send nothing more to a worker. Answered with [`Event::Disconnected`].
    Disconnect(WorkerId),
    /// Forget a worker that has ended, when what it sent has been taken.
    ForgetWorker(WorkerId),
    /// End when the rings are empty and everything has left. Answered with [`Event::Retired`].
    Retire,
    /// Report flows. Answered with [`Event::Flows`] pieces.
    ReportFlows(FlowQuery),
    /// Report what the network functions of an instance have counted. Answered with
    /// [`Event::Nfs`].
    ReportNfs(u64, InstanceId),
    /// Report the neighbours of the ports that the worker owns.
    ReportNeighbours(u64),
    /// Ask next hops, behind all that was sent to them. Answered with [`Event::Answered`] for each.
    Probe(Probing),
    /// Have all tell when what has come by the receive queues is processed. Answered with
    /// [`Event::CaughtUp`] of every worker.
    CatchUp(u64),
    /// For an instance's end of a share.
    Share(ShareId, InstanceId, ShareCommand),
    /// Stamp packets to these instances.
    Stamp(StampCommand),
    /// Panic, at once or on the way of a packet.
    Panic(Fault),
}

/// Which instance gets a packet, which worker runs the instance, and the policy routes.
#[derive(Debug)]
pub struct Steered {
    /// The table.
    pub steering: Steering,
    /// The worker of each instance, by instance number.
    pub workers: [WorkerId; 256],
    /// What is asked before the routes.
    pub policies: Arc<Policies>,
    /// Grows by one with each change.
    pub generation: u64,
}

impl Steered {
    /// What a node starts with: one worker, and no policy routes.
    pub fn first(steering: Steering) -> Self {
        let policies = Arc::default();
        Self { steering, workers: [WorkerId(0); 256], policies, generation: 1 }
    }
}

/// A marker to be sent when a worker adopts new steering.
#[derive(Clone, Copy, Debug)]
pub struct Flip {
    /// The move.
    pub id: MoveId,
    /// The worker that must know: the source's, or the destination's on the way back.
    pub to: WorkerId,
    /// Whether this is the way back.
    pub back: bool,
}

/// What both ends of a move must know.
#[derive(Debug)]
pub struct MoveSpec {
    /// The move.
    pub id: MoveId,
    /// The source.
    pub from: InstanceId,
    /// The destination.
    pub to: InstanceId,
    /// The source's worker.
    pub from_worker: WorkerId,
    /// The destination's worker.
    pub to_worker: WorkerId,
    /// Which flows.
    pub selection: Selection,
    /// What is promised of their packets.
    pub guarantee: Guarantee,
    /// Whether the flows go, with the state of each.
    pub per_flow: bool,
    /// The state of several flows that goes along.
    pub multi_flow: Option<StateFilter>,
    /// The buckets of which the source owns the base, and that the move hands over as a whole.
    pub buckets: BucketSet,
    /// Steering before the move, which tells flows under the move from others that match.
    pub before: Arc<Steered>,
    /// All workers that steer.
    pub steerers: Steerers,
    /// Packets that each end may hold.
    pub hold: usize,
    /// Packets that may wait for next hops at the source's worker.
    pub park: usize,
}

impl MoveSpec {
    /// Whether a packet is under this move.
    #[inline]
    pub(crate) fn concerns(&self, key: &FlowKey, hash: u32) -> bool {
        self.per_flow
            && self.selection.matches(key, Bucket::of(hash))
            && self.before.steering.owner(key, hash) == self.from
    }
}

/// Which flows are to be reported.
#[derive(Clone, Debug)]
pub struct FlowQuery {
    /// Names the query in the answer.
    pub id: u64,
    /// Only flows that match.
    pub filter: Option<Filter>,
    /// Only flows of this instance.
    pub instance: Option<InstanceId>,
}

/// One flow as reported.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// Its owner.
    pub instance: InstanceId,
    /// Which flow.
    pub key: FlowKey,
    /// The bucket that it falls into.
    pub bucket: Bucket,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, from the network header on.
    pub bytes: u64,
    /// When the first packet was seen.
    pub first_seen: Nanos,
    /// When the last packet was seen.
    pub last_seen: Nanos,
    /// Rolling digest of what was forwarded.
    pub digest: u64,
}

/// What a network function of an instance has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfReport {
    /// The instance.
    pub instance: InstanceId,
    /// Which function it is.
    pub kind: &'static str,
    /// By name, in a fixed order.
    pub counters: Vec<(String, u64)>,
}

/// From a worker to the node.
#[derive(Debug)]
pub enum Event {
    /// The instance runs and may be given flows.
    Ready(InstanceId),
    /// The instance is gone, and handed back so that it is not freed on a packet thread.
    Removed(Box<Instance>),
    /// Records that the network functions of an instance have made.
    Records(InstanceId, Vec<Record>),
    /// Network functions know of no flow any more.
    FlowsEnded,
    /// The worker steers by this generation; what it steered by before is handed back, so that
    /// it is not freed on a packet thread.
    Steers(u64, Option<Arc<Steered>>),
    /// One end of a move is prepared.
    Prepared(MoveId),
    /// The source has begun to export, at that time.
    Exporting(MoveId, Nanos),
    /// The source takes everything back.
    Undoing(MoveId),
    /// An end of a move is over, and handed back so that it is not freed on a packet thread.
    Ended(MoveEnd),
    /// What the worker gave up.
    GaveUp(Box<GivenUp>),
    /// The worker has passed the last packet that a leaving worker has steered to it.
    Fenced(WorkerId),
    /// The worker sends nothing more to a leaving one.
    Disconnected(WorkerId),
    /// The worker has ended.
    Retired(Box<Retired>),
    /// A piece of a flow report; the last one of a worker is empty.
    Flows(u64, Vec<FlowRecord>),
    /// What the network functions of an instance have counted; nothing when it is not there.
    Nfs(u64, Vec<NfReport>),
    /// Of an instance's end of a share.
    Share(ShareId, InstanceId, ShareEvent),
    /// What some worker has stamped before a view of a share has come to this one.
    Stamped(ShareId, u64),
    /// The neighbours of the ports that the worker owns.
    Neighbours(u64, Vec<NeighbourRecord>),
    /// A next hop has answered.
    Answered(Probe),
    /// The worker has processed what the queues of that one had when it was asked to catch up.
    CaughtUp(u64, WorkerId),
}

/// What a leaving worker gives up first.
#[derive(Debug)]
pub struct GivenUp {
    /// Receive queues, to be polled by others when its fence has passed.
    pub queues: Vec<RxQueue>,
    /// The ports that it owned.
    pub owners: Vec<Owner>,
}

/// What a worker leaves behind.
#[derive(Debug)]
pub struct Retired {
    /// Transmit queues, drained.
    pub ways_out: Vec<TxQueue>,
    /// Free frames.
    pub frames: Vec<Frame>,
}
