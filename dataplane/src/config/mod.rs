//! The configuration: one TOML file for the data plane and its sidecar, checked whole before
//! anything is touched.
//!
//! The file holds boot facts only. Every key has a default and a bound, both in the documentation
//! of the field that it ends up in. Tables of the sidecar are left to the sidecar; anything else
//! that nothing reads is an error.

mod check;
mod document;
mod footprint;
mod forwarding;
mod machine;
mod name;
mod nat;
mod nf;
mod policy_route;
mod port;
mod process;
mod quota;
mod report;
mod route;
mod route_table;
mod section;
#[cfg(test)]
mod tests;
mod value;

use toml::de::DeTable;
use weir_state_transfer::southbound::EventLimits;

pub use forwarding::{FlowTable, Icmp, Instance, Moves, Neighbour, Shares, Steering};
pub use machine::Machine;
pub use name::{Name, NameError};
pub use nf::Nf;
pub use policy_route::PolicyRoute;
pub use port::{
    ADDRESSES_MAX, Backend, Checksums, DeviceName, PORTS_MAX, Port, QUEUES_MAX, Rings, Transmit,
};
pub use process::{INSTANCES_MAX, Memory, Process, WORKERS_MAX, Worker};
pub use quota::FRAMES_MAX;
pub use report::Report;
pub use route::Route;

use crate::route_table::RouteLimits;
use document::Document;
use report::{Finding, Findings};

/// Most `[[route]]` tables of a file.
pub const ROUTES_MAX: usize = 65_536;
/// Longest file, in bytes.
pub const FILE_MAX: usize = 16 << 20;

/// A configuration that has passed every check; there is no other way to make one.
#[derive(Clone, Debug)]
pub struct Config {
    node: Name,
    process: Process,
    workers: Vec<Worker>,
    memory: Memory,
    steering: Steering,
    flow_table: FlowTable,
    moves: Moves,
    shares: Shares,
    neighbour: Neighbour,
    events: EventLimits,
    icmp: Icmp,
    route_table: RouteLimits,
    instance: Instance,
    nfs: Vec<Nf>,
    ports: Vec<Port>,
    routes: Vec<Route>,
    policy_routes: Vec<PolicyRoute>,
}

impl Config {
    /// Reads and checks the bytes of a file; `path` is for messages, `machine` is what it must
    /// not ask more of. The report that comes with a configuration has warnings only.
    ///
    /// # Errors
    ///
    /// All that is wrong with the file.
    pub fn parse(path: &str, bytes: &[u8], machine: &Machine) -> Result<(Self, Report), Report> {
        let findings = Findings::default();
        if bytes.len() > FILE_MAX {
            let title = format!("the file is longer than {FILE_MAX} bytes");
            findings.push(Finding::error(0..0, title, "no more is read"));
            return Err(findings.into_report(path, ""));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                findings.push(Finding::error(at..at + 1, "the file is not UTF-8", "from here"));
                return Err(findings.into_report(path, &String::from_utf8_lossy(bytes)));
            }
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            findings.push(Finding::syntax(span, error.message()));
        }
        let left_out = DeTable::new();
        let config = Document::new(document.get_ref(), &left_out, &findings).read(machine);
        let report = findings.into_report(path, text);
        if report.has_errors() { Err(report) } else { Ok((config, report)) }
    }

    /// Name of the node; default `weir`.
    pub fn node(&self) -> &Name {
        &self.node
    }

    /// How the process is served and polls.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The workers from the start, at least one.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The frames.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// How packets are steered.
    pub fn steering(&self) -> &Steering {
        &self.steering
    }

    /// The flows of an instance.
    pub fn flow_table(&self) -> &FlowTable {
        &self.flow_table
    }

    /// Bounds of moves.
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    /// Bounds of shares.
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Bounds of neighbour resolution.
    pub fn neighbour(&self) -> &Neighbour {
        &self.neighbour
    }

    /// Subscriptions to the packets of an instance.
    pub fn events(&self) -> EventLimits {
        self.events
    }

    /// Bounds of ICMP errors.
    pub fn icmp(&self) -> &Icmp {
        &self.icmp
    }

    /// Bounds of the routes.
    pub fn route_table(&self) -> &RouteLimits {
        &self.route_table
    }

    /// The first instance, and the capacity of those that follow.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The network functions of every instance, in the order of the file.
    pub fn nfs(&self) -> &[Nf] {
        &self.nfs
    }

    /// The ports, in the order of the file.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The routes beyond the connected networks.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The policy routes, the first to be asked in front.
    pub fn policy_routes(&self) -> &[PolicyRoute] {
        &self.policy_routes
    }
}
