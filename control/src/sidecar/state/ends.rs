//! The ends of state: found by what requests call them, and asked over `weir.nf.v1`.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tonic::transport::Channel;
use weir_api::{dataplane::v1::GetNodeResponse, socket::file_id};
use weir_nf_api::{
    Description,
    client::{CallError, Client, Counter, connect},
};
use weir_state_transfer::{StateFilter, chunk::Scope, quote::shortened};

use super::{CALL_LIMIT, GET_LIMIT};
use crate::{
    config::Control,
    fault::Fault,
    sidecar::Sidecar,
    southbound::{find_instance, why},
    state_manager::{
        end::{Called, End},
        operation::{Failure, FailureKind},
        steps::Steps,
    },
};

/// How long a network function may take to say what it is when it is listed.
const LISTING_LIMIT: Duration = Duration::from_secs(2);

/// Bytes of the name of an end of another node at most.
pub(super) const END_MAX: usize = 128;

/// The ways to all ends.
#[derive(Debug)]
pub(crate) struct Ends {
    nfs: BTreeMap<String, Nf>,
    dataplane_socket: PathBuf,
    /// To the data plane: apart from its other calls, since puts and gets are long.
    instances: Channel,
    /// Those of instances, each with its life: all that an instance is asked waits for the same turns.
    of_instances: Mutex<BTreeMap<u32, (u64, Client)>>,
}

#[derive(Debug)]
struct Nf {
    socket: PathBuf,
    client: Client,
}

/// A network function in a process of its own, and what it says of itself.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    pub(crate) description: Result<Description, CallError>,
    pub(crate) counters: Result<Vec<Counter>, CallError>,
}

impl Ends {
    pub(super) fn new(control: &Control) -> Self {
        let nfs = control.nf.iter().map(|nf| {
            let client = Client::unix(&nf.socket, CALL_LIMIT);
            (nf.name.clone(), Nf { socket: nf.socket.clone(), client })
        });
        let instances = connect(&control.dataplane_socket, CALL_LIMIT, Arc::default());
        let dataplane_socket = control.dataplane_socket.clone();
        Self { nfs: nfs.collect(), dataplane_socket, instances, of_instances: Mutex::default() }
    }

    /// Refuses one end that is called by two names: state that goes from it to itself would be deleted.
    /// The configuration has each socket once, and links to it have the socket's place.
    pub(super) fn are_two(&self, from: &End, to: &End) -> Result<(), Fault> {
        if from == to {
            let fault = Fault::invalid("SAME_END", format!("from and to are both {from}"));
            return Err(fault.object("to").fix("name two ends"));
        }
        let (Some(one), Some(other)) = (self.socket(from), self.socket(to)) else { return Ok(()) };
        let are_instances = from.is_instance() && to.is_instance();
        if are_instances || file_id(one).is_none_or(|at| file_id(other) != Some(at)) {
            return Ok(());
        }
        let message = format!(
            "{from} and {to} are one process: {} and {} lead to the same socket",
            one.display(),
            other.display()
        );
        let fault = Fault::precondition("SAME_END", message).object("to");
        Err(fault
            .fix("give each [[control.nf]] the socket of its own process, not a link to another"))
    }

    /// The socket of an end, that of the data plane for its instances.
    fn socket(&self, end: &End) -> Option<&Path> {
        match end {
            End::Instance { .. } => Some(&self.dataplane_socket),
            End::Nf(name) => self.nfs.get(name).map(|nf| &*nf.socket),
            End::Peer { .. } => None,
        }
    }

    /// Sees that an end is one of the configuration: one of an earlier sidecar need not be.
    pub(super) fn known(&self, end: &End) -> Result<(), Failure> {
        let End::Nf(name) = end else { return Ok(()) };
        if self.nfs.contains_key(name) {
            return Ok(());
        }
        let reason = format!("{end} is no [[control.nf]] of the configuration any more");
        let failure = Failure::new(FailureKind::Unreachable, reason);
        Err(Failure { end: Some(end.clone()), ..failure })
    }

    /// By what the process of a network function is recognised by a later sidecar too: its socket, which
    /// each makes anew when it starts. Empty when there is none, and for other ends.
    pub(super) fn life(&self, end: &End) -> String {
        let End::Nf(name) = end else { return String::new() };
        let found = self.nfs.get(name).and_then(|nf| std::fs::metadata(&nf.socket).ok());
        // A number of a file is given again. It is bound at one time, and not written to.
        let life = |file: Metadata| {
            format!("{}:{}:{}.{:09}", file.dev(), file.ino(), file.mtime(), file.mtime_nsec())
        };
        found.map_or_else(String::new, life)
    }

