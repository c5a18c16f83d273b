//! Nodes with the configuration of the README, and the commands that follow it.

use std::fs;
use std::process::Stdio;

use weir_testbed::folder::Folder;
use weir_testbed::process::Process;
use weir_testbed::sidecar::Sidecar;
use weir_testbed::topology::Topology;
use weir_testbed::wait::{LIMIT, until};

use super::text::{blocks, document};
use super::{Places, README, Runs, said, shell, succeeds, those};
use crate::southbound::Steady;

/// The blocks of configuration, by their place in the README.
pub(super) const ROUTER: usize = 0;
const FUNCTIONS: usize = 2;
pub(super) const PROCESS: usize = 3;
pub(super) const LEGS: usize = 4;
pub(super) const PEER: usize = 5;
pub(super) const NETWORK: usize = 6;

/// A node between the hosts of a topology, both processes as the README starts them. Dropped in this
/// order.
pub(super) struct Router {
    _processes: Vec<Process>,
    pub(super) topology: Topology,
    pub(super) folder: Folder,
}

impl Router {
    /// With these tables; devices are those of the topology, and files are in a folder.
    pub(super) fn start(tables: &str) -> Self {
        Self::between(Topology::new(2).unwrap(), Folder::new().unwrap(), tables)
    }

    pub(super) fn between(topology: Topology, folder: Folder, tables: &str) -> Self {
        let path = folder.path();
        let places = Places::new(path);
        fs::write(path.join("weir.toml"), configuration(&places, &folder, tables)).unwrap();
        fs::create_dir(path.join("logs")).unwrap();
        // An address that is on no port of Weir, for the API over the network.
        topology.router.run("ip address add 192.0.2.1/32 dev lo").unwrap();
        let mut processes = Vec::new();
        for line in those(Runs::Node) {
            let command =
                shell(&format!("exec {}", places.put(&line)), path, Some(&topology.router));
            let name = if line.starts_with("weir-dataplane") { "dataplane" } else { "control" };
            let mut process = Process::spawn(name, &command, &path.join(name)).unwrap();
            process.wait_for_socket(&path.join(format!("{name}.sock")), LIMIT).unwrap();
            processes.push(process);
        }
        // The sidecar is dropped first.
        processes.reverse();
        let sidecar = Sidecar::connect(&path.join("control.sock")).unwrap();
        sidecar.wait_until_connected().unwrap();
        Self { _processes: processes, topology, folder }
    }

    /// Runs a command, which has to succeed; what it has said. Where it has no end, it is ended once
    /// the sidecar says that it goes on.
    pub(super) fn run(&self, line: &str) -> String {
        let command =
            || shell(&Places::new(self.folder.path()).put(line), self.folder.path(), None);
        if !line.contains("--every") && !line.starts_with("weir notify") {
            return succeeds(command());
        }
        let before = self.running();
        let mut child = command().stdout(Stdio::null()).spawn().unwrap();
        let seen = until(line, LIMIT, || {
            let is_new = self.running().iter().any(|number| !before.contains(number));
            (is_new || child.try_wait().unwrap().is_some()).then_some(())
        });
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        seen.unwrap();
        assert_eq!(ended, None, "{line} does not go on");
        format!("{line} goes on")
    }

    /// Numbers of the operations in progress.
    fn running(&self) -> Vec<String> {
        let listed = self.run("weir operation list --running");
        let numbers = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        numbers.map(str::to_owned).collect()
    }

    /// Asserts that the README says that a command is refused, and that it is, for this reason.
    fn refuses(&self, sentence: &str, line: &str, why: &str) {
        assert!(document(README).contains(sentence), "the README does not say: {sentence}");
        let output = shell(line, self.folder.path(), None).output().unwrap();
        let said = said(&output);
        assert!(!output.status.success() && said.contains(why), "{line}: {why:?} is not in {said}");
    }
}

/// A block of configuration of the README.
pub(super) fn tables(number: usize) -> String {
    blocks(&document(README), "toml").swap_remove(number)
}

/// A router with the network functions of the README without its NAT, of which filters name hosts;
/// what the firewall's rules do not name may begin, so that there is traffic.
pub(super) fn functions() -> String {
    let all = tables(FUNCTIONS);
    let (functions, nat) = all.split_once("[[nf]]\nkind = \"nat\"").unwrap();
    assert!(nat.contains("[[nf.source]]") && functions.contains("rest: reject any"));
    tables(ROUTER) + &functions.replace("rest: reject any", "rest: accept any")
}

/// The tables in a file, where there are other cores and devices, and files are in a folder.
pub(super) fn configuration(places: &Places, folder: &Folder, tables: &str) -> String {
    let text = places.put(tables).replace("device = \"eth", "device = \"sap");
    let lines = text.lines().filter(|line| !line.starts_with("core = "));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let folder = folder.path().display();
    let own = format!(
        "[control]\nsocket = \"{folder}/control.sock\"\n\
         dataplane_socket = \"{folder}/dataplane.sock\"\nstore = \"{folder}/control.db\"\n"
    );
    let text = match text.contains("[control]\n") {
        true => text.replacen("[control]\n", &own, 1),
        false => text + &own,
    };
    format!("{text}\n[dataplane]\nsocket = \"{folder}/dataplane.sock\"\n")
}

