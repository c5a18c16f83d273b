//! A limit of a source that holds over two instances, as `weir share` has them share it: through the
//! death of the sidecar, until it is cancelled, its time is over, or the data plane dies.

use std::process::{Command, Output};
use std::time::Duration;

use weir_api::dataplane::v1::Instance;
use weir_testbed::dataplane::Selection;
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::process::{Process, sibling};
use weir_testbed::traffic::warm_up;
use weir_testbed::wait::{LIMIT, until};

use super::Setup;
use super::southbound::assert_a_share_breaks_no_rule;

#[path = "../../../control/tests/control/support/stalls.rs"]
mod stalls;

use stalls::Stalls;

/// Connections that a source may have open, and that it asks for.
const OPEN: u64 = 10;
const ASKED: u64 = 80;
/// The first port that it asks from.
const FIRST: u16 = 20_000;
/// The key of steering. With one in thirty all connections from ports in a row are in one half of the
/// buckets; with this some are in each.
const KEY: &str = "6d02";
/// How long a packet waits for its answer: as long as it may.
const PATIENCE: &str = "1s";
/// Times that a source may ask as another: again only where the machine stood still for long, so that
/// answers may have come too late.
const TRIES: u8 = 4;
const LONG: Duration = Duration::from_millis(250);
/// Addresses between those that a source asks as.
const APART: u8 = 30;

/// A node whose two instances have half of the flows each, and a sidecar.
fn limited(queues: u32) -> Setup {
    // The warm-up of the hosts takes one for each other host, which is over soon.
    let tables = format!(
        "[[nf]]\nkind = \"firewall\"\nrules = [\"all: accept any\"]\nconnections_max = {OPEN}\n\
         [shares]\npatience = \"{PATIENCE}\"\n[steering]\nkey = \"{KEY}\"\n"
    );
    let mut setup = Setup::new(&Shape { tables, queues, ..Shape::default() });
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let half = Selection::Buckets("0-2047".to_owned());
    let moved = setup.dataplane.start_move(first, second, half).unwrap();
    setup.dataplane.finish_move(moved.id).unwrap();
    setup.node.start_sidecar(None).unwrap();
    setup
}

/// A counter of the firewalls of both instances.
fn counted(setup: &Setup, name: &str) -> u64 {
    let all = setup.dataplane.nfs().unwrap();
    let counters = all.iter().flat_map(|nf| &nf.counters);
    counters.filter(|counter| counter.name == name).map(|counter| counter.value).sum()
}

/// Packets that an instance did not decide on, as the other one did not answer in time.
fn undecided(setup: &Setup) -> u64 {
    let drops = setup.dataplane.counters().unwrap().drops;
    let late = drops.iter().filter(|d| ["share_unanswered", "share_late"].contains(&&*d.reason));
    late.map(|drop| drop.packets).sum()
}

/// The first host sends a packet from each of so many ports, as an address of its own that nothing
/// has come from before; how many of them were let begin.
fn begun(setup: &Setup, number: u8) -> u64 {
    begun_as(setup, number).0
}

/// The same, and as which address: another where the machine stood still, and an answer was not there
/// in time. Then nothing can be told of the limit.
fn begun_as(setup: &Setup, number: u8) -> (u64, String) {
    for tried in 0..TRIES {
        let address = format!("10.0.1.{}", number + tried * APART);
        let (stalls, before) = (Stalls::watch(), undecided(setup));
        let begun = judged(setup, &address);
        let (longest, late) = (stalls.longest(), undecided(setup) - before);
        if late == 0 {
            return (begun, address);
        }
        assert!(longest > LONG, "{late} of {address} are not answered in {PATIENCE}");
        println!("{late} of {address} are late, and nothing has run for {longest:?}");
    }
    panic!("{TRIES} times a packet of {number} is not answered in {PATIENCE}");
}

/// How many packets of an address were let begin, once it is known of all what has become of them.
fn judged(setup: &Setup, address: &str) -> u64 {
    let host = &setup.topology.hosts[0].namespace;
    host.run(&format!("ip address add {address}/32 dev lo")).unwrap();
    let program = format!(
        "import socket\nfor port in range({FIRST}, {}):\n s = socket.socket(type=socket.SOCK_DGRAM)\n \
         s.bind(('{address}', port))\n s.sendto(b'x', ('10.0.2.2', 9))\n",
        u64::from(FIRST) + ASKED
    );
    let others = || counted(setup, "dropped.source_connections") + undecided(setup);
    let before = (counted(setup, "begun"), others());
    let mut command = host.command("python3");
    assert!(command.args(["-c", &program]).status().unwrap().success());
    let all = || {
        let begun = counted(setup, "begun") - before.0;
        (begun + others() - before.1 == ASKED).then_some(begun)
    };
    until("all packets to be judged", LIMIT, all).unwrap()
}

fn weir(setup: &Setup, line: &str) -> Output {
    let mut command = Command::new(sibling("weir").unwrap());
    command.args(setup.node.server()).args(line.split(' ')).output().unwrap()
}

