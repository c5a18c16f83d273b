//! The kernel's own connection tracking in two network namespaces.

use anyhow::Result;
use weir_nf_api::client::Client;
use weir_state_transfer::chunk::Scope;

use super::pair::{Pair, Wanted};
use super::served::Served;
use super::table::Row;
use super::{Plan, flows};
use crate::command::run;
use crate::namespace::Namespace;
use crate::topology::Topology;
use crate::wait::LIMIT;

/// Has the kernel track what it forwards, and translate it.
const RULES: &str = "\
add table inet weir; \
add chain inet weir out { type nat hook postrouting priority 100; }; \
add rule inet weir out masquerade fully-random; \
add chain inet weir pass { type filter hook forward priority 0; }; \
add rule inet weir pass ct state invalid drop";
/// How long a flow is known that has no answer, in seconds.
const FLOW_TIMEOUT: &str = "3600";

/// Measures it.
///
/// # Errors
/// As [`super::run`].
pub(super) fn measure(flows: usize, plan: &Plan) -> Result<Row> {
    let topology = Topology::new(1)?;
    topology.forward_by_kernel()?;
    let other = Namespace::new()?;
    for kernel in [&topology.router, &other] {
        run(kernel.command("nft").arg(RULES))?;
    }
    topology.router.set("net/netfilter/nf_conntrack_udp_timeout", FLOW_TIMEOUT)?;
    let agent =
        |kernel| Served::start(kernel, "weir-nf-conntrack", "--socket", &["--set-accounting"]);
    let agents = [agent(&topology.router)?, agent(&other)?];
    let flows = flows::make(&topology, flows, plan.seed)?;
    let pair = Pair::new(|| agents.each_ref().map(|agent| Client::unix(&agent.socket(), LIMIT)))?;
    let wanted =
        Wanted { function: "conntrack", scope: Scope::PerFlow, filter: "proto=udp", flows };
    pair.measure(&wanted, plan)
}
