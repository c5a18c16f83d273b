//! The testbed's command line.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use weir_testbed::bench::{forward, state};
use weir_testbed::demo::{self, Cancel, Options};
use weir_testbed::{experiment, session};

/// Experiments with a Weir router in network namespaces. Needs root.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Scale a router from one instance to four and back under real traffic, and account for every
    /// packet. Exit status 0 when nothing was lost, 1 otherwise.
    Demo {
        /// UDP flows between all ordered pairs of the four hosts
        #[arg(long, default_value_t = 2_004, value_parser = count(1_000_000))]
        flows: usize,
        /// Times from one instance to four and back, by command
        #[arg(long, default_value_t = 5, value_parser = count(1_000))]
        cycles: usize,
        /// Packets a second of all flows together
        #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
        rate: u64,
        /// Where everything random comes from; another one each time when absent
        #[arg(long)]
        seed: Option<u64>,
        /// Where report.json and the logs go
        #[arg(long, value_name = "FOLDER", default_value = "target/demo")]
        folder: PathBuf,
    },
    /// Repeat OpenNF's experiment: 489 HTTP flows through one instance of an intrusion detection, and
    /// through two between which they are moved. Exit status 0 when nothing was lost, reordered or
    /// logged otherwise, 1 otherwise.
    Experiment {
        /// Where the report, its plots and the logs go
        #[arg(long, value_name = "FOLDER", default_value = "target/experiment")]
        folder: PathBuf,
        /// Moves, to the second instance and back in turn
        #[arg(long, default_value_t = 20, value_parser = count(1_000))]
        moves: usize,
        /// Packets a second
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
        rate: u64,
        /// Generate the flows though the capture is there
        #[arg(long)]
        generated: bool,
        /// Do without tshark, which otherwise must be there and agree
        #[arg(long)]
        without_tshark: bool,
        /// Where everything random comes from; another one each time when absent
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Measure Weir beside others, in one run and in turn
    #[command(subcommand)]
    Bench(Bench),
}

/// Packets a second that may be asked for.
const RATE_MAX: u64 = 10_000_000;

/// A number from 1 to that.
fn count(most: u64) -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..=most)
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// CPU time of forwarding a packet over veth, beside the Linux kernel's own IP forwarding
    Forward {
        /// Times that each has its turn
        #[arg(long, default_value_t = 15)]
        rounds: usize,
        /// Packets of a turn
        #[arg(long, default_value_t = 20_000)]
        packets: u64,
        /// Where everything random comes from; another one each time when absent
        #[arg(long)]
        seed: Option<u64>,
    },
    /// What getting and putting the state of a flow costs, for each network function
    State {
        /// Times that all state is got and put
        #[arg(long, default_value_t = 15)]
        rounds: usize,
        /// The numbers of flows, or of cached objects, to measure with: 1 to 20,000
        #[arg(long, value_delimiter = ',', default_values_t = [500, 5_000])]
        flows: Vec<usize>,
        /// Client connections of the cache: 1 to 16,384
        #[arg(long, default_value_t = 500)]
        connections: usize,
        /// Where everything random comes from; another one each time when absent
        #[arg(long)]
        seed: Option<u64>,
    },
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    match session::run_again() {
        Ok(None) => carry_out(command),
        Ok(Some(code)) => code,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "weir-testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> ExitCode {
    let (seed, result) = match command {
        Command::Demo { flows, cycles, rate, seed, folder } => {
            let seed = seed.unwrap_or_else(any_seed);
            (seed, run(&Options { flows, cycles, rate, seed, folder }))
        }
        Command::Experiment { folder, moves, rate, generated, without_tshark, seed } => {
            let seed = seed.unwrap_or_else(any_seed);
            let options =
                experiment::Options { rate, moves, generated, without_tshark, seed, folder };
            (seed, repeat(&options))
        }
        Command::Bench(Bench::Forward { rounds, packets, seed }) => {
            let seed = seed.unwrap_or_else(any_seed);
            (seed, show(forward::run(forward::Plan { rounds, packets, seed })))
        }
        Command::Bench(Bench::State { rounds, flows, connections, seed }) => {
            let seed = seed.unwrap_or_else(any_seed);
            (seed, show(state::run(&state::Plan { rounds, flows, connections, seed })))
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "weir-testbed: {error:#}\n(seed {seed})");
            ExitCode::FAILURE
        }
    }
}

/// The seed when none is told. Reports and errors show it, and `--seed` gives it back.
fn any_seed() -> u64 {
    weir_seed::any() >> 32
}

/// Shows what was measured; true when that worked.
fn show(table: Result<impl Display>) -> Result<bool> {
    let _closed = write!(io::stdout(), "{}", table?);
    Ok(true)
}

/// Runs the experiment and tells its result; true when it is exact.
fn repeat(options: &experiment::Options) -> Result<bool> {
    let report = experiment::run(options, &Cancel::on_interrupt()?)?;
    let path = options.folder.join("report.md");
    let (summary, line) = (experiment::summary(&report), experiment::line(&report));
    let _closed = writeln!(io::stdout(), "{summary}\nReport: {}\n{line}", path.display());
    Ok(report.faults().is_empty())
}

/// Runs the demo and tells its result; true when it is clean.
fn run(options: &Options) -> Result<bool> {
    let report = demo::run(options, &Cancel::on_interrupt()?)?;
    let _closed = write!(io::stdout(), "{}", demo::summary(&report));
    let path = options.folder.join("report.json");
    let _closed = writeln!(io::stdout(), "All figures: {}", path.display());
    Ok(report.faults().is_empty())
}
