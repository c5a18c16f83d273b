//! How much does the size of a flow's state matter when it is got, put and moved?
//!
//! Two functions of a test's kind, with state of so many bytes for each flow, on threads of their own,
//! asked as a controller does: over the southbound API and a Unix socket. A move takes the state out
//! piece by piece, puts it into the other function as it comes, and deletes it; the next goes back.
//! Between instances of one node state moves as a pointer, whatever its size: `moves.rs`. The
//! ratios are to the smallest state with as many flows, in the same run.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::ReceiverStream;
use weir_api::socket::Socket;
use weir_benches::router::key;
use weir_nf_api::Description;
use weir_nf_api::client::{Client, Query};
use weir_nf_api::server::{self, Desk};
use weir_state_transfer::chunk::{Chunk, Schema, Scope};
use weir_state_transfer::merge::MergeRule;
use weir_state_transfer::southbound::{
    Action, Cursor, Event, EventsError, Get, More, Note, PutError, Southbound, StateKind,
    SubscriptionId,
};
use weir_state_transfer::{FlowId, FlowKey, StateFilter};

/// Bytes of the state of a flow: a counter, a connection, what a segment leaves, a stream.
const SIZES: [usize; 4] = [64, 200, 1_536, 16_384];
const FLOWS: [usize; 2] = [500, 10_000];
/// Moves of each, half of them back; the first there and back are not counted.
const ROUNDS: usize = 12;
/// How long a call may take.
const CALL: Duration = Duration::from_secs(60);
/// Chunks on their way from one function to the other.
const WINDOW: usize = 256;

const KIND: StateKind = StateKind {
    scope: Scope::PerFlow,
    schema: Schema { kind: 0x7100, revision: 1 },
    name: "bytes of a flow",
    merge_rules: &[MergeRule::Newer],
};

/// State of flows that are known by their numbers.
struct Sized {
    numbers: Arc<HashMap<FlowKey, usize>>,
    flows: Vec<Option<Vec<u8>>>,
}

/// A function that is served until this is dropped.
struct Running {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    server: Option<Runtime>,
}