    /// A client of an end.
    pub(super) fn client(&self, end: &End) -> Client {
        match end {
            End::Instance { id, life, .. } => {
                let client =
                    || Client::instance(self.instances.clone(), *id, Some(*life), CALL_LIMIT);
                let mut known = self.of_instances.lock().expect("nobody panics while it is held");
                let known = known.entry(*id).or_insert_with(|| (*life, client()));
                if known.0 != *life {
                    *known = (*life, client());
                }
                known.1.clone()
            }
            End::Nf(name) => {
                let nf = self.nfs.get(name).expect("an end is one of the configuration");
                nf.client.clone()
            }
            End::Peer { .. } => unreachable!("an end of another node is asked by its sidecar"),
        }
    }

    /// A client of an end for the pieces of a get, and for what it says of itself.
    pub(super) fn reader(&self, end: &End) -> Client {
        self.client(end).with_limit(GET_LIMIT)
    }

    /// What the network functions in processes of their own say of themselves and have counted, asked
    /// all at once.
    pub(crate) async fn list(&self) -> Vec<Listed> {
        let asked = self.nfs.iter().map(|(name, nf)| {
            let client = nf.client.with_limit(LISTING_LIMIT);
            let task =
                tokio::spawn(async move { tokio::join!(client.describe(), client.counters()) });
            (name.clone(), nf.socket.clone(), task)
        });
        let asked: Vec<_> = asked.collect();
        let mut listed = Vec::new();
        for (name, socket, task) in asked {
            let unreachable = |error| CallError::Unreachable { why: format!("{error}") };
            let (description, counters) = match task.await.map_err(unreachable) {
                Ok(answers) => answers,
                Err(error) => (Err(error.clone()), Err(error)),
            };
            listed.push(Listed { name, socket, description, counters });
        }
        listed
    }
}

impl Sidecar {
    /// The end that a request calls so.
    pub(super) async fn find_end(&self, field: &str, called: &str) -> Result<End, Fault> {
        let nfs = &self.state.ends.nfs;
        let (name, is_nf) = match Called::of(called) {
            Called::Nf(name) => (name, true),
            Called::Instance(name) => (name, false),
            Called::Either(name) => (name, nfs.contains_key(name)),
            Called::Peer { .. } => {
                let message = format!("{field} is {}, an end of another node", shortened(called));
                let fault = Fault::precondition("END_OF_ANOTHER_NODE", message).object(field);
                return Err(fault.fix(
                    "only the destination of a move can be one: ask the sidecar of that node",
                ));
            }
        };
        if name.is_empty() {
            let fault = Fault::invalid("END_MISSING", format!("{field} names no end"));
            return Err(fault.object(field).fix("name an instance or a network function"));
        }
        if !is_nf {
            let listed = self.southbound.list_instances().await;
            let listed = listed.map_err(|status| Fault::from_dataplane(&status))?.instances;
            let found = find_instance(listed.iter(), name);
            let found = found.ok_or_else(|| {
                let fix = "weir instance list, and weir nf processes for those of their own";
                let names = listed.iter().map(|instance| &instance.name).chain(nfs.keys());
                Fault::not_found("instances", name).fix(fix).one_of(names)
            })?;
            let (id, name, life) = (found.id, found.name.clone(), found.life);
            return Ok(End::Instance { id, name, life });
        }
        if !nfs.contains_key(name) {
            let fix = "weir nf processes; add it as [[control.nf]], then start weir-control again";
            return Err(Fault::not_found("nfs", name).fix(fix).one_of(nfs.keys()));
        }
        Ok(End::Nf(name.to_owned()))
    }

    /// Whether requests call processes of their own so, so that the data plane is not asked for them.
    pub(crate) fn are_processes(&self, called: [&str; 2]) -> bool {
        called.into_iter().all(|called| match Called::of(called) {
            Called::Nf(_) | Called::Peer { .. } => true,
            Called::Either(name) => self.state.ends.nfs.contains_key(name),
            Called::Instance(_) => false,
        })
    }

