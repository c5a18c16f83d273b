//! The control applications as their own documentation starts them.

use std::net::{TcpListener, TcpStream};

use weir_testbed::folder::Folder;
use weir_testbed::process::Process;
use weir_testbed::topology::Topology;
use weir_testbed::wait::{LIMIT, until};

use super::nodes::{Router, functions};
use super::text::{blocks, document};
use super::{Places, shell};
use crate::rapid_upgrade::{Counter, sockets};
use crate::southbound::Steady;

/// Starts an example by the command at its head, for the first two instances of a node.
fn start(name: &str, router: &Router) -> Process {
    let folder = router.folder.path();
    let head = document(&format!("control/client/examples/{name}.rs"));
    let head: String = head
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .flat_map(|line| [line.strip_prefix(' ').unwrap_or(line), "\n"])
        .collect();
    let commands = blocks(&head, "sh").concat().replace("\\\n", " ");
    assert!(commands.contains(&format!("--example {name} -- ")));
    let feed = |version| sockets(folder, version).1.display().to_string();
    let places = Places::new(folder)
        .with(" -- ", " ")
        .with("sw1", "r1")
        .with("sw2", "r2")
        .with("/run/feed-1.sock", &feed(1))
        .with("/run/feed-2.sock", &feed(2));
    let command = shell(&format!("exec {}", places.put(&commands)), folder, None);
    Process::spawn(name, &command, &folder.join(name)).unwrap()
}

#[test]
#[ignore = "needs root, and Python packages: testbed/install.sh --python"]
fn each_control_application_does_what_it_is_for_when_it_is_started_as_it_says() {
    let folder = Folder::new().unwrap();
    let tables = [1, 2].map(|version| {
        let serve = sockets(folder.path(), version).0;
        format!("[[control.nf]]\nname = \"counter-{version}\"\nsocket = \"{}\"\n", serve.display())
    });
    let tables = functions() + &tables.concat();
    let router = Router::between(Topology::new(2).unwrap(), folder, &tables);
    let _traffic = Steady::start(&router.topology);
    router.run("weir scale --to 2 --wait");

    let mut selective = start("selective_invocation", &router);
    let [client, server] = [0, 1].map(|host| &router.topology.hosts[host].namespace);
    let listener = server.enter(|| TcpListener::bind("10.0.2.2:80")).unwrap().unwrap();
    until("a connection by way of the first instance to be moved", LIMIT, || {
        let open = client.enter(|| TcpStream::connect("10.0.2.2:80")).unwrap().unwrap();
        drop((open, listener.accept().unwrap()));
        let lines = selective.lines();
        lines.iter().any(|line| line.ends_with("is looked at more closely")).then_some(())
    })
    .unwrap();
    selective.check_running().unwrap();
    drop(selective);

    let path = router.folder.path();
    let _old = Counter::start("packet_counter.py", 1, path);
    let mut upgrade = start("rapid_upgrade", &router);
    upgrade.wait_for_line("counter-1 is shown packets", LIMIT).unwrap();
    let _new = Counter::start("packet_counter_2.py", 2, path);
    println!("{}", upgrade.wait_for_line("counter-2 has taken over", LIMIT).unwrap());
    drop(upgrade);

    let mut prefix = start("move_prefix", &router);
    println!("{}", prefix.wait_for_line("flows of 10.0.1.0/24 in", LIMIT).unwrap());
    until("counters to be copied both ways", LIMIT, || {
        let listed = router.run("weir operation list");
        (listed.lines().filter(|line| line.contains("copy") && line.contains("running")).count()
            == 2)
            .then_some(())
    })
    .unwrap();
    drop(prefix);

    let mut scaling = start("elastic_scaling", &router);
    println!("{}", scaling.wait_for_line("instances, ", LIMIT).unwrap());
}