/// Microseconds a flow, of each round.
#[derive(Default)]
struct Times {
    get: Vec<f64>,
    put: Vec<f64>,
    moved: Vec<f64>,
}

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let asking = Builder::new_current_thread().enable_all().build()?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "\nState of a flow by its size, microseconds a flow: median of {} rounds, and its ratio to that of {} bytes\n\n\
         {:>7}{:>8}{:>18}{:>18}{:>18}",
        ROUNDS - 2,
        SIZES[0],
        "flows",
        "bytes",
        "get",
        "put",
        "move"
    )?;
    for flows in FLOWS {
        let mut least = None;
        for size in SIZES {
            let medians = asking.block_on(measured(flows, size))?.medians();
            let least = *least.get_or_insert(medians);
            write!(out, "{flows:>7}{size:>8}")?;
            for (us, least) in medians.into_iter().zip(least) {
                write!(out, "{us:>10.2} ({:>4.1})", us / least)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Moves flows with state of a size to and fro.
async fn measured(flows: usize, size: usize) -> Result<Times, Failure> {
    let numbers: HashMap<_, _> = (0..flows).map(|flow| (key(flow).both_ways(), flow)).collect();
    let numbers = Arc::new(numbers);
    let with =
        |state: Option<Vec<u8>>| Sized { numbers: Arc::clone(&numbers), flows: vec![state; flows] };
    let functions = [Running::new(with(Some(vec![0x5a; size])))?, Running::new(with(None))?];
    let clients = functions.each_ref().map(|running| Client::unix(&running.socket, CALL));
    let mut times = Times::default();
    for round in 0..ROUNDS {
        let [from, to] = [&clients[round % 2], &clients[1 - round % 2]];
        let got = timed(get(from, flows * size));
        let put = timed(put(from, flows, size));
        let [got, put] = [got.await?, put.await?];
        let moved = timed(moved(from, to, flows)).await?;
        if round > 1 {
            let a_flow = |took: Duration| took.as_secs_f64() * 1e6 / flows as f64;
            times.get.push(a_flow(got));
            times.put.push(a_flow(put));
            times.moved.push(a_flow(moved));
        }
    }
    Ok(times)
}

/// Gets all state, and keeps none of it.
async fn get(from: &Client, bytes: usize) -> Result<(), Failure> {
    let mut chunks = from.get_per_flow(&Query::new(StateFilter::default())).await?;
    let mut got = 0;
    while let Some(some) = chunks.next_encoded().await? {
        got += some.iter().map(Vec::len).sum::<usize>();
    }
    assert!(got > bytes, "{got} bytes of more than {bytes}");
    Ok(())
}

/// Puts the state of all flows into a function that has it.
async fn put(to: &Client, flows: usize, size: usize) -> Result<(), Failure> {
    let chunks = (0..flows).map(move |flow| {
        let chunk = KIND.chunk(FlowId::flow(&key(flow)), vec![0x5a; size]);
        chunk.encode().expect("a chunk")
    });
    let done = to.put_per_flow(tokio_stream::iter(chunks)).await?;
    assert_eq!((done.taken, done.refusal), (flows as u64, None));
    Ok(())
}

/// Moves all state: it is put as it comes, and deleted when all is there.
async fn moved(from: &Client, to: &Client, flows: usize) -> Result<(), Failure> {
    let mut chunks = from.get_per_flow(&Query::new(StateFilter::default())).await?;
    let (on_its_way, arriving) = tokio::sync::mpsc::channel(WINDOW);
    let carried = async {
        let mut ids = Vec::with_capacity(flows);
        while let Some(some) = chunks.next_encoded().await? {
            for chunk in some {
                ids.push(Chunk::decode(&chunk)?.id);
                on_its_way.send(chunk).await?;
            }
        }
        drop(on_its_way);
        Ok::<_, Failure>(ids)
    };
    let (done, ids) = tokio::join!(to.put_per_flow(ReceiverStream::new(arriving)), carried);
    assert_eq!(done?.taken, flows as u64);
    assert_eq!(from.del_per_flow(&ids?).await?.count, flows as u64);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
async fn timed(work: impl Future<Output = Result<(), Failure>>) -> Result<Duration, Failure> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

impl Times {
    fn medians(self) -> [f64; 3] {
        [self.get, self.put, self.moved].map(|mut us| {
            us.sort_by(f64::total_cmp);
            us[us.len() / 2]
        })
    }
}

impl Running {
    /// Serves a function on a thread of its own.
    fn new(mut function: Sized) -> Result<Self, Failure> {
        static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-state-size-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let stop = Arc::<AtomicBool>::default();
        let (stopped, description) = (Arc::clone(&stop), Description::new("sized", "1", &[KIND]));
        let waker = Arc::new(std::sync::OnceLock::<thread::Thread>::new());
        let wakes = Arc::clone(&waker);
        let (service, mut desk): (_, Desk) =
            server::pair(description, move || wakes.wait().unpark());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                while desk.serve(&mut function) > 0 {}
                thread::park_timeout(Duration::from_millis(50));
            }
        });
        waker.set(thread.thread().clone()).expect("once");
        let server = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let within = server.enter();
        let bound = Socket::bind(&socket)?;
        drop(within);
        server.spawn(async move { server::serve(service, &bound, std::future::pending()).await });
        Ok(Self { socket, stop, thread: Some(thread), server: Some(server) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ended = thread.join();
        }
        let _removed = std::fs::remove_file(Path::new(&self.socket));
    }
}

/// Only state of single flows; without events.
impl Southbound for Sized {
    fn kinds(&self) -> &[StateKind] {
        &[KIND]
    }

    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        while out.len() < get.max {
            let number = usize::try_from(cursor.0).expect("a number of a flow");
            let Some(state) = self.flows.get(number) else { return More::No };
            cursor.0 += 1;
            let id = FlowId::flow(&key(number));
            if let Some(body) = state.as_ref().filter(|_| get.filter.picks(&id, get.extent)) {
                out.push(KIND.chunk(id, body.clone()));
            }
        }
        More::Yes
    }

    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        KIND.check(&chunk)?;
        let place = self.place(&chunk.id).ok_or_else(|| PutError::wrong_id(&chunk))?;
        self.flows[place] = Some(chunk.body);
        Ok(())
    }

    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize {
        let places = ids.iter().filter_map(|id| self.place(id)).collect::<Vec<_>>();
        places.into_iter().filter_map(|place| self.flows[place].take()).count()
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
        Vec::new()
    }

    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError> {
        Err(PutError::UnknownSchema { scope: chunk.scope, schema: chunk.schema })
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
}

impl Sized {
    fn place(&self, id: &FlowId) -> Option<usize> {
        self.numbers.get(&id.key()?.both_ways()).copied()
    }
}
