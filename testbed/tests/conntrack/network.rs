//! A client and a server with two kernels that translate between them, and a relay that steers.
//!
//! ```text
//! client ── relay ══ kernel A ══ relay ── server      A and B have the same addresses, both of
//!                 ══ kernel B ══                      the network and of the link
//! ```

use weir_testbed::command::{ip, run};
use weir_testbed::namespace::Namespace;
use weir_testbed::veth::{End, Veth};

use crate::figures::devices;
use crate::relay::{Order, Ports, Relay};

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
add rule inet weir out oifname outer SOURCE; \
add chain inet weir in { type nat hook prerouting priority -100; }; \
add rule inet weir in iifname inner tcp dport 8080 dnat ip to 203.0.113.2:5001; \
add counter inet weir strangers; \
add chain inet weir pass { type filter hook forward priority 0; }; \
add rule inet weir pass ct state invalid counter name strangers drop; \
add rule inet weir pass tcp dport 5001 ct mark set 77; \
add ct helper inet weir ftp { type \"ftp\" protocol tcp; }; \
add rule inet weir pass tcp dport 21 ct helper set \"ftp\"; \
add chain inet weir early { type filter hook prerouting priority -300; }; \
add rule inet weir early udp dport 53 ct zone set 5; \
add rule inet weir early udp sport 53 ct zone set 5; \
add chain inet weir own { type filter hook input priority 0; }; \
add rule inet weir own ct state invalid counter name strangers";

/// The rules of a kernel that translates sources so.
pub(crate) fn rules(source: &str) -> String {
    RULES.replace("SOURCE", source)
}

/// Hosts, two kernels that translate, and what is between them. Dropped in this order.
pub(crate) struct Network {
    pub(crate) relay: Relay,
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
    pub(crate) kernels: [Namespace; 2],
    _cables: Vec<Veth>,
    switch: Namespace,
    /// Frames that came before the relay did.
    pub(crate) missed_at_start: u64,
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
            run(kernel.command("nft").arg(rules("masquerade fully-random"))).unwrap();
            know_neighbours(kernel);
        }
        for gateway in ["route add default via 10.1.0.1", "-6 route add default via fd01::1"] {
            client.run(&format!("ip {gateway}")).unwrap();
        }
        let ports = Ports { hosts: ["client", "server"], kernels: KERNEL_PORTS };
        let relay = Relay::start(&switch, &ports);
        let kernels = [a, b];
        let mut network =
            Self { relay, client, server, kernels, _cables: cables, switch, missed_at_start: 0 };
        // The fewest: what is on its way to the relay is not missed.
        network.missed_at_start = (0..50).map(|_| network.missed()).min().unwrap();
        network
    }

    /// Frames that the devices of the switch have received, and the relay has not.
    pub(crate) fn missed(&self) -> u64 {
        let received = self.relay.tell(Order::Tell).received;
        devices(&self.switch).1.saturating_sub(received)
    }

    /// Every namespace there is.
    pub(crate) fn namespaces(&self) -> [&Namespace; 5] {
        let [a, b] = &self.kernels;
        [&self.client, &self.server, a, b, &self.switch]
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
