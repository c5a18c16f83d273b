//! The sidecar's process.
#![forbid(unsafe_code)]

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_api::causes::causes;
use weir_control::{
    config::{Config, ConfigError},
    service::serve,
    sidecar::{Pause, PauseError, Sidecar},
};

/// The sidecar of a Weir node: serves the API, scales, and keeps the node at its desired state.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file of the node.
    #[arg(long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    config: PathBuf,
    /// Checks a configuration and touches nothing: prints "ok", or all errors with exit code 5.
    /// Certificates, the store and sockets are looked at when it starts.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    check: Option<PathBuf>,
    /// For tests: let operations stand still before this step, as in `move:2`.
    #[arg(long, hide = true, value_name = "STEP", value_parser = step)]
    pause_at: Option<Pause>,
}

fn step(text: &str) -> Result<Pause, PauseError> {
    text.parse()
}

/// The exit code for a configuration that is not sound.
const BAD_CONFIG: u8 = 5;
/// What a configuration that is ok may still fail on.
const NOT_CHECKED: &str = "\
note: not checked, as nothing is opened: certificates, the store, sockets and addresses; the tables
      other than [control] and [scaling] are checked by weir-dataplane --check FILE";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = arguments.check.as_ref().unwrap_or(&arguments.config);
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            tell(&error);
            return match error {
                ConfigError::Read { .. } => ExitCode::FAILURE,
                ConfigError::Wrong(_) => ExitCode::from(BAD_CONFIG),
            };
        }
    };
    if arguments.check.is_some() {
        // Nobody may be there to read it, which is no error.
        let _written = writeln!(std::io::stdout(), "ok");
        tell(&NOT_CHECKED);
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = match weir_log::start(filter) {
        Ok(log) => log,
        Err(error) => {
            tell(&format_args!("error: cannot log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // Whoever reads standard error may stand still: from here on all goes by the log.
    log.end(run(config, arguments.pause_at).map_err(|error| causes(&*error)))
}

/// Writes to standard error. Nobody may be there to read it, which is no error.
fn tell(text: &dyn std::fmt::Display) {
    let _written = writeln!(std::io::stderr(), "{text}");
}

fn run(config: Config, pause_at: Option<Pause>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let store = config.control.store.clone();
        let sidecar = Sidecar::start(config, pause_at)
            .await
            .with_context(|| format!("cannot open {}, store in [control]", store.display()))?;
        let server = serve(&sidecar).await.context("cannot serve the API of [control]")?;
        let socket = &sidecar.config().control.socket;
        tracing::info!(socket = %socket.display(), listening = ?server.listening, "serves");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stops");
        sidecar.stop().await;
        server.ended().await;
        Ok(())
    })
}