/// Runs a command that must succeed; what it says.
fn done(setup: &Setup, line: &str) -> String {
    let output = weir(setup, line);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
#[ignore = "needs root"]
fn a_limit_of_a_source_holds_for_two_instances_together_while_they_share() {
    let mut setup = limited(2);
    assert_eq!(begun(&setup, 101), 2 * OPEN, "each instance lets as many begin");
    let share = "share --instances r1,second --filter src=10.0.0.0/8 --mode strong --no-wait";
    done(&setup, share);
    assert_eq!(begun(&setup, 102), OPEN);
    assert_a_share_breaks_no_rule(&setup);
    // What contradicts it is refused with its number.
    for line in ["move --from r1 --to second --filter src=10.0.1.0/24", "scale --to 1", share] {
        let refused = weir(&setup, line);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("operation 1"), "{line}: {said}");
    }
    // It needs no sidecar, and the next one takes it up.
    setup.node.kill_sidecar().unwrap();
    assert_eq!(begun(&setup, 103), OPEN);
    setup.node.start_sidecar(None).unwrap();
    let taken_up = || {
        let said = done(&setup, "operation list");
        (said.contains("share") && said.contains("running")).then_some(())
    };
    until("the sidecar to take the share up", LIMIT, taken_up).unwrap();
    done(&setup, "operation cancel 1");
    // It has not ended well, but as it was told to.
    assert!(!weir(&setup, "operation watch 1").status.success());
    assert!(done(&setup, "operation list").contains("cancelled"));
    assert_eq!(begun(&setup, 104), 2 * OPEN, "nobody shares any more");
    // Another with a time of its own ends with that.
    done(&setup, "share --instances r1,second --filter any --mode strict --time-limit 100ms");
    done(&setup, "move --from r1 --to second --filter src=10.0.1.0/24");
    setup.dataplane.balance_at_rest().unwrap();
    setup.node.stop().unwrap();
}

/// Tells from which ports packets come to the second host.
const RECEIVER: &str = "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\n\
                        s.bind(('10.0.2.2', 9))\nprint('ready', flush=True)\n\
                        while True: print(*s.recvfrom(9)[1], flush=True)\n";

#[test]
#[ignore = "needs root"]
fn a_strict_share_lets_those_begin_that_came_first_whichever_instance_they_went_to() {
    const SOURCES: u8 = 8;
    // One queue, and so one worker that receives what the host sends.
    let setup = limited(1);
    let mut command = setup.topology.hosts[1].namespace.command("python3");
    command.args(["-c", RECEIVER]);
    let logs = Folder::new().unwrap();
    let mut receiver = Process::spawn("receiver", &command, &logs.path().join("log")).unwrap();
    receiver.wait_for_line("ready", LIMIT).unwrap();
    done(&setup, "share --instances r1,second --filter src=10.0.0.0/8 --mode strict --no-wait");
    let mut addresses = Vec::new();
    for source in 0..SOURCES {
        let (begun, address) = begun_as(&setup, 120 + source);
        assert_eq!(begun, OPEN, "{address}");
        addresses.push(address);
    }
    let mut expected: Vec<_> = addresses
        .iter()
        .flat_map(|address| {
            (0..OPEN).map(move |port| format!("{address} {}", u64::from(FIRST) + port))
        })
        .collect();
    let is_one = |from: &str| addresses.iter().any(|address| address == from);
    let all = || {
        let of_them = |line: &String| line.split_once(' ').is_some_and(|(from, _)| is_one(from));
        let lines: Vec<_> = receiver.lines().into_iter().filter(of_them).collect();
        (lines.len() >= expected.len()).then_some(lines)
    };
    let mut passed = until("what was let begin to arrive", LIMIT, all).unwrap();
    passed.sort();
    expected.sort();
    assert_eq!(passed, expected);
    let nfs = setup.dataplane.nfs().unwrap();
    let counters = nfs.iter().flat_map(|nf| &nf.counters);
    let begun: Vec<_> = counters.filter(|counter| counter.name == "begun").collect();
    assert!(begun.len() == 2 && begun.iter().all(|counter| counter.value > 5), "{begun:?}");
    done(&setup, "operation cancel 1");
    setup.dataplane.balance_at_rest().unwrap();
    drop(receiver);
    setup.node.stop().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_share_is_over_when_its_data_plane_dies_and_the_next_can_share_again() {
    let mut setup = limited(2);
    done(&setup, "share --instances r1,second --filter src=10.0.0.0/8 --no-wait");
    assert_eq!(begun(&setup, 101), OPEN);
    setup.dataplane = setup.node.restart_dataplane().unwrap();
    warm_up(&setup.topology).unwrap();
    // The sidecar has as many instances again, which share nothing.
    let names = || {
        let owners = setup.dataplane.steering().unwrap().owners;
        let two = setup.dataplane.instances().unwrap();
        let own = |instance: &&Instance| {
            owners.iter().filter(|owner| u32::from(**owner) == instance.id).count() > 1_000
        };
        let names: Vec<_> = two.iter().filter(own).map(|one| one.name.clone()).collect();
        (names.len() == 2).then(|| names.join(","))
    };
    let names = until("two instances", LIMIT, names).unwrap();
    let told = weir(&setup, "operation watch 1");
    let said = String::from_utf8_lossy(&told.stdout) + String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && said.contains("started again"), "{said}");
    assert!(done(&setup, "operation list").contains("failed"));
    assert_eq!(begun(&setup, 102), 2 * OPEN, "nobody shares any more");
    done(&setup, &format!("share --instances {names} --filter src=10.0.0.0/8 --no-wait"));
    assert_eq!(begun(&setup, 103), OPEN);
    setup.dataplane.balance_at_rest().unwrap();
    setup.node.stop().unwrap();
}
