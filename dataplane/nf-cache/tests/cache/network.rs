//! A client and two hosts with the same address, in network namespaces.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where clients and their origin are, and the gateways to both hosts.
pub(crate) const CLIENT: &str = "10.9.0.2";
const HOSTS: [&str; 2] = ["10.9.0.11", "10.9.0.12"];
/// The address of the proxy, on both hosts.
const PROXY: &str = "10.9.9.1";
/// The routing table by which flows are steered to the second host.
const TABLE: &str = "100";

/// A client and two hosts on one network, in namespaces of their own that go at the end.
pub(crate) struct Network(Vec<String>);

impl Network {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = |what: &str| format!("weir-cache-{process}-{count}-{what}");
        let network = Self(["client", "one", "two", "switch"].map(name).into());
        network.0.iter().for_each(|name| ip(&["netns", "add", name]));
        let switch = network.0[3].as_str();
        ip(&["-n", switch, "link", "add", "br0", "up", "type", "bridge"]);
        for (number, address) in [CLIENT, HOSTS[0], HOSTS[1]].iter().enumerate() {
            let (port, own) = (format!("port{number}"), network.0[number].as_str());
            ip(&["-n", switch, "link", "add", &port, "type", "veth", "peer", "eth0", "netns", own]);
            ip(&["-n", switch, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", own, "link", "set", "lo", "up"]);
            ip(&["-n", own, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", own, "link", "set", "eth0", "up"]);
            if number > 0 {
                ip(&["-n", own, "address", "add", &format!("{PROXY}/32"), "dev", "lo"]);
            }
        }
        let client = network.0[0].as_str();
        ip(&["-n", client, "route", "add", PROXY, "via", HOSTS[0]]);
        ip(&["-n", client, "route", "add", PROXY, "via", HOSTS[1], "table", TABLE]);
        network
    }

    pub(crate) fn host(&self, number: usize) -> &str {
        &self.0[number]
    }

    /// Does something on a thread that is where the clients are.
    pub(crate) fn at_client<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.0[0])).expect("a namespace");
        let (told, heard) = mpsc::channel();
        thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("root may");
            told.send(what()).expect("it is waited for");
        });
        heard.recv().expect("it does not panic")
    }

    /// Steers a flow of the client, by its port, to the second host, or back to the first.
    pub(crate) fn steer(&self, port: u16, to_second: bool) {
        let verb = if to_second { "add" } else { "del" };
        let port = port.to_string();
        ip(&["-n", &self.0[0], "rule", verb, "ipproto", "tcp", "sport", &port, "lookup", TABLE]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.0 {
            let _removed = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("there is ip");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {error}", arguments.join(" "));
}