/// Makes the certificates of the README.
fn make_certificates(folder: &Folder) {
    for line in those(Runs::Pki) {
        succeeds(shell(&Places::new(folder.path()).put(&line), folder.path(), None));
    }
}

#[test]
fn its_configuration_is_accepted_with_the_certificates_that_its_commands_make() {
    let folder = Folder::new().unwrap();
    make_certificates(&folder);
    let places = Places::new(folder.path());
    let all = blocks(&document(README), "toml").join("\n");
    fs::write(folder.path().join("weir.toml"), configuration(&places, &folder, &all)).unwrap();
    for line in those(Runs::Check) {
        let said = succeeds(shell(&places.put(&line), folder.path(), None));
        assert!(said.starts_with("ok\n"), "{line}: {said}");
    }
}

#[test]
#[ignore = "needs root"]
fn its_commands_succeed_on_a_router() {
    let router = Router::start(&tables(ROUTER));
    let commands = those(Runs::Router);
    assert!(commands.len() >= 10, "{commands:?}");
    for line in commands {
        if line == "weir doctor" {
            // A machine may lack something.
            let output = shell(&line, router.folder.path(), None).output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 9)), "{}", said(&output));
            continue;
        }
        assert!(!router.run(&line).is_empty(), "{line} says nothing");
    }
    let error = blocks(&document(README), "json").concat();
    let mut asked = shell("weir port show p9 -o json", router.folder.path(), None);
    let output = asked.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), error.trim());
}

#[test]
#[ignore = "needs root"]
fn its_commands_succeed_on_a_router_with_network_functions() {
    let router = Router::start(&functions());
    let _traffic = Steady::start(&router.topology);
    router.run("weir scale --to 2 --wait");
    for line in those(Runs::Functions) {
        assert!(!router.run(&line).is_empty(), "{line} says nothing");
    }
    until("the share", LIMIT, || router.run("weir operation list").contains("share").then_some(()))
        .unwrap();
    let share = "While flows are shared they are not moved";
    router.refuses(share, "weir move --from 1 --to 2 --filter src=10.0.1.0/24", "is in the way");
    router.refuses(
        "the node is not scaled",
        "weir scale --to 1 --wait",
        "cannot scale while instances share state",
    );
}

#[test]
#[ignore = "needs root"]
fn behind_its_nat_is_refused_what_it_says() {
    let router = Router::start(&(tables(ROUTER) + &tables(FUNCTIONS)));
    router.run("weir scale --to 2 --wait");
    assert!(router.run("weir nf list").contains("nat"));
    let begin = "weir move --from 1 --to 2 --filter";
    router.refuses(
        "of which a packet has one or the other, they are refused",
        &format!("{begin} src=10.0.1.0/24"),
        "on one side of the NAT only",
    );
    router.run(&format!("{begin} dst=198.51.100.7/32"));
    router.refuses(
        "which instances with network functions refuse",
        &format!("{begin} dst=198.51.100.7/32,symmetric=false"),
        "leave symmetric=false out",
    );
    router.refuses(
        "Where there is a NAT, strict shares are refused",
        "weir share --instances 1,2 --filter src=10.0.0.0/8 --mode strict",
        "ask for a strong share",
    );
}

#[test]
#[ignore = "needs root"]
fn between_processes_without_legs_a_move_that_promises_anything_is_refused() {
    let one = tables(PROCESS);
    let two = one.replace("ids-a", "ids-b");
    let router = Router::start(&(tables(ROUTER) + &one + &two));
    router.refuses(
        "Without legs nothing holds the packets of a process, and a move must say `--guarantee none`",
        "weir move --from ids-a --to ids-b --filter any",
        "NOT_LOSS_FREE",
    );
    let listed = router.run("weir nf processes");
    assert!(listed.contains("ids-a") && listed.contains("ids-b"), "{listed}");
}

#[test]
#[ignore = "needs root"]
fn its_kit_finds_no_broken_rule_in_an_instance_under_traffic() {
    let router = Router::start(&functions());
    let _traffic = Steady::start(&router.topology);
    for line in those(Runs::InstanceKit) {
        let said = router.run(&line);
        println!("{}", said.lines().last().unwrap());
        assert!(!said.contains("FAIL"), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn it_is_reached_over_the_network_with_the_certificates_that_its_commands_make() {
    let folder = Folder::new().unwrap();
    make_certificates(&folder);
    let tables = tables(ROUTER) + &tables(NETWORK);
    let router = Router::between(Topology::new(2).unwrap(), folder, &tables);
    for line in those(Runs::Remote) {
        // Where the certificates are.
        let pki = router.folder.path().join("pki");
        let said = succeeds(shell(&line, &pki, Some(&router.topology.router)));
        assert!(said.contains("data plane"), "{said}");
        let as_server = line.replace("alice", "edge-1");
        let output = shell(&as_server, &pki, Some(&router.topology.router)).output().unwrap();
        assert!(!output.status.success(), "a server is no operator");
    }
}
