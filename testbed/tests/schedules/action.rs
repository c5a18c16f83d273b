//! What can happen next in a schedule, and its random choice.

use fastrand::Rng;
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::mark::{Guarantee, Request};
use weir_state_transfer::{InstanceId, MoveId, PortId, Selection, WorkerId};

use crate::selection;
use crate::world::World;

/// One step of a schedule.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// The next packets of a flow's lane come in.
    Inject { flow: usize, lane: usize, packets: usize },
    /// A worker takes its turn.
    Poll(WorkerId),
    /// The node takes its events.
    Node,
    /// So many packets are taken off a wire; their frames are not completed.
    Take(PortId, u16, usize),
    /// Frames that were taken off a wire are completed.
    Complete(PortId, u16),
    /// What was sent to a worker passes the splices of its rings.
    Pass(WorkerId),
    /// Nanoseconds pass.
    Sleep(u64),
    /// A move is asked for.
    Move(Box<Request>, bool),
    /// A move is asked to be undone.
    Undo(MoveId),
    /// An instance is asked for.
    Create(u32),
    /// An instance may own flows.
    Activate(InstanceId),
    /// An instance is paused and removed.
    Remove(InstanceId),
    /// A worker is asked for.
    AddWorker,
    /// A worker is asked to leave.
    RemoveWorker(WorkerId),
    /// The device of a port goes down, or comes up.
    Link(PortId, bool),
    /// A host answers by a queue of the router, if it was asked for its link address.
    Answer(PortId, u16),
    /// A worker panics.
    Panic(WorkerId, Fault),
}

/// Chooses what happens next.
pub(crate) fn choose(world: &World, rng: &mut Rng) -> Action {
    let workers: Vec<_> = world.node.workers.keys().copied().collect();
    let worker = workers[rng.usize(..workers.len())];
    match rng.u32(..1000) {
        0..300 => {
            let flow = rng.usize(..world.reference.flows.len());
            let lane = rng.usize(..world.reference.flows[flow].lanes.len());
            Action::Inject { flow, lane, packets: rng.usize(1..=4) }
        }
        300..640 if worker == WorkerId(0) && rng.u32(..world.shape.laziness) != 0 => Action::Node,
        300..470 if world.is_spliced() => Action::Pass(worker),
        300..640 => Action::Poll(worker),
        640..710 => Action::Node,
        710..790 => {
            let (port, queue) = wire(world, rng);
            Action::Take(port, queue, rng.usize(1..=8))
        }
        790..860 => {
            let (port, queue) = wire(world, rng);
            Action::Complete(port, queue)
        }
        860..900 => Action::Sleep(sleep(rng)),
        900..925 => moving(world, rng),
        925..935 => {
            let last = world.reference.moves.keys().next_back().map_or(1, |id| id.0);
            Action::Undo(MoveId(last.saturating_sub(rng.u64(..3)).max(1)))
        }
        935.. => seldom(world, worker, rng),
    }
}

fn seldom(world: &World, worker: WorkerId, rng: &mut Rng) -> Action {
    match rng.u8(..16) {
        0 => Action::Create(rng.u32(10..1000)),
        1 | 2 => Action::Activate(instance(world, rng)),
        3 => Action::Remove(instance(world, rng)),
        4 if world.shape.workers_change => Action::AddWorker,
        5 | 6 if world.shape.workers_change => Action::RemoveWorker(idle_worker(world)),
        7 if world.shape.panics => Action::Panic(worker, fault(rng)),
        8..12 if world.shape.links_fail => {
            Action::Link(PortId(rng.u8(..world.shape.plan.ports)), rng.u8(..3) == 0)
        }
        // Packets wait until moves have come.
        12.. if world.shape.hosts_unknown && (!world.is_spliced() || rng.u8(..4) == 0) => {
            let (port, queue) = wire(world, rng);
            Action::Answer(port, queue)
        }
        // What is broken shows in moves.
        _ if world.is_spliced() => moving(world, rng),
        _ => Action::Node,
    }
}

/// On one of the next packets of a stage, at which the packet is not yet in its flow's state.
fn fault(rng: &mut Rng) -> Fault {
    use FaultStage::{Delivered, Forwarding, Received, Taken};
    let stages = [Received, Taken, Delivered, Forwarding];
    let drawn = rng.usize(..4 * stages.len());
    Fault { stage: stages[drawn % stages.len()], packets: (drawn / stages.len()) as u64 }
}

/// Mostly microseconds; at times what the housekeeping waits for, and seldom a time-out of a
/// step or of a flow.
fn sleep(rng: &mut Rng) -> u64 {
    match rng.u8(..60) {
        0 => 61_000_000_000,
        1 => 1_100_000_000,
        2..20 => 1_000_000,
        _ => rng.u64(100..20_000),
    }
}

fn moving(world: &World, rng: &mut Rng) -> Action {
    // Now and then the move before, the other way round.
    if rng.u8(..4) == 0
        && let Some((_, last)) = world.reference.moves.last_key_value()
    {
        let back = Request { from: last.to, to: last.from, ..last.clone() };
        return Action::Move(Box::new(back), false);
    }
    let from = if rng.bool() { weir_dataplane::node::FIRST } else { instance(world, rng) };
    let selection = selection::random(&world.reference.flows, &world.shape, rng);
    let request = Request::new(from, instance(world, rng), selection);
    Action::Move(Box::new(promising(world, request, rng)), rng.u8(..8) == 0)
}

/// What the move promises, and whether state of several flows goes along: or nothing else.
fn promising(world: &World, request: Request, rng: &mut Rng) -> Request {
    let allowed: Vec<_> =
        Guarantee::ALL.into_iter().filter(|promise| *promise >= world.shape.least).collect();
    let mut request = request;
    if allowed.len() > 1 {
        request.guarantee = allowed[rng.usize(..allowed.len())];
    }
    if !world.shape.functions || matches!(request.selection, Selection::Buckets(_)) {
        return request;
    }
    let scopes: &[Scope] = match rng.u8(..8) {
        0 => &[Scope::MultiFlow],
        1..5 => &[Scope::PerFlow, Scope::MultiFlow],
        _ => &[],
    };
    request.scoped(scopes).expect("a filter names state of several flows")
}

fn instance(world: &World, rng: &mut Rng) -> InstanceId {
    let known = world.instances();
    known[rng.usize(..known.len())]
}

/// A worker that runs no instance, if there is one.
fn idle_worker(world: &World) -> WorkerId {
    let workers = world.node.node.list_workers();
    let idle =
        workers.iter().find(|worker| worker.instances.is_empty() && worker.state != "stopping");
    let id = idle.map_or(0, |worker| worker.id);
    WorkerId(u8::try_from(id).expect("a small number"))
}

fn wire(world: &World, rng: &mut Rng) -> (PortId, u16) {
    let plan = &world.shape.plan;
    (PortId(rng.u8(..plan.ports)), rng.u16(..plan.queues))
}
