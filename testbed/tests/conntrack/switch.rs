//! Weir as the switch between two hosts and one of two kernels, and its sidecar that moves.
//!
//! ```text
//! client ── Weir ══ kernel A ══ Weir ── server        each cable is a network of its own; both kernels
//!                ══ kernel B ══                       translate to the same public addresses
//! ```

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use weir_api::dataplane::v1::Guarantee;
use weir_api::v1::state_service_client::StateServiceClient;
use weir_api::v1::{
    CancelStateOperationRequest, ListStateOperationsRequest, MoveRequest, StateOperation,
    StateOperationState, move_request,
};
use weir_testbed::command::run;
use weir_testbed::dataplane::Dataplane;
use weir_testbed::folder::Folder;
use weir_testbed::namespace::Namespace;
use weir_testbed::process::{Process, sibling};
use weir_testbed::rpc::change;
use weir_testbed::sidecar::Sidecar;
use weir_testbed::veth::{End, Veth};
use weir_testbed::wait::{LIMIT, until};

use crate::agent::Agent;
use crate::network::{CLIENT, SERVER, rules};

/// What the kernels translate sources to. They are on no link: Weir leads what is sent there.
const PUBLIC: [&str; 2] = ["192.0.2.1", "fd99::1"];
/// Where a service of the server is published.
pub(crate) const SERVICE: &str = "198.51.100.1:8080";
/// The networks of the kernels' sides, as Weir numbers them.
const SIDES: [[&str; 2]; 2] = [["a-in", "a-out"], ["b-in", "b-out"]];
/// The kernels, as the sidecar calls them.
pub(crate) const NAMES: [&str; 2] = ["nat-a", "nat-b"];

/// Hosts, kernels and agents, and Weir between them. Dropped in this order.
pub(crate) struct Switch {
    sidecar_process: Option<Process>,
    _dataplane_process: Process,
    pub(crate) dataplane: Dataplane,
    _agents: [Agent; 2],
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
    pub(crate) kernels: [Namespace; 2],
    _cables: Vec<Veth>,
    pub(crate) weir: Namespace,
    folder: Folder,
}

impl Switch {
    /// Two workers that may hold so many packets each, and kernels that translate; traffic goes
    /// through the first.
    pub(crate) fn new(hold: u32) -> Self {
        let source = format!(
            "meta nfproto ipv4 snat ip to {} fully-random; \
             add rule inet weir out oifname outer meta nfproto ipv6 snat ip6 to {} fully-random",
            PUBLIC[0], PUBLIC[1]
        );
        Self::between([&rules(&source); 2], "anything", hold)
    }

