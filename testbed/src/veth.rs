//! A cable between two namespaces: a veth pair.

use anyhow::Result;

use crate::command::ip;
use crate::namespace::Namespace;

/// One end of a cable: where it is, what it is called, and its addresses.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace it is in.
    pub namespace: &'a Namespace,
    /// The device name there, at most 15 characters.
    pub device: &'a str,
    /// Its link-layer address, as in `02:00:00:00:01:02`.
    pub mac: &'a str,
    /// Its addresses with prefix length; none for an end that the kernel is not to answer at.
    pub addresses: &'a [String],
}

/// A veth pair, removed when dropped.
#[derive(Debug)]
pub struct Veth {
    namespace: String,
    device: String,
}

impl Veth {
    /// Joins two namespaces by a pair that is up, each end with `queues` rx and tx queues.
    ///
    /// # Errors
    /// When a device of that name is there already, or an address is refused.
    pub fn new(one: End<'_>, other: End<'_>, queues: u32) -> Result<Self> {
        let count = format!("numrxqueues {queues} numtxqueues {queues}");
        ip(&format!(
            "link add {} netns {} address {} {count} type veth peer name {} netns {} address {} {count}",
            one.device,
            one.namespace.name(),
            one.mac,
            other.device,
            other.namespace.name(),
            other.mac,
        ))?;
        let veth =
            Self { namespace: one.namespace.name().to_owned(), device: one.device.to_owned() };
        for end in [one, other] {
            let namespace = end.namespace.name();
            for address in end.addresses {
                ip(&format!("-n {namespace} address add {address} dev {}", end.device))?;
            }
            ip(&format!("-n {namespace} link set {} up", end.device))?;
        }
        Ok(veth)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // The pair is gone already when one of its namespaces went first.
        let _already_gone = ip(&format!("-n {} link del {}", self.namespace, self.device));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn two_namespaces_reach_each_other_over_ipv4_and_ipv6_at_once() {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let here_addresses = ["10.9.0.1/24".to_owned(), "fd09::1/64".to_owned()];
        let there_addresses = ["10.9.0.2/24".to_owned(), "fd09::2/64".to_owned()];
        let end = |namespace, mac, addresses| End { namespace, device: "eth0", mac, addresses };
        let veth = Veth::new(
            end(&here, "02:00:00:00:09:01", &here_addresses),
            end(&there, "02:00:00:00:09:02", &there_addresses),
            2,
        )
        .unwrap();
        here.run("ping -c 1 -W 5 10.9.0.2").unwrap();
        here.run("ping -c 1 -W 5 fd09::2").unwrap();
        drop(veth);
        assert!(!there.run("ip link").unwrap().contains("eth0"));
    }
}
