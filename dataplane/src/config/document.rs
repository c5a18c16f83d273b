//! The file as a whole: which tables there are, and what each of them becomes.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::port::PortDraft;
use super::report::{Finding, Findings};
use super::section::{Section, suggest};
use super::{Config, Nf, PORTS_MAX, PolicyRoute, ROUTES_MAX, Route, Worker};
use super::{check, footprint, forwarding, machine::Machine};
use super::{nf, policy_route, port, process, quota::Quota, route, route_table};
use crate::driver::Cores;
use crate::nf::FUNCTIONS_MAX;
use crate::policy::POLICIES_MAX;

/// Tables that are not ours: the sidecar reads and checks them.
const SIDECAR: [&str; 2] = ["control", "scaling"];

/// The file while it is read.
pub(super) struct Document<'a> {
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    findings: &'a Findings,
    empty: &'a DeTable<'a>,
}

impl<'a> Document<'a> {
    /// `empty` stands for the tables that the file leaves out.
    pub(super) fn new(
        table: &'a DeTable<'a>,
        empty: &'a DeTable<'a>,
        findings: &'a Findings,
    ) -> Self {
        Self { table, known: SIDECAR.to_vec(), findings, empty }
    }

    /// Reads every table. What is wrong goes to the findings and is replaced by its default.
    pub(super) fn read(mut self, machine: &Machine) -> Config {
        let name = |name: &str| name.parse().expect("a literal that is a name");
        let process = process::read_process(
            self.table("dataplane", "[dataplane]"),
            self.table("idle", "[idle]"),
        );
        let workers = self.read_workers(usize::from(process.workers_max), &machine.cores);
        let (moves, place) = forwarding::read_moves(self.table("moves", "[moves]"));
        let neighbour = forwarding::read_neighbour(self.table("neighbour", "[neighbour]"));
        let events = forwarding::read_events(self.table("events", "[events]"));
        let memory = process::read_memory(self.table("memory", "[memory]"));
        let (ports, routes) = self.read_network(workers.len());
        let shares = forwarding::read_shares(self.table("shares", "[shares]"));
        let (nfs, place_of_nfs) = self.read_nfs(&ports);
        // Where nobody asks for what is shared, nothing waits for that.
        let sharing = Some(&shares).filter(|_| nfs.iter().any(|nf| nf.function.asks()));
        let keeping = (&moves, sharing, &events);
        let quota = Quota::new(&process, &ports, keeping, &neighbour);
        check::mtu(&ports, memory.frame_size, self.findings);
        let frames = memory.frames.as_ref().map(Spanned::span);
        let memory = check::memory(memory, &quota, self.findings);
        let place = frames.filter(|_| memory.frames > quota.frames()).unwrap_or(place);
        let flow_table = forwarding::read_flow_table(self.table("flow_table", "[flow_table]"));
        if u64::from(memory.frames) >= quota.total() {
            let states = footprint::States::new(&nfs, &flow_table, process.instances_max);
            let (frames, workers) = ((&memory, &quota), process.workers_max);
            let moves = (&moves, workers, place);
            footprint::check(frames, moves, (states, place_of_nfs), machine, self.findings);
        }
        let policy_routes = self.read_policy_routes(&ports);
        let route_table = route_table::read_route_table(self.table("route_table", "[route_table]"));
        route_table.check(&ports, &routes, self.findings);
        let config = Config {
            node: process::read_node(self.table("node", "[node]"), name("weir")),
            process,
            workers,
            memory,
            steering: forwarding::read_steering(self.table("steering", "[steering]")),
            flow_table,
            moves,
            shares,
            neighbour,
            events,
            icmp: forwarding::read_icmp(self.table("icmp", "[icmp]")),
            route_table: route_table.limits(),
            instance: forwarding::read_instance(self.table("instance", "[instance]"), name("r1")),
            nfs,
            ports: ports.into_iter().map(|draft| draft.port).collect(),
            routes: routes.into_iter().map(Spanned::into_inner).collect(),
            policy_routes,
        };
        self.close();
        config
    }

    fn read_workers(&mut self, most: usize, cores: &Cores) -> Vec<Worker> {
        let findings = self.findings;
        let sections = self.tables("worker", "[[worker]]", most);
        let workers: Vec<Spanned<Worker>> = sections
            .into_iter()
            .map(|section| process::read_worker(section, cores, findings))
            .collect();
        check::workers(&workers, findings);
        if workers.is_empty() {
            return vec![Worker::default()];
        }
        workers.into_iter().map(Spanned::into_inner).collect()
    }