    /// The same between kernels with these rules, which translate what is said.
    pub(crate) fn between(rules: [&str; 2], translates: &str, hold: u32) -> Self {
        let weir = Namespace::new().unwrap();
        weir.set("net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let [client, server, a, b] = [(); 4].map(|()| Namespace::new().unwrap());
        let mut cables = vec![
            cable(&weir, (&client, "eth0"), ("client", 3), CLIENT),
            cable(&weir, (&server, "eth0"), ("server", 4), SERVER),
        ];
        let kernels = [a, b];
        for (number, kernel) in kernels.iter().enumerate() {
            cables.extend(lay_kernel(&weir, kernel, number));
            run(kernel.command("nft").arg(rules[number])).unwrap();
        }
        for gateway in ["route add default via 10.1.0.1", "-6 route add default via fd01::1"] {
            client.run(&format!("ip {gateway}")).unwrap();
        }
        let gateways = ["route add default via 203.0.113.1", "-6 route add default via fd02::1"];
        for gateway in gateways {
            server.run(&format!("ip {gateway}")).unwrap();
        }
        let agents = kernels.each_ref().map(Agent::start);
        let folder = Folder::new().unwrap();
        let text = configuration(&folder, &agents, translates, hold);
        fs::write(folder.path().join("weir.toml"), text).unwrap();
        let mut command = weir.command(sibling("weir-dataplane").unwrap());
        command.arg("--config").arg(folder.path().join("weir.toml"));
        let log = folder.path().join("weir-dataplane.log");
        let mut process = Process::spawn("weir-dataplane", &command, &log).unwrap();
        process.wait_for_line("ready", LIMIT).unwrap();
        process.prefer();
        let dataplane = Dataplane::connect(&folder.path().join("dataplane.sock")).unwrap();
        Self {
            sidecar_process: None,
            _dataplane_process: process,
            dataplane,
            _agents: agents,
            client,
            server,
            kernels,
            _cables: cables,
            weir,
            folder,
        }
    }

    /// Starts a sidecar; one that stands still before a stage of a move, if it is named.
    pub(crate) fn start_sidecar(&mut self, pause_at: Option<&str>) -> Sidecar {
        let mut command = self.weir.command(sibling("weir-control").unwrap());
        command.arg("--config").arg(self.folder.path().join("weir.toml"));
        if let Some(stage) = pause_at {
            command.args(["--pause-at", stage]);
        }
        let log = self.folder.path().join("weir-control.log");
        // The store is of one at a time.
        drop(self.sidecar_process.take());
        let mut process = Process::spawn("weir-control", &command, &log).unwrap();
        process.wait_for_socket(&self.control_socket(), LIMIT).unwrap();
        self.sidecar_process = Some(process);
        let sidecar = Sidecar::connect(&self.control_socket()).unwrap();
        sidecar.wait_until_connected().unwrap();
        sidecar
    }

    /// Waits until the sidecar stands still in a move, and kills it (SIGKILL).
    pub(crate) fn kill_where_it_pauses(&mut self) {
        let mut process = self.sidecar_process.take().unwrap();
        process.wait_for_line("paused before this stage", LIMIT).unwrap();
        process.kill().unwrap();
    }

    /// Waits until the sidecar stands still in a move.
    pub(crate) fn wait_for_pause(&mut self) {
        let process = self.sidecar_process.as_mut().unwrap();
        process.wait_for_line("paused before this stage", LIMIT).unwrap();
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Packets that Weir has dropped, by reason.
    pub(crate) fn drops(&self) -> Vec<(String, u64)> {
        let counters = self.dataplane.counters().unwrap();
        counters.drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect()
    }

    /// Every namespace there is.
    pub(crate) fn namespaces(&self) -> [&Namespace; 5] {
        let [a, b] = &self.kernels;
        [&self.client, &self.server, a, b, &self.weir]
    }
}

/// Asks for a move of a filter between the two kernels.
pub(crate) fn asked(from: usize, filter: &str, guarantee: Guarantee) -> MoveRequest {
    MoveRequest {
        change: change(),
        from: NAMES[from].to_owned(),
        to: NAMES[1 - from].to_owned(),
        selection: Some(move_request::Selection::Filter(filter.to_owned())),
        scopes: Vec::new(),
        guarantee: guarantee.into(),
        limit_ns: Duration::from_secs(60).as_nanos() as u64,
    }
}

/// Makes a move and follows it to its end.
pub(crate) fn make_move(sidecar: &Sidecar, request: MoveRequest) -> StateOperation {
    let mut last = StateOperation::default();
    let seen = sidecar.rpc.follow(
        async |c| StateServiceClient::new(c).r#move(request).await,
        |seen| {
            last = seen.operation.unwrap_or_default();
            true
        },
    );
    seen.unwrap();
    last
}

/// Begins a move, and follows it no further.
pub(crate) fn begin_move(sidecar: &Sidecar, request: MoveRequest) -> StateOperation {
    let mut first = StateOperation::default();
    let seen = sidecar.rpc.follow(
        async |c| StateServiceClient::new(c).r#move(request).await,
        |seen| {
            first = seen.operation.unwrap_or_default();
            false
        },
    );
    seen.unwrap();
    first
}

pub(crate) fn cancel(sidecar: &Sidecar, id: u64) {
    let ask = CancelStateOperationRequest { change: change(), id };
    let cancelled =
        sidecar.rpc.call(async |c| StateServiceClient::new(c).cancel_operation(ask).await);
    cancelled.unwrap();
}

/// An operation, if the sidecar knows it.
pub(crate) fn find(sidecar: &Sidecar, id: u64) -> Option<StateOperation> {
    let ask = ListStateOperationsRequest::default();
    let listed = sidecar.rpc.call(async |c| StateServiceClient::new(c).list_operations(ask).await);
    listed.unwrap().operations.into_iter().find(|operation| operation.id == id)
}

/// Waits until an operation has ended that the sidecar knows, or is to take up.
pub(crate) fn wait_until_ended(sidecar: &Sidecar, id: u64) -> StateOperation {
    let ended = |operation: &StateOperation| {
        use StateOperationState::{Running, Undoing};
        !matches!(operation.state(), Running | Undoing)
    };
    until("the move to end", LIMIT, || find(sidecar, id).filter(ended)).unwrap()
}

/// A cable from Weir to a device of a namespace, which is the second station there.
fn cable(
    weir: &Namespace,
    (namespace, device): (&Namespace, &str),
    (port, number): (&str, usize),
    addresses: [&str; 2],
) -> Veth {
    let addresses = [format!("{}/24", addresses[0]), format!("{}/64", addresses[1])];
    let mac = format!("02:00:00:00:0c:{number:02x}");
    let host = End { namespace, device, mac: &mac, addresses: &addresses };
    let mac = format!("02:00:00:00:0d:{number:02x}");
    let end = End { namespace: weir, device: port, mac: &mac, addresses: &[] };
    let veth = Veth::new(host, end, 2).unwrap();
    // Packets are taken one by one and in order, so that an echo is behind what was sent before.
    let off = format!("ethtool -K {device} tso off gso off gro off");
    namespace.run(&off).unwrap();
    veth
}

/// A kernel with two sides, each a network with Weir.
fn lay_kernel(weir: &Namespace, kernel: &Namespace, number: usize) -> [Veth; 2] {
    let cables = [0, 1].map(|side| {
        let net = 2 * number + side + 1;
        let addresses = [format!("10.9.{net}.2"), format!("fd9{net}::2")];
        let addresses = addresses.each_ref().map(String::as_str);
        let device = ["inner", "outer"][side];
        cable(weir, (kernel, device), (SIDES[number][side], 16 + net), addresses)
    });
    let [inside, outside] = [2 * number + 1, 2 * number + 2];
    for route in [
        format!("route add 10.1.0.0/24 via 10.9.{inside}.1"),
        format!("route add default via 10.9.{outside}.1"),
        format!("-6 route add fd01::/64 via fd9{inside}::1"),
        format!("-6 route add default via fd9{outside}::1"),
    ] {
        kernel.run(&format!("ip {route}")).unwrap();
    }
    kernel.set("net/ipv4/ip_forward", "1").unwrap();
    kernel.set("net/ipv6/conf/all/forwarding", "1").unwrap();
    cables
}

fn configuration(folder: &Folder, agents: &[Agent; 2], translates: &str, hold: u32) -> String {
    let folder = folder.path().display();
    let mut text = format!(
        "[node]\nname = \"switch\"\n[dataplane]\nsocket = \"{folder}/dataplane.sock\"\n\
         workers_max = 2\n[moves]\nhold = {hold}\nmoves_max = 1\n\
         [control]\nsocket = \"{folder}/control.sock\"\n\
         dataplane_socket = \"{folder}/dataplane.sock\"\nstore = \"{folder}/control.db\"\n\
         [[worker]]\n[[worker]]\n"
    );
    let mut port = |name: &str, ipv4: &str, ipv6: &str| {
        text += &format!(
            "[[port]]\nname = \"{name}\"\nbackend = \"af_xdp\"\ndevice = \"{name}\"\nqueues = 2\n\
             rx_ring = 2048\ntx_ring = 1024\naddresses = [\"{ipv4}/24\", \"{ipv6}/64\"]\n"
        );
    };
    port("client", "10.1.0.1", "fd01::1");
    port("server", "203.0.113.1", "fd02::1");
    for (n, name) in SIDES.iter().flatten().enumerate() {
        port(name, &format!("10.9.{}.1", n + 1), &format!("fd9{}::1", n + 1));
    }
    for (name, from, side) in [("in", "client", 0), ("out", "server", 1)] {
        for (family, via) in vias(0, side) {
            text += &format!(
                "[[policy_route]]\nname = \"{name}{family}\"\nfrom = \"{from}\"\nvia = \"{via}\"\n\
                 port = \"{}\"\n",
                SIDES[0][side]
            );
        }
    }
    for (n, name) in NAMES.iter().enumerate() {
        let socket = agents[n].socket();
        text += &format!(
            "[[control.nf]]\nname = \"{name}\"\nsocket = \"{}\"\ntranslates = \"{translates}\"\n",
            socket.display()
        );
        for (name, from, side) in [("inside", "client", 0), ("outside", "server", 1)] {
            for (family, via) in vias(n, side) {
                text += &format!(
                    "[[control.nf.leg]]\nname = \"{name}{family}\"\nfrom = \"{from}\"\n\
                     via = \"{via}\"\nport = \"{}\"\n",
                    SIDES[n][side]
                );
            }
        }
    }
    text
}

/// The addresses of a side of a kernel, by family.
fn vias(kernel: usize, side: usize) -> [(u8, String); 2] {
    let net = 2 * kernel + side + 1;
    [(4, format!("10.9.{net}.2")), (6, format!("fd9{net}::2"))]
}
