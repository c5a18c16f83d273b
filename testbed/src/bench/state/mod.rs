//! What it costs to get the state of one flow from a network function and to put it into another:
//! OpenNF's figure 12, over the southbound API that a controller uses.
//!
//! Each row is of two network functions of one kind, in processes of their own or instances of one
//! data plane. In a round all state is got from the first, put into the second, and deleted there,
//! so that each round is like the others.

mod cache;
mod conntrack;
mod flows;
mod instances;
mod origin;
mod pair;
mod served;
mod table;

use anyhow::{Result, ensure};

pub use table::Table;

/// How much to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times that all state is got and put; one more before these is not counted.
    pub rounds: usize,
    /// The numbers of flows, or of cached objects, to measure with: 1 to 20,000, the least first.
    pub flows: Vec<usize>,
    /// Client connections of the cache, 1 to 16,384: each takes a descriptor of this process.
    pub connections: usize,
    /// Where everything random comes from.
    pub seed: u64,
}

/// Flows that two hosts have ports for, and connections that a cache may have.
const FLOWS_MAX: usize = 20_000;
const CONNECTIONS_MAX: usize = 16_384;

/// Measures every network function that there is.
///
/// # Errors
/// For a plan that is out of bounds, without root, when a process does not come up, or when state is
/// missing or refused.
pub fn run(plan: &Plan) -> Result<Table> {
    let Plan { rounds, flows, connections, .. } = plan;
    ensure!(*rounds > 0, "there must be a round");
    let is_right = flows.iter().all(|flows| (1..=FLOWS_MAX).contains(flows));
    ensure!(is_right, "{flows:?} flows: expected 1 to {FLOWS_MAX}");
    let is_right = (1..=CONNECTIONS_MAX).contains(connections);
    ensure!(is_right, "{connections} connections: expected 1 to {CONNECTIONS_MAX}");
    let mut rows = Vec::new();
    for flows in flows {
        for function in &instances::FUNCTIONS {
            rows.push(instances::measure(function, *flows, plan)?);
        }
        rows.push(conntrack::measure(*flows, plan)?);
    }
    rows.extend(cache::measure(plan)?);
    Ok(Table::new(plan, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_out_of_bounds_is_refused_by_what_is() {
        let plan = |rounds, flows, connections| Plan { rounds, flows, connections, seed: 1 };
        for (plan, why) in [
            (plan(0, vec![1], 1), "there must be a round"),
            (plan(1, vec![1, 20_001], 1), "[1, 20001] flows: expected 1 to 20000"),
            (plan(1, vec![0], 1), "[0] flows: expected"),
            (plan(1, vec![1], 0), "0 connections: expected 1 to 16384"),
        ] {
            let error = run(&plan).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn the_state_of_every_network_function_is_got_and_put() {
        let plan = Plan { rounds: 2, flows: vec![40, 80], connections: 20, seed: 1 };
        let table = run(&plan).unwrap();
        println!("{table}");
        let found: Vec<_> = table.rows().map(|row| (row.function, row.flows)).collect();
        let mut expected = Vec::new();
        for flows in [40, 80] {
            let functions = ["firewall", "nat", "assets", "ids", "conntrack"];
            expected.extend(functions.map(|function| (function, flows)));
        }
        expected.extend([("cache", 40), ("cache", 80), ("cache", 20)]);
        assert_eq!(found, expected);
        let is_measured = |row: &table::Row| {
            let mut times = row.get_us.iter().chain(&row.put_us);
            times.all(|us| *us > 0.0) && [row.get_us.len(), row.put_us.len()] == [2, 2]
        };
        assert!(table.rows().all(|row| is_measured(row) && row.bytes > 20.0));
    }
}
