//! A node around the coordinator in which every instance does its part at once.

use super::*;
use crate::chunk::Scope;
use crate::filter::Selection;
use crate::id::MoveId;
use crate::share::Limits;

const NOW: Nanos = Nanos(0);

struct Node {
    shares: Coordinator,
    moves: mark::Coordinator,
    removing: Vec<InstanceId>,
}

impl Node {
    fn new() -> Self {
        let step = Duration::from_secs(1);
        let (shares, moves) = (Coordinator::new(2, step), mark::Coordinator::new(4, step));
        Self { shares, moves, removing: Vec::new() }
    }

    fn start(&mut self, request: Request) -> Result<ShareId, Refused> {
        let around = Surroundings { moves: &self.moves, removing: &self.removing };
        self.shares.start(request, &around, NOW)
    }

    fn change(&mut self, id: ShareId, members: &[u8]) -> Result<(), Refused> {
        let around = Surroundings { moves: &self.moves, removing: &self.removing };
        self.shares.change(id, &instances(members), &around, NOW)
    }

    /// Carries out what there is to do, in which every instance does its part; what it was.
    fn run(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(command) = self.shares.poll_command() {
            let events: Vec<_> = match &command {
                Command::Prepare(id, at) => {
                    at.iter().map(|at| (*id, Event::Prepared(*at))).collect()
                }
                Command::Adopt(id, view) => {
                    let settled = |at| (*id, Event::Settled(at, view.number));
                    view.participants().map(settled).collect()
                }
                Command::Stamp(id, view, _) => vec![(*id, Event::Stamped(*view))],
                Command::Forget(..) | Command::Steady(_) | Command::End(..) => Vec::new(),
            };
            done.push(name(&command));
            events.into_iter().for_each(|(id, event)| self.shares.event(id, event));
        }
        done
    }
}

fn name(command: &Command) -> String {
    let list = |at: &[InstanceId]| at.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match command {
        Command::Prepare(_, at) => format!("prepare {}", list(at)),
        Command::Forget(_, at) => format!("forget {}", list(at)),
        Command::Adopt(_, view) => {
            format!(
                "adopt {}: {}, without {}",
                view.number,
                list(&view.members),
                list(&view.leaving)
            )
        }
        Command::Stamp(_, _, members) => format!("stamp {}", list(members)),
        Command::Steady(_) => "steady".to_owned(),
        Command::End(_, why) => format!("end: {why}"),
    }
}

fn instances(members: &[u8]) -> Vec<InstanceId> {
    members.iter().copied().map(InstanceId).collect()
}

fn request(members: &[u8], filter: &str, mode: Mode) -> Request {
    Request {
        members: instances(members),
        filter: filter.parse().unwrap(),
        scopes: vec![Scope::MultiFlow],
        mode,
        limits: Limits::default(),
        key: 7,
    }
}

fn strong(members: &[u8]) -> Request {
    request(members, "dst=10.0.0.0/8,proto=tcp", Mode::Strong)
}

#[test]
fn a_share_starts_changes_its_members_and_ends() {
    let mut node = Node::new();
    let id = node.start(strong(&[2, 1])).unwrap();
    assert_eq!(node.run(), ["prepare 1 2", "adopt 1: 1 2, without ", "steady"]);
    node.change(id, &[3, 2]).unwrap();
    let changed = ["prepare 3", "adopt 2: 2 3, without 1", "forget 1", "steady"];
    assert_eq!(node.run(), changed);
    assert_eq!(
        (node.shares.share_of(InstanceId(1)), node.shares.share_of(InstanceId(3))),
        (None, Some(id))
    );
    node.shares.end(id).unwrap();
    assert_eq!(node.run(), ["adopt 3: , without 2 3", "forget 2 3", "end: asked to"]);
    assert_eq!(node.shares.end(id), Err(Unknown(id)));
}

#[test]
fn steerers_stamp_only_while_all_that_they_stamp_for_share() {
    let mut node = Node::new();
    let id = node.start(request(&[1, 2], "any", Mode::Strict)).unwrap();
    let started = ["prepare 1 2", "adopt 1: 1 2, without ", "stamp 1 2", "steady"];
    assert_eq!(node.run(), started);
    node.change(id, &[2, 3]).unwrap();
    let changed = ["prepare 3", "adopt 2: 2 3, without 1", "stamp 2 3", "forget 1", "steady"];
    assert_eq!(node.run(), changed);
    node.shares.end(id).unwrap();
    let ended = ["stamp ", "adopt 3: , without 2 3", "forget 2 3", "end: asked to"];
    assert_eq!(node.run(), ended);
}

