//! `weir-dataplane`: the packet side of one node.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use weir_api::causes::causes;
use weir_dataplane::agent::{Agent, Directories, Logs, Socket};
use weir_dataplane::boot::boot;
use weir_dataplane::config::{Config, FILE_MAX, Machine, Nf, Transmit};
use weir_dataplane::driver::{self, Clock, Cores, Threads, Waker};

/// Moves packets between the ports of a configuration file until SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    config: PathBuf,
    /// Checks a configuration and touches nothing: prints "ok", or all errors with exit code 5.
    /// Devices, their queues and files are looked at when it starts.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    check: Option<PathBuf>,
    /// How workers idle; overrides the configuration.
    #[arg(long)]
    poll: Option<Poll>,
    /// By which way packets leave; overrides the configuration of all ports.
    #[arg(long, value_name = "WAY")]
    tx: Option<Way>,
    /// Serves faults for tests: workers can be made to panic.
    #[arg(long)]
    faults: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Poll {
    Adaptive,
    Busy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// By the socket
    Socket,
    /// As live frames
    Frames,
}

/// The exit code of a bad configuration.
const BAD_CONFIG: u8 = 5;
/// What a configuration that is ok may still fail on.
const NOT_CHECKED: &str = "\
note: not checked, as nothing is opened: devices and their queues, capture files, the socket;
      [control] and [scaling] are checked by weir-control --check FILE";

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match &args.check {
        Some(path) => check(path),
        None => run(&args),
    };
    ended.unwrap_or_else(|error| {
        say(&mut io::stderr(), &format!("error: {}", causes(&*error)));
        ExitCode::FAILURE
    })
}

fn check(path: &Path) -> anyhow::Result<ExitCode> {
    Ok(match load(path, &Machine::this()?)? {
        Some(_) => {
            say(&mut io::stdout(), "ok");
            say(&mut io::stderr(), NOT_CHECKED);
            ExitCode::SUCCESS
        }
        None => ExitCode::from(BAD_CONFIG),
    })
}

/// Reads a file, and shows its errors or warnings; `None` when it is bad.
fn load(path: &Path, machine: &Machine) -> anyhow::Result<Option<Config>> {
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut bytes = Vec::new();
    // One more than is accepted, so that a longer file is refused rather than cut.
    let most = FILE_MAX as u64 + 1;
    file.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    let (config, report) = match Config::parse(&shown, &bytes, machine) {
        Ok((config, warnings)) => (Some(config), warnings),
        Err(errors) => (None, errors),
    };
    if !report.is_empty() {
        say(&mut io::stderr(), &report.to_string());
    }
    Ok(config)
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let machine = Machine::this()?;
    let Some(config) = load(&args.config, &machine)? else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let log = weir_log::start(filter).context("cannot log")?;
    // Whoever reads standard error may stand still: from here on all goes by the log.
    let served = serve_until_told(args, &config, machine.cores);
    Ok(log.end(served.map_err(|error| causes(&*error))))
}

fn serve_until_told(args: &Args, config: &Config, cores: Cores) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args, config, cores))
}

async fn serve(args: &Args, config: &Config, cores: Cores) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // First, since it tells whether another process runs this node.
    let socket = Socket::bind(&config.process().socket)?;
    let clock = Clock::start();
    let poll = args.poll.map_or(config.process().poll, Poll::into);
    let node = boot(config, poll, args.tx.map(Way::into), clock)?;
    let (waker, events) = Waker::new()?;
    let workers_max = usize::from(config.process().workers_max);
    let threads = Threads::new(workers_max, poll, config.process().idle, clock, waker)?;
    let logs = logs(config)?;
    let agent = Agent { node, threads, events, clock, cores, faults: args.faults, logs };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    let ready = || {
        tracing::info!(node = %config.node(), socket = %config.process().socket.display(), "ready");
        say(&mut io::stdout(), "ready");
    };
    let (node, threads) = agent.serve(&socket, stop, ready).await?;
    // The queues are closed with their workers, and then the ports taken off their devices.
    threads.stop();
    drop(node);
    Ok(())
}

/// The logs of the functions that have a directory for them, if there are any.
fn logs(config: &Config) -> anyhow::Result<Option<Logs>> {
    let of_function = |nf: &Nf| Some((nf.function.kind(), nf.logs.clone()?));
    let directories: Directories = config.nfs().iter().filter_map(of_function).collect();
    if directories.is_empty() {
        return Ok(None);
    }
    let shown: Vec<_> = directories.values().map(|path| path.display().to_string()).collect();
    let logs = Logs::start(directories);
    logs.map(Some).with_context(|| format!("cannot write logs to {}", shown.join(" and ")))
}

impl From<Way> for Transmit {
    fn from(way: Way) -> Self {
        match way {
            Way::Socket => Self::Socket,
            Way::Frames => Self::Frames,
        }
    }
}

impl From<Poll> for driver::Poll {
    fn from(poll: Poll) -> Self {
        match poll {
            Poll::Adaptive => Self::Adaptive,
            Poll::Busy => Self::Busy,
        }
    }
}

/// Writes a line. Nobody may be there to read it, which is no error.
fn say(out: &mut impl Write, line: &str) {
    let _written = writeln!(out, "{line}");
}
