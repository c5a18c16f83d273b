//! `weir-nf-conntrack`: the connection tracking of a network namespace, on a socket.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_api::causes::causes;
use weir_api::socket::Socket;
use weir_nf_api::server::{self, Desk, Service};
use weir_nf_conntrack::{Bounds, Conntrack};
use weir_state_transfer::merge::Replica;

/// Whether the kernel counts packets, and how many connections it may track.
const ACCOUNTING: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";
const FLOWS_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// How often the counts of the kernel are looked at that go around.
const LOOK: Duration = Duration::from_secs(30);

/// Serves weir.nf.v1 for the kernel's own connection tracking, until SIGTERM or SIGINT.
///
/// It takes the entries of the network namespace that it runs in, and needs CAP_NET_ADMIN there. It
/// sees no packets, so it refuses subscriptions: hold the packets of what is moved in front of the
/// kernel, from before the get until after the put and the deletion.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where it serves.
    #[arg(long, value_name = "PATH", default_value = "/run/weir/conntrack.sock")]
    socket: PathBuf,
    /// Its number among instances: names it in statistics that are merged.
    #[arg(long, default_value_t = 0)]
    instance: u32,
    /// Entries that are looked at in one piece of a get.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    entries_a_piece: u32,
    /// Bytes that the kernel may say before they are read.
    #[arg(long, default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(1 << 16..=1 << 30))]
    receive_buffer: u32,
    /// Sets net.netfilter.nf_conntrack_acct, which versions of state are made of.
    #[arg(long)]
    set_accounting: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let log = weir_log::start(EnvFilter::new("info")).context("cannot log")?;
    // Whoever reads standard error may stand still: from here on all goes by the log.
    Ok(log.end(serve_until_told(&arguments).map_err(|error| causes(&*error))))
}

fn serve_until_told(arguments: &Arguments) -> anyhow::Result<()> {
    let flows_max = fs::read_to_string(FLOWS_MAX)
        .context("this network namespace has no connection tracking (nf_conntrack)")?;
    let bounds = Bounds {
        entries_a_piece: arguments.entries_a_piece as usize,
        flows_max: flows_max.trim().parse().with_context(|| format!("reading {FLOWS_MAX}"))?,
        receive_buffer: arguments.receive_buffer as usize,
    };
    let incarnation = getrandom::u64().context("the system gives no random number")?;
    let replica = Replica { instance: arguments.instance, incarnation };
    let function = Conntrack::open(bounds, replica)?;
    check_accounting(arguments.set_accounting)?;
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let waker = Arc::clone(&wake);
    let (service, desk) = server::pair(Conntrack::description(), move || {
        // It can only be full of wake-ups that nobody has seen yet.
        let _is_awake = rustix::io::write(&*waker, &1_u64.to_ne_bytes());
    });
    let runtime = serve(service, arguments, Arc::clone(&wake))?;
    tracing::info!(socket = %arguments.socket.display(), "serves");
    run(function, desk, &wake)?;
    drop(runtime);
    Ok(())
}

/// Without counts a version says nothing, and a get of what has changed would miss what has.
fn check_accounting(set: bool) -> anyhow::Result<()> {
    if set {
        fs::write(ACCOUNTING, "1").with_context(|| format!("setting {ACCOUNTING}"))?;
    }
    let is_on = fs::read_to_string(ACCOUNTING).with_context(|| format!("reading {ACCOUNTING}"))?;
    anyhow::ensure!(
        is_on.trim() == "1",
        "the kernel does not count packets here: set net.netfilter.nf_conntrack_acct=1, or start with --set-accounting"
    );
    Ok(())
}

/// Serves the socket on threads of its own; `wake` is called when that ends.
fn serve(service: Service, arguments: &Arguments, wake: Arc<OwnedFd>) -> anyhow::Result<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let within = runtime.enter();
    let socket = Socket::bind(&arguments.socket)?;
    let mut stops = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    drop(within);
    runtime.spawn(async move {
        let [terminate, interrupt] = &mut stops;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        if let Err(error) = server::serve(service, &socket, stop).await {
            tracing::error!(%error, "cannot serve any more");
        }
        drop(socket);
        let _is_awake = rustix::io::write(&*wake, &1_u64.to_ne_bytes());
    });
    Ok(runtime)
}

/// Serves what is asked, until nobody can ask any more.
fn run(mut function: Conntrack, mut desk: Desk, wake: &OwnedFd) -> anyhow::Result<()> {
    let limit = Timespec { tv_sec: LOOK.as_secs().cast_signed(), tv_nsec: 0 };
    let mut overruns = 0;
    while !desk.is_closed() {
        while desk.serve(&mut function) > 0 {}
        if function.overruns() > overruns {
            overruns = function.overruns();
            tracing::warn!(overruns, "a listing of the kernel was not whole");
        }
        match poll(&mut [PollFd::new(wake, PollFlags::IN)], Some(&limit)) {
            Ok(0) => function.look().context("looking at the statistics of the kernel")?,
            Ok(_) => drop(rustix::io::read(wake, &mut [0; 8])),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