#[test]
fn what_contradicts_another_operation_is_refused_with_its_name() {
    let mut node = Node::new();
    let id = node.start(strong(&[1, 2])).unwrap();
    assert_eq!(node.start(strong(&[2, 3])), Err(Refused::Share(id)));
    assert_eq!(node.change(id, &[1, 3]), Err(Refused::Changing(id)));
    node.run();
    // What is known of a host has no protocol, and no port.
    let udp = request(&[2, 3], "dst=10.0.0.0/9,proto=udp", Mode::Strong);
    assert_eq!(node.start(udp), Err(Refused::Share(id)));
    let elsewhere = request(&[2, 3], "src=10.0.0.0/8,dst=192.0.2.0/24", Mode::Strong);
    assert_eq!(node.start(elsewhere), Err(Refused::Share(id)));
    let other = request(&[2, 3], "src=fd00::/8", Mode::Strong);
    let other = node.start(other).expect("it is of other flows");
    let third = request(&[8, 9], "src=fd00::/8", Mode::Strong);
    assert_eq!(node.start(third), Err(Refused::TooMany(2)));
    node.run();

    let moving = |from, to, filter: &str| {
        let selection = Selection::Filter(filter.parse().unwrap());
        mark::Request::new(InstanceId(from), InstanceId(to), selection)
    };
    let of_it = moving(1, 5, "dst=10.1.0.0/16");
    assert_eq!(node.shares.in_the_way_of(&of_it), Some(id));
    assert_eq!(node.shares.in_the_way_of(&moving(2, 5, "dst=10.1.0.0/16,proto=udp")), Some(id));
    assert_eq!(node.shares.in_the_way_of(&moving(2, 5, "dst=fd00::1/128")), Some(other));
    assert_eq!(node.shares.in_the_way_of(&moving(6, 5, "dst=10.1.0.0/16")), None);
    assert_eq!(node.shares.in_the_way_of(&moving(1, 5, "src=fd00::1/128")), None);

    let moved = node.moves.start(moving(4, 5, "any"), false, NOW).unwrap();
    assert_eq!(moved, MoveId(1));
    assert_eq!(node.change(id, &[1, 4]), Err(Refused::Move(moved)));
    node.removing.push(InstanceId(7));
    assert_eq!(node.change(id, &[1, 7]), Err(Refused::Removing(InstanceId(7))));
    assert_eq!(node.change(ShareId(9), &[1, 2]), Err(Refused::Unknown(Unknown(ShareId(9)))));
    assert!(node.run().is_empty(), "nothing has been changed");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut node = Node::new();
    assert_eq!(node.start(strong(&[1])), Err(Refused::TooFew));
    assert_eq!(node.start(strong(&[1, 2, 1])), Err(Refused::Twice(InstanceId(1))));
    let per_flow = Request { scopes: vec![Scope::PerFlow], ..strong(&[1, 2]) };
    assert_eq!(node.start(per_flow), Err(Refused::Scope));
    let everybody: Vec<u8> = (0..=u8::MAX).collect();
    assert_eq!(node.start(strong(&everybody)), Err(Refused::TooManyMembers));
}

#[test]
fn what_takes_too_long_to_prepare_is_undone() {
    let mut node = Node::new();
    let id = node.start(strong(&[1, 2])).unwrap();
    let late = node.shares.poll_timeout().unwrap();
    node.shares.poll_command();
    node.shares.handle_timeout(late);
    let why = "end: an instance took too long to prepare";
    assert_eq!(node.run(), ["forget 1 2", why]);
    node.shares.event(id, Event::Prepared(InstanceId(1)));

    let id = node.start(strong(&[1, 2])).unwrap();
    node.run();
    node.change(id, &[1, 3]).unwrap();
    node.shares.poll_command();
    node.shares.event(id, Event::Unprepared("no room"));
    assert_eq!(node.run(), ["forget 3", "steady"]);
    let members = instances(&[1, 2]);
    assert_eq!(node.shares.get(id).map(|share| share.view.members.clone()), Some(members));
}

