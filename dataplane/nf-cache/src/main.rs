//! `weir-nf-cache`: a caching HTTP proxy whose state can be moved, copied and shared.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_nf_cache::{Limits, Settings, run};
use weir_state_transfer::Prefix;

/// Answers HTTP clients from its store or from origins until SIGTERM or SIGINT.
///
/// Prints "ready ADDRESS" when clients can connect. It caches what RFC 9111 lets a shared cache keep.
/// RUST_LOG sets what it logs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where clients connect to; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3128")]
    listen: SocketAddr,
    /// The Unix socket to serve weir.nf.v1 on, for peers that move, copy and share its state.
    #[arg(long, value_name = "PATH")]
    southbound: Option<PathBuf>,
    /// Its number among the instances that share state: no two may have the same.
    #[arg(long, default_value_t = 1)]
    instance: u32,
    /// Networks whose hosts may use it; by default this machine only.
    #[arg(long = "client", value_name = "PREFIX")]
    clients: Vec<Prefix>,
    /// Ports that CONNECT may go to.
    #[arg(long = "connect-port", value_name = "PORT", default_value = "443")]
    connect_ports: Vec<u16>,
    /// Let clients reach what only this machine can: hosts whose addresses are loopback, unspecified
    /// or link-local, which are refused otherwise.
    #[arg(long)]
    to_local: bool,
    /// Bytes of all cached objects together, such as 256M.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "256M")]
    store: usize,
    /// Bytes of the largest body that is cached; larger ones pass.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "896K")]
    object: usize,
    /// Bytes of the largest head of a request or a response.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "32K")]
    head: usize,
    /// Client connections at one time.
    #[arg(long, value_name = "NUMBER", default_value_t = 1024)]
    connections: usize,
    /// How long a connection may be idle, or a client take no byte of an answer, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    idle_timeout: Duration,
    /// How long the head of a request may take, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    head_timeout: Duration,
    /// How long an origin may take to connect, to begin to answer, and for each part of a body.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    upstream_timeout: Duration,
}

fn main() -> io::Result<ExitCode> {
    let settings = Arguments::parse().settings();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = weir_log::start(filter)?;
    let ready = |address: SocketAddr| println!("ready {address}");
    Ok(log.end(run(settings, ready, stopped())))
}

impl Arguments {
    fn settings(self) -> Settings {
        let limits = Limits {
            store: self.store,
            object: self.object,
            head: self.head,
            connections: self.connections,
            idle: self.idle_timeout,
            head_time: self.head_timeout,
            upstream: self.upstream_timeout,
        };
        let defaults = Settings::new(self.listen);
        let clients = if self.clients.is_empty() { defaults.clients } else { self.clients };
        Settings {
            listen: self.listen,
            southbound: self.southbound,
            instance: self.instance,
            clients,
            connect_ports: self.connect_ports,
            to_local: self.to_local,
            limits,
        }
    }
}

/// Waits for a signal to stop. Where none can be waited for, the default ends the process.
async fn stopped() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A number of bytes, with K, M or G for the powers of 1,024.
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        None => (text, 0),
        Some(digits) => (
            digits,
            match text.as_bytes()[text.len() - 1] {
                b'K' => 10,
                b'M' => 20,
                _ => 30,
            },
        ),
    };
    let number: Option<usize> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "expected a number of bytes, such as 4096, 32K, 256M or 1G".into())
}

/// A number of seconds that is a length of time.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: Option<f64> = text.parse().ok();
    let time = number.filter(|number| (0.01..=3_600.0).contains(number));
    time.map(Duration::from_secs_f64).ok_or_else(|| "expected 0.01 to 3600 seconds".into())
}
