//! Two nodes as the README has them, and the move of state from one to the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;

use weir_state_transfer::FlowKey;
use weir_testbed::flow::between_all_pairs;
use weir_testbed::folder::Folder;
use weir_testbed::namespace::Namespace;
use weir_testbed::process::Process;
use weir_testbed::udp::{FRAME_MIN, Mark, TTL, write};
use weir_testbed::wait::{LIMIT, until};

use super::nodes::{NETWORK, PEER, PROCESS, ROUTER, configuration, tables};
use super::text::{document, inline};
use super::{Places, README, Runs, shell, succeeds, those};
use crate::rapid_upgrade::{Counter, sockets};
use crate::southbound::asking;

const FLOWS: usize = 48;

/// The configuration of the README for a node that is moved from, and the same as the other node, to
/// which all is moved, would have it.
fn both() -> [String; 2] {
    let one = [ROUTER, PROCESS, PEER, NETWORK].map(tables).concat();
    let swapped = [("edge-1", "edge-2"), ("192.0.2.1:", "192.0.2.2:")];
    let other = swapped.into_iter().fold(one.clone(), |text, (this, that)| {
        text.replace(this, "THIS").replace(that, this).replace("THIS", that)
    });
    [one, other.replace("ids-a", "ids-b")]
}

/// Certificates that name both nodes, of one authority: `--role node` in the place of `server`.
fn make_certificates(folders: &[Folder; 2]) {
    for line in those(Runs::Pki) {
        let line = Places::new(folders[0].path()).put(&line).replace("server", "node");
        succeeds(shell(&line, folders[0].path(), None));
        if line.contains("edge-1") {
            let other = line.replace("edge-1", "edge-2").replace("192.0.2.1", "192.0.2.2");
            succeeds(shell(&other, folders[0].path(), None));
        }
    }
    symlink(folders[0].path().join("pki"), folders[1].path().join("pki")).unwrap();
}

/// Shows a function a packet of each flow.
fn feed(counter: &Counter) {
    let socket = UnixDatagram::unbound().unwrap();
    for (number, flow) in between_all_pairs(4, FLOWS, 1).iter().enumerate() {
        let mut frame = [0; FRAME_MIN];
        write(flow, &Mark { flow: number as u64, sequence: 0, sent_ns: 0 }, TTL, &mut frame);
        socket.send_to(&frame, &counter.feed).unwrap();
    }
}

#[test]
#[ignore = "needs root, and Python packages: testbed/install.sh --python"]
fn its_command_moves_state_to_the_node_that_it_calls_a_peer() {
    let folders = [(); 2].map(|()| Folder::new().unwrap());
    make_certificates(&folders);
    let namespace = Namespace::new().unwrap();
    let mut sidecars = Vec::new();
    let mut counters = Vec::new();
    for (number, text) in (1..).zip(both()) {
        let folder = &folders[number as usize - 1];
        counters.push(Counter::start("packet_counter.py", number, folder.path()));
        namespace.run(&format!("ip address add 192.0.2.{number}/32 dev lo")).unwrap();
        let serve = sockets(folder.path(), number).0.display().to_string();
        let places = Places(vec![
            ("/run/ids-a.sock", serve.clone()),
            ("/run/ids-b.sock", serve),
            ("/etc/weir/pki", folder.path().join("pki").display().to_string()),
        ]);
        let config = folder.path().join("weir.toml");
        fs::write(&config, configuration(&places, folder, &text)).unwrap();
        // Where there is no data plane, functions in processes of their own have their state.
        let line = format!("exec weir-control --config {}", config.display());
        let command = shell(&line, folder.path(), Some(&namespace));
        let log = folder.path().join("log");
        let mut sidecar = Process::spawn("weir-control", &command, &log).unwrap();
        sidecar.wait_for_socket(&folder.path().join("control.sock"), LIMIT).unwrap();
        sidecars.push(sidecar);
    }
    let asking = asking();
    let flows = |counter: &Counter| asking.block_on(counter.flows());
    feed(&counters[0]);
    let all = until("all packets to be counted", LIMIT, || {
        Some(flows(&counters[0])).filter(|flows| flows.len() == FLOWS)
    })
    .unwrap();
    let moves = inline(&document(README));
    let [line] = moves.iter().filter(|span| span.contains("edge-2/")).collect::<Vec<_>>()[..]
    else {
        panic!("{moves:?}")
    };
    println!("{}", succeeds(shell(line, folders[0].path(), None)));
    let is_of_prefix = |key: &FlowKey| {
        [key.src(), key.dst()].iter().any(|address| address.to_string().starts_with("10.0.1."))
    };
    let (there, here): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.into_iter().partition(|(key, _)| is_of_prefix(key));
    assert!(!there.is_empty() && !here.is_empty());
    assert_eq!((flows(&counters[0]), flows(&counters[1])), (here, there));
    for folder in &folders {
        let listed = succeeds(shell("weir operation list", folder.path(), None));
        assert!(listed.contains("done") && listed.contains("ids-b"), "{listed}");
    }
}