    /// The end that a request calls so, of this node or of another.
    pub(super) async fn find_destination(&self, field: &str, called: &str) -> Result<End, Fault> {
        let Called::Peer { peer, end } = Called::of(called) else {
            return self.find_end(field, called).await;
        };
        if self.state.peers.client(peer).is_none() {
            let fix = "add it as [[control.peer]], then start weir-control again";
            return Err(Fault::not_found("peers", peer).fix(fix));
        }
        if end.is_empty() || end.len() > END_MAX {
            let message = format!("{field} names no end of node {peer}");
            let fault = Fault::invalid("END_MISSING", message).object(field);
            return Err(
                fault.fix("write PEER/NAME: an instance or a network function of that node")
            );
        }
        Ok(End::Peer { peer: peer.to_owned(), end: end.to_owned() })
    }

    /// By what the process of an end is recognised: another number when it was started again. Of a
    /// network function that is so once it was asked something since.
    pub(super) async fn recognise(&self, end: &End) -> Result<u64, Failure> {
        match end {
            End::Peer { .. } => Ok(0),
            End::Nf(_) => Ok(self.state.ends.client(end).connections()),
            End::Instance { .. } => Ok(self.node_of(end).await?.incarnation),
        }
    }

    /// Sees that the destination of a move is the process that it was at first, behind something
    /// that it took in.
    pub(super) async fn recognise_in(&self, steps: &mut Steps, to: &End) -> Result<(), Failure> {
        let by = self.recognise(to).await?;
        steps.recognised(by).map_err(|failure| Failure { end: Some(to.clone()), ..failure })
    }

    /// By what the state of an end is recognised; of a network function, once it was asked something.
    pub(super) async fn epoch(&self, end: &End) -> Result<[u64; 3], Failure> {
        match end {
            // State from another node comes by a move only, which forgets the versions.
            End::Peer { .. } | End::Nf(_) => Ok([self.recognise(end).await?, 0, 0]),
            End::Instance { .. } => {
                let node = self.node_of(end).await?;
                // Whatever brings state to an instance by another way changes one of these.
                Ok([node.incarnation, node.generation, node.steering_generation])
            }
        }
    }

    async fn node_of(&self, instance: &End) -> Result<GetNodeResponse, Failure> {
        self.southbound.node().await.map_err(|status| {
            let reason = format!("the data plane does not answer: {}", why(&status));
            let kind = FailureKind::Unreachable;
            Failure { end: Some(instance.clone()), ..Failure::new(kind, reason) }
        })
    }

    /// What the source of an operation is, when both ends answer, the destination has all kinds
    /// of state that the source has, and the filter names nothing that the source has not.
    pub(super) async fn acquaint(
        &self,
        (from, to): (&End, &End),
        filter: &StateFilter,
        scopes: impl Iterator<Item = &Scope> + Clone,
    ) -> Result<Description, Failure> {
        let (source, destination) = (self.state.ends.reader(from), self.state.ends.reader(to));
        let (source, destination) = tokio::join!(source.describe(), destination.describe());
        let source = source.map_err(|error| Failure::of_call(&error, from))?;
        let destination = destination.map_err(|error| Failure::of_call(&error, to))?;
        knows_fields(from, &source, filter)?;
        let mut wanted =
            source.kinds.iter().filter(|kind| scopes.clone().any(|scope| *scope == kind.scope));
        if let Some(kind) = wanted.find(|kind| !destination.has(kind.scope, kind.schema)) {
            let reason = format!(
                "{to} has no {} state of schema {}, \"{}\", as {from} has",
                kind.scope, kind.schema, kind.name
            );
            let failure = Failure::new(FailureKind::Refused, reason);
            return Err(Failure { end: Some(to.clone()), ..failure });
        }
        Ok(source)
    }
}

/// Refuses a filter with a field that a source does not know: as what an id has not is not compared,
/// it would pick all that the rest of the filter picks.
pub(super) fn knows_fields(
    from: &End,
    source: &Description,
    filter: &StateFilter,
) -> Result<(), Failure> {
    let Some(field) = source.unknown_field(filter) else { return Ok(()) };
    let known = match &source.fields[..] {
        [] => "none of its own".to_owned(),
        fields => fields.join(", "),
    };
    let reason = format!(
        "{from} knows no field {field}, so that the filter would pick more than it names; it knows {known}"
    );
    let failure = Failure::new(FailureKind::Refused, reason);
    Err(Failure { end: Some(from.clone()), ..failure })
}
