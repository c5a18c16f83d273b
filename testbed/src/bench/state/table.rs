//! The figures of all network functions, as a table.

use std::fmt;

use weir_state_transfer::chunk::Scope;

use super::Plan;
use crate::bench::quartiles::quartiles;

/// What the rounds have shown.
#[derive(Clone, Debug)]
pub struct Table {
    plan: Plan,
    rows: Vec<Row>,
}

/// The figures of one network function with so many flows, by round.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) function: &'static str,
    pub(super) scope: Scope,
    /// Pieces of state: each is of one flow, or of one object of a client.
    pub(super) flows: usize,
    /// Microseconds a flow.
    pub(super) get_us: Vec<f64>,
    pub(super) put_us: Vec<f64>,
    /// Of a chunk, as it travels, on average.
    pub(super) bytes: f64,
}

impl Table {
    pub(super) fn new(plan: &Plan, rows: Vec<Row>) -> Self {
        Self { plan: plan.clone(), rows }
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { rounds, seed, .. } = self.plan;
        writeln!(
            f,
            "State of a flow over the southbound API, microseconds a flow: median (quartiles) of \
             {rounds} rounds, seed {seed}\n"
        )?;
        writeln!(
            f,
            "{:<10}{:<12}{:>7}{:>26}{:>26}{:>8}",
            "function", "scope", "flows", "get", "put", "bytes"
        )?;
        for row in &self.rows {
            let [get, put] = [&row.get_us, &row.put_us].map(|us| spread(us));
            let Row { function, flows, bytes, .. } = row;
            let scope = scope(row.scope);
            writeln!(f, "{function:<10}{scope:<12}{flows:>7}{get:>26}{put:>26}{bytes:>8.0}")?;
        }
        Ok(())
    }
}

fn spread(us: &[f64]) -> String {
    let [low, median, high] = quartiles(us);
    format!("{median:.2} ({low:.2} to {high:.2})")
}

/// As filters and commands name it.
fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::PerFlow => "per-flow",
        Scope::MultiFlow => "multi-flow",
        Scope::AllFlows => "all-flows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_and_quartiles_of_a_flow() {
        let plan = Plan { rounds: 3, flows: vec![500], connections: 0, seed: 9 };
        let row = Row {
            function: "firewall",
            scope: Scope::PerFlow,
            flows: 500,
            get_us: vec![3.0, 1.0, 2.0],
            put_us: vec![4.0, 4.0, 4.5],
            bytes: 99.6,
        };
        let shown = Table::new(&plan, vec![row]).to_string();
        let words: Vec<_> = shown.lines().last().unwrap().split_whitespace().collect();
        let expected = "firewall per-flow 500 2.00 (2.00 to 3.00) 4.00 (4.00 to 4.50) 100";
        assert_eq!(words.join(" "), expected);
        assert!(shown.contains("3 rounds, seed 9"), "{shown}");
    }
}