    /// The functions, and where the first of them stands.
    fn read_nfs(&mut self, ports: &[PortDraft]) -> (Vec<Nf>, Range<usize>) {
        let findings = self.findings;
        let sections = self.tables("nf", "[[nf]]", FUNCTIONS_MAX);
        let read = |section: Section<'a>| {
            let header = section.header();
            nf::read_nf(section, findings).map(|nf| Spanned::new(header, nf))
        };
        let nfs: Vec<_> = sections.into_iter().filter_map(read).collect();
        nf::check(&nfs, findings);
        check::backends(&nfs, ports, findings);
        let place = nfs.first().map_or(0..0, Spanned::span);
        (nfs.into_iter().map(Spanned::into_inner).collect(), place)
    }

    fn read_network(&mut self, workers: usize) -> (Vec<PortDraft>, Vec<Spanned<Route>>) {
        let findings = self.findings;
        let workers = u8::try_from(workers).unwrap_or(u8::MAX);
        let sections = self.tables("port", "[[port]]", PORTS_MAX);
        let all = sections.len();
        let ports: Vec<_> = sections
            .into_iter()
            .filter_map(|section| port::read_port(section, workers, findings))
            .collect();
        let sections = self.tables("route", "[[route]]", ROUTES_MAX);
        let routes: Vec<_> = sections.into_iter().filter_map(route::read_route).collect();
        check::ports(&ports, findings);
        // A route cannot be judged while a port is unreadable: it may be the one that is meant.
        let routes = match ports.len() == all {
            true => route::resolve(routes, &ports, findings),
            false => Vec::new(),
        };
        (ports, routes)
    }

    fn read_policy_routes(&mut self, ports: &[PortDraft]) -> Vec<PolicyRoute> {
        let findings = self.findings;
        let all = self.table.get("port").and_then(|ports| ports.get_ref().as_array());
        let sections = self.tables("policy_route", "[[policy_route]]", POLICIES_MAX);
        let drafts: Vec<_> = sections.into_iter().filter_map(policy_route::read).collect();
        // As with routes: one port that is unreadable may be the one that is meant.
        match all.map_or(0, |all| all.len()) == ports.len() {
            true => policy_route::resolve(drafts, ports, findings),
            false => Vec::new(),
        }
    }

    /// The table of this name; an empty one when the file has none.
    fn table(&mut self, key: &'static str, title: &'static str) -> Section<'a> {
        self.known.push(key);
        let (table, header) = match self.table.get(key) {
            None => (self.empty, 0..0),
            Some(value) => match value.get_ref().as_table() {
                Some(table) => (table, value.span()),
                None => {
                    self.wrong_shape(key, value.span(), title);
                    (self.empty, value.span())
                }
            },
        };
        Section::new(title, table, header, self.findings)
    }

    /// The tables of an array, in the order of the file.
    fn tables(&mut self, key: &'static str, title: &'static str, most: usize) -> Vec<Section<'a>> {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_shape(key, value.span(), title);
            return Vec::new();
        };
        if let Some(one_more) = array.get(most) {
            let finding = Finding::error(one_more.span(), format!("more than {most} {title}"), "");
            self.findings.push(finding);
        }
        let mut sections = Vec::with_capacity(array.len().min(most));
        for element in array.iter().take(most) {
            match element.get_ref().as_table() {
                Some(table) => {
                    sections.push(Section::new(title, table, element.span(), self.findings));
                }
                None => self.wrong_shape(key, element.span(), title),
            }
        }
        sections
    }

    fn wrong_shape(&self, key: &str, span: Range<usize>, title: &str) {
        let label = format!("write {title}");
        self.findings.push(Finding::error(span, format!("{key} has the wrong shape"), &label));
    }

    fn close(self) {
        let unknown = self.table.iter().filter(|(key, _)| !self.known.contains(&&**key.get_ref()));
        let mut all_known = true;
        for (key, _) in unknown {
            all_known = false;
            let title = format!("unknown table {}", key.get_ref());
            let finding = Finding::error(key.span(), title, "nothing reads this");
            self.findings.push(suggest(finding, key.get_ref(), &self.known));
        }
        let ports = self.table.get("port").map(|ports| ports.get_ref().as_array());
        let no_port = ports.is_none_or(|ports| ports.is_some_and(|ports| ports.is_empty()));
        // One that nothing reads may be meant for a port.
        if no_port && all_known {
            let finding = Finding::error(0..0, "there is no [[port]]", "no packet can enter");
            self.findings.push(finding.over_the_whole().help(PORT_EXAMPLE));
        }
    }
}

const PORT_EXAMPLE: &str = "\
add one for each network, as in:
[[port]]
name = \"left\"
backend = \"af_xdp\"
device = \"eth0\"
addresses = [\"10.0.1.1/24\"]";
