//! The network function: the kernel's connection tracking, asked through the southbound API.

use std::borrow::Cow;
use std::collections::BTreeMap;

use weir_nf_api::Description;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::{Chunk, decode_body};
use weir_state_transfer::merge::{REPLICAS_MAX, Replica};
use weir_state_transfer::southbound::{
    Action, Cursor, Event, EventsError, Get, More, Note, PutError, Southbound, StateKind,
    SubscriptionId,
};
use weir_state_transfer::state_filter::StateFilter;

use crate::body;
use crate::carried::Carried;
use crate::entry::Entry;
use crate::error::Error;
use crate::flows::{Flows, Refusal};
use crate::kernel::{Kernel, Listing};
use crate::schema::{KINDS, STATISTICS};
use crate::statistics::{Statistics, Watch};
use crate::tuple::{FIELDS, Tuple};

/// Listings that wait for their readers: more than gets are served at one time, as who goes away
/// does not say so. Of too many the one that has waited longest is given up.
const LISTINGS_MAX: usize = 8;
/// How often a listing is begun again that breaks off before anything of it was given.
const TRIES: usize = 3;

/// What an agent may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Entries that are looked at in one piece of a get, at most. Between two pieces others are
    /// served.
    pub entries_a_piece: usize,
    /// Flows whose counters from elsewhere are known, at most; further ones are refused. As many
    /// as the kernel may have is enough.
    pub flows_max: usize,
    /// Bytes that the kernel may say before they are read.
    pub receive_buffer: usize,
}

/// The connection tracking of the kernel, in the network namespace of the process.
///
/// What fails in the kernel is told by [`Southbound::take_failure`].
#[derive(Debug)]
pub struct Conntrack {
    flows: Flows<Kernel>,
    bounds: Bounds,
    listings: BTreeMap<u64, Listing>,
    /// The number of the last listing that was put aside.
    last: u64,
    overruns: u64,
    replica: Replica,
    watch: Watch,
    statistics: Statistics,
    failure: Option<String>,
}

impl Conntrack {
    /// Opens it. `replica` names this process in what is merged.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel has no connection tracking.
    pub fn open(bounds: Bounds, replica: Replica) -> Result<Self, Error> {
        let table = Kernel::open(bounds.receive_buffer)?;
        // Where the system does not tell, the connections are known for as long as this process lives.
        let kernel = Kernel::number().unwrap_or(replica.incarnation);
        let mut opened = Self {
            flows: Flows { table, carried: Carried::new(kernel, bounds.flows_max) },
            bounds,
            listings: BTreeMap::new(),
            last: 0,
            overruns: 0,
            replica,
            watch: Watch::default(),
            statistics: Statistics::default(),
            failure: None,
        };
        opened.look()?;
        Ok(opened)
    }

    /// What it says of itself: it sees no packets, and knows translated flows by two names.
    pub fn description() -> Description {
        Description {
            fields: FIELDS.map(str::to_owned).into(),
            refused_actions: vec![Action::Process, Action::Buffer, Action::Drop],
            other_names: true,
            ..Description::new("linux-conntrack", env!("CARGO_PKG_VERSION"), &KINDS)
        }
    }

    /// Looks at what the kernel counts; to be called at least once a minute, as the counts of the
    /// kernel go around.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn look(&mut self) -> Result<(), Error> {
        let Self { flows, watch, statistics, replica, .. } = self;
        flows.table.statistics(|core, counts| {
            statistics.add(*replica, watch.look(core, counts));
        })
    }

    /// How often a listing could not be taken in whole and was given up or begun again.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    fn fail(&mut self, doing: &str, error: Error) {
        self.failure = Some(format!("{doing}: {error}"));
    }

    fn piece(
        &mut self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
    ) -> Result<More, Error> {
        let mut tries = 0;
        loop {
            let listing = match cursor.0 {
                0 => Some(self.flows.table.list()?),
                number => self.listings.remove(&number),
            };
            let Some(listing) = listing else {
                self.overruns += 1;
                return Err(Error::Interrupted);
            };
            match self.go_on(listing, get, cursor, out) {
                Err(error @ (Error::Overrun | Error::Interrupted)) => {
                    self.overruns += 1;
                    tries += 1;
                    if cursor.0 != 0 || tries == TRIES {
                        return Err(error);
                    }
                    out.clear();
                }
                done => return done,
            }
        }
    }

    fn go_on(
        &mut self,
        mut listing: Listing,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
    ) -> Result<More, Error> {
        for _ in 0..self.bounds.entries_a_piece {
            if out.len() >= get.max {
                break;
            }
            let Some(entry) = listing.next()? else { return Ok(More::No) };
            let entry = self.flows.carried.complete(entry);
            if is_picked(&entry, get) {
                out.extend(body::chunk(&entry));
            }
        }
        if self.listings.len() >= LISTINGS_MAX {
            self.listings.pop_first();
        }
        self.last += 1;
        self.listings.insert(self.last, listing);
        *cursor = Cursor(self.last);
        Ok(More::Yes)
    }

    /// Makes room among the counters from elsewhere, by forgetting flows that have ended.
    fn make_room(&mut self, entry: &Entry) -> Result<(), Error> {
        if !self.flows.carried.has_room(entry) {
            let numbers = self.flows.table.numbers()?;
            self.flows.carried.retain(|number| numbers.contains(&number));
        }
        Ok(())
    }
}

