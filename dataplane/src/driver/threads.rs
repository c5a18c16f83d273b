//! One thread a worker: polls it, idles, wakes others, and survives its panics.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use weir_state_transfer::{InstanceId, WorkerId};

use super::cores::pin_to;
use super::waker::{Sleeper, Waker};
use super::{Clock, Idle, Idler, Pause, Poll};
use crate::node::Spawn;
use crate::worker::{Work, Worker};

/// The threads of a process: started as workers come, ended together.
#[derive(Debug)]
pub struct Threads {
    seats: Vec<Seat>,
    threads: Vec<JoinHandle<()>>,
    context: Context,
}

/// What every worker's thread knows.
#[derive(Clone, Debug)]
struct Context {
    clock: Clock,
    poll: Poll,
    idle: Idle,
    /// By worker number.
    wakers: Arc<[Waker]>,
    /// Wakes the thread of the node, when a worker has told it something.
    node: Waker,
    stop: Arc<AtomicBool>,
}

/// Where a worker of one number runs: what it sleeps on outlives the worker, as others may be about
/// to wake it.
type Seat = Arc<Sleeper>;

/// Panics in a row after which a worker is beyond repair and the process ends.
const PANICS_MAX: u32 = 1000;
/// Longest sleep of a worker with a port that cannot wake it.
const UNWOKEN: Duration = Duration::from_millis(1);

impl Threads {
    /// Room for workers 0 to `workers_max` - 1. `node` wakes whoever takes the workers' events.
    ///
    /// # Errors
    ///
    /// When the process has too many files open.
    pub fn new(
        workers_max: usize,
        poll: Poll,
        idle: Idle,
        clock: Clock,
        node: Waker,
    ) -> io::Result<Self> {
        let pairs: Vec<(Waker, Sleeper)> =
            (0..workers_max).map(|_| Waker::new()).collect::<Result<_, _>>()?;
        let (wakers, sleepers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let stop = Arc::new(AtomicBool::new(false));
        let context = Context { clock, poll, idle, wakers: wakers.into(), node, stop };
        let seats = sleepers.into_iter().map(Arc::new).collect();
        Ok(Self { seats, threads: Vec::new(), context })
    }

    /// Starts the thread of a worker.
    ///
    /// # Errors
    ///
    /// When there is no seat of its number, or the system has no thread for it.
    pub fn spawn(&mut self, spawn: Spawn) -> io::Result<()> {
        let Spawn { worker, core } = spawn;
        let id = worker.id();
        let seat = self.seats.get(usize::from(id.0)).cloned();
        let seat = seat.ok_or_else(|| io::Error::other(format!("no seat for worker {id}")))?;
        let context = self.context.clone();
        let thread = thread::Builder::new().name(format!("worker-{id}"));
        let thread = thread.spawn(move || context.run(*worker, core, &seat))?;
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
        Ok(())
    }

    /// What wakes each worker, by its number.
    pub fn wakers(&self) -> Arc<[Waker]> {
        Arc::clone(&self.context.wakers)
    }

    /// Wakes a worker that was given a command.
    pub fn wake(&self, worker: WorkerId) {
        self.context.wake(worker);
    }

    /// Ends all threads and waits for them: their ports are closed when it returns.
    pub fn stop(self) {
        self.context.stop.store(true, Ordering::Release);
        for waker in self.context.wakers.iter() {
            waker.wake();
        }
        for thread in self.threads {
            // A worker that is beyond repair has said so already.
            let _ended = thread.join();
        }
    }
}

impl Context {
    fn run(&self, mut worker: Worker, core: Option<usize>, seat: &Sleeper) {
        if let Some(core) = core
            && let Err(error) = pin_to(core)
        {
            tracing::warn!(worker = %worker.id(), core, %error, "not pinned to its core");
        }
        let mut idler = Idler::new(self.poll, self.idle, self.clock.now());
        let mut panics = 0;
        while !self.stop.load(Ordering::Relaxed) && !worker.is_retired() {
            let now = self.clock.now();
            let work = supervise(&mut worker, &mut panics, |worker| worker.poll(now));
            for pushed in worker.take_pushed() {
                self.wake(pushed);
            }
            if worker.take_told() {
                self.node.wake();
            }
            match idler.after_round(work.packets > 0 || work.busy, now) {
                Pause::None => std::hint::spin_loop(),
                Pause::Yield => thread::yield_now(),
                Pause::Sleep(at_most) => self.sleep(&worker, seat, at_most),
            }
        }
    }

    fn sleep(&self, worker: &Worker, seat: &Sleeper, at_most: Duration) {
        seat.announce();
        if !worker.is_idle() || self.stop.load(Ordering::Relaxed) {
            seat.stay_awake();
            return;
        }
        let counters = worker.counters();
        counters.sleeps.add(1);
        counters.sleeping.set(1);
        let sockets: Vec<_> = worker.queues().iter().filter_map(|queue| queue.fd()).collect();
        let all_wake = sockets.len() == worker.queues().len();
        seat.sleep(&sockets, if all_wake { at_most } else { at_most.min(UNWOKEN) });
        counters.sleeping.set(0);
    }

    fn wake(&self, worker: WorkerId) {
        if let Some(waker) = self.wakers.get(usize::from(worker.0)) {
            waker.wake();
        }
    }
}

/// Runs a poll round. A panic costs the packet in hand: the worker's tables, rings, sockets and
/// holds are in the worker, which goes on.
fn supervise(
    worker: &mut Worker,
    panics: &mut u32,
    round: impl FnOnce(&mut Worker) -> Work,
) -> Work {
    // `recover` mends what the panic may have left half done.
    let work = match catch_unwind(AssertUnwindSafe(|| round(worker))) {
        Ok(work) => {
            *panics = 0;
            work
        }
        Err(_panic) => {
            *panics += 1;
            if *panics > PANICS_MAX {
                tracing::error!(worker = %worker.id(), "{PANICS_MAX} panics in a row: giving up");
                weir_log::flush();
                std::process::abort();
            }
            if let Some(panicked) = worker.recover() {
                tell(worker, panicked);
            }
            Work { packets: 0, busy: true }
        }
    };
    if let Some(panicked) = worker.take_panicked() {
        tell(worker, panicked);
    }
    work
}

fn tell(worker: &Worker, (instance, function): (InstanceId, &'static str)) {
    let worker = worker.id();
    tracing::error!(%worker, %instance, function, "a network function has panicked");
}