#[test]
fn the_others_go_on_without_an_instance_that_has_failed() {
    let mut node = Node::new();
    let id = node.start(strong(&[1, 2, 3])).unwrap();
    node.run();
    node.change(id, &[1, 2]).unwrap();
    node.shares.fail(id, InstanceId(2));
    let went_on = ["adopt 2: 1 2, without 3", "adopt 3: 1, without 3", "forget 3", "steady"];
    let mut done = node.run();
    // The answers to the second view came before those to the third.
    done.dedup();
    assert_eq!(done, went_on);
    node.shares.end(id).unwrap();
    node.shares.fail(id, InstanceId(1));
    assert_eq!(node.run().last().unwrap(), "end: all its instances have failed");
}

#[test]
fn an_instance_that_has_lost_its_end_of_one_share_goes_on_with_others() {
    let mut node = Node::new();
    let id = node.start(request(&[1, 2, 3], "src=10.0.0.0/8", Mode::Strong)).unwrap();
    let other = node.start(request(&[1, 2, 3], "src=fd00::/8", Mode::Strong)).unwrap();
    node.run();
    // A panic takes both: that of the second is told when it has begun another.
    node.shares.fail(id, InstanceId(3));
    node.run();
    node.change(id, &[1, 2, 3]).unwrap();
    node.run();
    node.shares.fail(other, InstanceId(3));
    node.run();
    let members = |id| node.shares.get(id).map(|share| share.view.members.len());
    assert_eq!((members(id), members(other)), (Some(3), Some(2)));
}

#[test]
fn steerers_hear_of_a_failure_before_the_others_have_settled() {
    let mut node = Node::new();
    let id = node.start(request(&[1, 2, 3], "any", Mode::Strict)).unwrap();
    node.run();
    node.shares.fail(id, InstanceId(3));
    let mut next = || node.shares.poll_command().map(|command| name(&command));
    assert_eq!(next().as_deref(), Some("stamp 1 2"));
    assert_eq!(next().as_deref(), Some("adopt 2: 1 2, without "));
    // That these stamp does not mean that the others have changed.
    node.shares.event(id, Event::Stamped(1));
    assert_eq!(node.shares.poll_command(), None);
    node.shares.fail(id, InstanceId(2));
    let mut next = || node.shares.poll_command().map(|command| name(&command));
    assert_eq!(next().as_deref(), Some("stamp 1"));
    assert_eq!(node.run(), ["adopt 3: 1, without ", "stamp 1", "steady"]);
}

#[test]
fn who_joins_is_stamped_for_when_all_have_settled_whoever_fails_before() {
    let mut node = Node::new();
    let id = node.start(request(&[1, 2], "any", Mode::Strict)).unwrap();
    node.run();
    node.change(id, &[1, 2, 3]).unwrap();
    assert!(matches!(node.shares.poll_command(), Some(Command::Prepare(..))));
    node.shares.event(id, Event::Prepared(InstanceId(3)));
    node.shares.fail(id, InstanceId(2));
    let mut done = node.run();
    done.dedup();
    let expected = ["adopt 2: 1 2 3, without ", "stamp 1", "adopt 3: 1 3, without ", "stamp 1 3"];
    assert_eq!(done[..4], expected);
}

#[test]
fn a_share_that_ends_stamps_no_more_though_an_instance_fails() {
    let mut node = Node::new();
    let id = node.start(request(&[1, 2, 3], "any", Mode::Strict)).unwrap();
    node.run();
    node.shares.end(id).unwrap();
    assert!(matches!(node.shares.poll_command(), Some(Command::Stamp(..))));
    // The first places are not given out again.
    node.shares.fail(id, InstanceId(3));
    let done = node.run();
    assert!(done.iter().all(|command| !command.starts_with("stamp 1")), "{done:?}");
    assert_eq!(done.last().unwrap(), "end: asked to");
}

#[test]
fn steerers_stop_to_stamp_when_no_member_is_left() {
    for leaves in [false, true] {
        let mut node = Node::new();
        let id = node.start(request(&[1, 2], "any", Mode::Strict)).unwrap();
        node.run();
        if leaves {
            node.change(id, &[1, 3]).unwrap();
            // The second has not left.
            while !matches!(node.shares.poll_command().unwrap(), Command::Prepare(..)) {}
            node.shares.event(id, Event::Prepared(InstanceId(3)));
            assert!(matches!(node.shares.poll_command(), Some(Command::Adopt(..))));
            node.shares.fail(id, InstanceId(3));
        } else {
            node.shares.fail(id, InstanceId(2));
        }
        node.run();
        node.shares.fail(id, InstanceId(1));
        let mut stamps = node.run().into_iter().filter(|command| command.starts_with("stamp"));
        assert_eq!(stamps.next_back().unwrap(), "stamp ", "nobody: {leaves}");
    }
}