impl Southbound for Conntrack {
    fn kinds(&self) -> &[StateKind] {
        &KINDS
    }

    fn counters(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        if let Err(error) = self.look() {
            self.fail("the statistics can not be read", error);
            return Vec::new();
        }
        let overruns = [("overruns", self.overruns)];
        let all = self.statistics.named().chain(overruns);
        all.map(|(name, count)| (name.into(), count)).collect()
    }

    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        self.piece(get, cursor, out).unwrap_or_else(|error| {
            self.fail("the entries can not be listed", error);
            More::No
        })
    }

    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        let entry = body::entry(&chunk)?;
        let room = self.make_room(&entry).map_err(Refusal::from);
        let refusal = match room.and_then(|()| self.flows.put(&entry, chunk.version)) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        Err(match refusal {
            Refusal::Clash(with) => PutError::clash(&chunk, with),
            Refusal::Full => PutError::full(&chunk, "connections", self.bounds.flows_max),
            Refusal::Unsupported(what) => PutError::unsupported(&chunk, what),
            Refusal::Older(known) => PutError::older(&chunk, known),
            Refusal::Malformed(errno) => PutError::BadBody {
                id: Box::new(chunk.id.clone()),
                why: format!("the kernel refuses it: {errno}"),
            },
            Refusal::Failed(error) => {
                self.fail(&format!("the entry of {} can not be made", chunk.id), error);
                PutError::unsupported(&chunk, "the kernel does not answer".to_owned())
            }
        })
    }

    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize {
        let mut deleted = 0;
        for (tuple, zone) in ids.iter().filter_map(Tuple::of_id) {
            match self.flows.delete(&tuple, zone) {
                Ok(was_there) => deleted += usize::from(was_there),
                Err(error) => {
                    self.fail("entries can not be deleted", error);
                    break;
                }
            }
        }
        deleted
    }

    fn get_multi_flow(&mut self, _: &Get<'_>, _: &mut Cursor, _: &mut Vec<Chunk>) -> More {
        More::No
    }

    fn put_multi_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        Err(PutError::UnknownSchema { scope: chunk.scope, schema: chunk.schema })
    }

    fn del_multi_flow(&mut self, _: &[FlowId]) -> usize {
        0
    }

    fn get_all_flows(&mut self) -> Vec<Chunk> {
        if let Err(error) = self.look() {
            self.fail("the statistics can not be read", error);
            return Vec::new();
        }
        let mut chunk = STATISTICS.chunk(FlowId::default(), self.statistics.encode());
        chunk.version = self.statistics.version();
        vec![chunk]
    }

    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError> {
        STATISTICS.check(&chunk)?;
        let schema = STATISTICS.schema;
        let other = decode_body(chunk.schema, schema, &chunk.body, Statistics::decode)
            .map_err(|why| PutError::bad_body(&chunk, &why))?;
        if self.statistics.join(&other) {
            Ok(())
        } else {
            Err(PutError::full(&chunk, "replicas", REPLICAS_MAX))
        }
    }

    fn enable_events(
        &mut self,
        _: SubscriptionId,
        _: StateFilter,
        action: Action,
        _: usize,
    ) -> Result<(), EventsError> {
        Err(EventsError::NotOffered(action))
    }

    fn disable_events(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        Err(EventsError::Unknown(id))
    }

    fn poll_event(&mut self, _: SubscriptionId) -> Option<Note> {
        None
    }

    fn give_back(&mut self, _: Event) {}

    fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}

/// Whether the filter picks a flow by what its packets are before translation, or by what the
/// replies to them are.
fn is_picked(entry: &Entry, get: &Get<'_>) -> bool {
    let names = [&entry.original, &entry.reply].map(|tuple| tuple.id(entry.zone));
    names.into_iter().flatten().any(|id| get.filter.picks(&id, get.extent))
}
