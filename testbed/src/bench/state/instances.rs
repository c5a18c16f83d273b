//! The network functions of a data plane: one of each kind in two instances.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_nf_api::client::{Client, connect};
use weir_state_transfer::chunk::Scope;

use super::pair::{Pair, Wanted};
use super::table::Row;
use super::{Plan, flows};
use crate::node::{Node, Shape};
use crate::topology::Topology;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(30);

/// A function, and the table of the configuration file that it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    name: &'static str,
    table: &'static str,
}

/// All that there are. The NAT translates every flow.
pub(super) const FUNCTIONS: [Function; 4] = [
    Function { name: "firewall", table: "kind = \"firewall\"\nrules = [\"all: accept any\"]\n" },
    Function {
        name: "nat",
        table: "kind = \"nat\"\n\
                [[nf.source]]\nfrom = \"10.0.1.0/24\"\npool = [\"10.0.2.1\"]\n\
                [[nf.source]]\nfrom = \"10.0.2.0/24\"\npool = [\"10.0.1.1\"]\n\
                [[nf.source]]\nfrom = \"fd00:1::/64\"\npool = [\"fd00:2::1\"]\n\
                [[nf.source]]\nfrom = \"fd00:2::/64\"\npool = [\"fd00:1::1\"]\n",
    },
    Function { name: "assets", table: "kind = \"assets\"\n" },
    Function { name: "ids", table: "kind = \"ids\"\n" },
];

/// Measures a function.
///
/// # Errors
/// As [`super::run`].
pub(super) fn measure(function: &Function, flows: usize, plan: &Plan) -> Result<Row> {
    let Function { name, table } = *function;
    let topology = Topology::new(1)?;
    let tables = format!("[[nf]]\n{table}");
    let shape = Shape { workers: vec![None], queues: 1, tables, ..Shape::default() };
    let node = Node::start(&topology, &shape, None)?;
    let dataplane = node.connect()?;
    let first = dataplane.instances()?.first().context("a node has an instance")?.id;
    let second = dataplane.add_instance("second")?.id;
    let flows = flows::make(&topology, flows, plan.seed)?;
    let pair = Pair::new(|| {
        let channel = connect(&node.socket(), CALL, Arc::default());
        [first, second].map(|id| Client::instance(channel.clone(), id, None, CALL))
    })?;
    // The hosts have found each other by other packets before.
    let wanted = Wanted { function: name, scope: Scope::PerFlow, filter: "proto=udp", flows };
    let row = pair.measure(&wanted, plan)?;
    node.stop()?;
    Ok(row)
}
