//! A client and a server with two kernels that translate between them, and a relay that steers.
//!
//! ```text
//! client ── relay ══ kernel A ══ relay ── server      A and B have the same addresses, both of
//!                 ══ kernel B ══                      the network and of the link
//! ```

use weir_testbed::command::{ip, run};
use weir_testbed::namespace::Namespace;
use weir_testbed::veth::{End, Veth};

use crate::relay::{Ports, Relay};

pub(crate) const CLIENT: [&str; 2] = ["10.1.0.2", "fd01::2"];
pub(crate) const SERVER: [&str; 2] = ["203.0.113.2", "fd02::2"];
const INSIDE: [&str; 2] = ["10.1.0.1", "fd01::1"];
const OUTSIDE: [&str; 2] = ["203.0.113.1", "fd02::1"];
const INSIDE_MAC: &str = "02:00:00:00:0c:01";
const OUTSIDE_MAC: &str = "02:00:00:00:0c:02";

/// How the kernels translate, and what they count: connections that go out get the outer address and
/// a port at random, so that a kernel that knows nothing of a connection can not guess right.
const RULES: &str = "\
add table inet weir; \
add chain inet weir out { type nat hook postrouting priority 100; }; \
add rule inet weir out oifname outer masquerade fully-random; \
add chain inet weir in { type nat hook prerouting priority -100; }; \
add rule inet weir in iifname inner tcp dport 8080 dnat ip to 203.0.113.2:5001; \
add counter inet weir strangers; \
add chain inet weir pass { type filter hook forward priority 0; }; \
add rule inet weir pass ct state invalid counter name strangers drop; \
add rule inet weir pass ct mark 77 counter; \
add chain inet weir own { type filter hook input priority 0; }; \
add rule inet weir own ct state invalid counter name strangers";

/// Hosts, two kernels that translate, and what is between them. Dropped in this order.
pub(crate) struct Network {
    pub(crate) relay: Relay,
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
    pub(crate) kernels: [Namespace; 2],
    _cables: Vec<Veth>,
    pub(crate) switch: Namespace,
}

impl Network {
    pub(crate) fn new() -> Self {
        let switch = Namespace::new().unwrap();
        switch.set("net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let [client, server, a, b] = [(); 4].map(|()| Namespace::new().unwrap());
        let mut cables = Vec::new();
        let mut cable = |namespace, device, mac, addresses: [&str; 2], port| {
            let addresses = [format!("{}/24", addresses[0]), format!("{}/64", addresses[1])];
            let host = End { namespace, device, mac, addresses: &addresses };
            let number = cables.len();
            let mac = format!("02:00:00:00:0d:{number:02x}");
            let end = End { namespace: &switch, device: port, mac: &mac, addresses: &[] };
            cables.push(Veth::new(host, end, 1).unwrap());
            // Every frame is whole and summed up when the relay has it.
            let off = format!("ethtool -K {device} tx off rx off tso off gso off gro off sg off");
            namespace.run(&off).unwrap();
            switch.run(&format!("ethtool -K {port} gro off gso off")).unwrap();
        };
        cable(&client, "eth0", "02:00:00:00:0c:03", CLIENT, "client");
        cable(&server, "eth0", "02:00:00:00:0c:04", SERVER, "server");
        for (kernel, inner, outer) in [(&a, "inner-a", "outer-a"), (&b, "inner-b", "outer-b")] {
            cable(kernel, "inner", INSIDE_MAC, INSIDE, inner);
            cable(kernel, "outer", OUTSIDE_MAC, OUTSIDE, outer);
            kernel.set("net/ipv4/ip_forward", "1").unwrap();
            kernel.set("net/ipv6/conf/all/forwarding", "1").unwrap();
            run(kernel.command("nft").arg(RULES)).unwrap();
            know_neighbours(kernel);
        }
        for gateway in ["route add default via 10.1.0.1", "-6 route add default via fd01::1"] {
            client.run(&format!("ip {gateway}")).unwrap();
        }
        let ports = Ports { hosts: ["client", "server"], kernels: KERNEL_PORTS };
        let relay = Relay::start(&switch, &ports);
        Self { relay, client, server, kernels: [a, b], _cables: cables, switch }
    }
}

const KERNEL_PORTS: [[&str; 2]; 2] = [["inner-a", "outer-a"], ["inner-b", "outer-b"]];

/// The kernel that is not steered to is asked no questions, so it has to know who is where.
fn know_neighbours(kernel: &Namespace) {
    let hosts = [(CLIENT, "inner", "02:00:00:00:0c:03"), (SERVER, "outer", "02:00:00:00:0c:04")];
    for (addresses, device, mac) in hosts {
        for address in addresses {
            let name = kernel.name();
            ip(&format!("-n {name} neigh replace {address} lladdr {mac} dev {device}")).unwrap();
        }
    }
}
