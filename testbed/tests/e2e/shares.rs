//! A limit of a source that holds over two instances, as `weir share` has them share it: through the
//! death of the sidecar, until it is cancelled.

use std::process::{Command, Output};

use weir_testbed::dataplane::Selection;
use weir_testbed::node::Shape;
use weir_testbed::process::sibling;
use weir_testbed::wait::{LIMIT, until};

use super::Setup;

/// Connections that a source may have open, and that it asks for.
const OPEN: u64 = 10;
const ASKED: u64 = 80;

/// A node whose two instances have half of the flows each, and a sidecar.
fn limited() -> Setup {
    // The warm-up of the hosts takes one for each other host, which is over soon.
    let tables = format!(
        "[[nf]]\nkind = \"firewall\"\nrules = [\"all: accept any\"]\nconnections_max = {OPEN}\n"
    );
    let mut setup = Setup::new(&Shape { tables, ..Shape::default() });
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

/// The first host sends a packet from each of so many ports, as an address of its own that nothing
/// has come from before; how many of them were let begin.
fn begun(setup: &Setup, address: &str) -> u64 {
    let host = &setup.topology.hosts[0].namespace;
    host.run(&format!("ip address add {address}/32 dev lo")).unwrap();
    let program = format!(
        "import socket\nfor port in range(20000, {}):\n s = socket.socket(type=socket.SOCK_DGRAM)\n \
         s.bind(('{address}', port))\n s.sendto(b'x', ('10.0.2.2', 9))\n",
        20_000 + ASKED
    );
    let refused = "dropped.source_connections";
    let before = (counted(setup, "begun"), counted(setup, refused));
    let mut command = host.command("python3");
    assert!(command.args(["-c", &program]).status().unwrap().success());
    let judged = || {
        let begun = counted(setup, "begun") - before.0;
        (begun + counted(setup, refused) - before.1 == ASKED).then_some(begun)
    };
    until("all packets to be judged", LIMIT, judged).unwrap()
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
    let mut setup = limited();
    assert_eq!(begun(&setup, "10.0.1.101"), 2 * OPEN, "each instance lets as many begin");
    let share = "share --instances r1,second --filter src=10.0.0.0/8 --mode strong --no-wait";
    done(&setup, share);
    assert_eq!(begun(&setup, "10.0.1.102"), OPEN);
    // What contradicts it is refused with its number.
    for line in ["move --from r1 --to second --filter src=10.0.1.0/24", "scale --to 1", share] {
        let refused = weir(&setup, line);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("operation 1"), "{line}: {said}");
    }
    // It needs no sidecar, and the next one takes it up.
    setup.node.kill_sidecar().unwrap();
    assert_eq!(begun(&setup, "10.0.1.103"), OPEN);
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
    assert_eq!(begun(&setup, "10.0.1.104"), 2 * OPEN, "nobody shares any more");
    // Another with a time of its own ends with that.
    done(&setup, "share --instances r1,second --filter any --mode strict --time-limit 100ms");
    done(&setup, "move --from r1 --to second --filter src=10.0.1.0/24");
    setup.dataplane.balance_at_rest().unwrap();
    setup.node.stop().unwrap();
}
