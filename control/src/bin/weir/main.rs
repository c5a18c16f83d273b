//! `weir`: a client of the sidecar's API and nothing else.
//!
//! Data goes to standard output, talk to standard error.
#![forbid(unsafe_code)]
// That panics when nobody can be told: see `escape::tell`.
#![deny(clippy::print_stderr)]

mod client;
mod copy;
mod doctor;
mod drops;
mod escape;
mod failure;
mod flow;
mod instance;
mod r#move;
mod neighbour;
mod nf;
mod notify;
mod operation;
mod output;
mod pki;
mod policy;
mod port;
mod reach;
mod route;
mod scale;
mod share;
mod stats;
mod status;
mod usage;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::{client::Client, failure::Failure, output::Format};

const EXIT_CODES: &str = "\
Exit codes:
  0 done       1 failed        2 usage         3 not found   4 conflict or precondition
  5 bad file   6 unreachable   7 denied        8 deadline    9 a check found problems

With -o json every answer is one JSON document: the message of the API. What is watched (stats
--watch, scale watch, move, copy, share, notify) has one message a line. An error is one JSON object, the last line on
standard error: code (a constant to match on), message, object and fix.";

/// Looks at a Weir node and changes it.
#[derive(Debug, Parser)]
#[command(name = "weir", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten, next_help_heading = "Global options")]
    client: client::Options,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// The node as a whole
    Status,
    /// Where packets enter and leave
    #[command(subcommand)]
    Port(port::Verb),
    /// Switch instances and their load
    #[command(subcommand)]
    Instance(instance::Verb),
    /// The pinned threads that move packets
    #[command(subcommand)]
    Worker(worker::Verb),
    /// The number of instances: by command, by policy, and what became of it
    Scale(scale::Scale),
    /// Change the owner of flows and their state
    Move(r#move::Move),
    /// Merge state with that of another instance or network function, once or again and again
    Copy(copy::Copy),
    /// Have instances act on the same state, as limits of a source, until that is cancelled
    Share(share::Share),
    /// Be told of packets after they are processed
    Notify(notify::Notify),
    /// Moves, copies, shares and notifications: in progress, and the last that ended
    #[command(subcommand)]
    Operation(operation::Verb),
    /// Routes
    #[command(subcommand)]
    Route(route::Verb),
    /// Policy routes, which are asked before the routes
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Link-layer addresses that the ports have learned
    #[command(subcommand)]
    Neighbour(neighbour::Verb),
    /// Network functions of the instances, and those in processes of their own
    #[command(subcommand)]
    Nf(nf::Verb),
    /// Per-flow state of the instances
    #[command(subcommand)]
    Flow(flow::Verb),
    /// Drops by reason, frames by place, and the balance of packets
    Drops(drops::Drops),
    /// All figures of the node
    Stats(stats::Stats),
    /// What this machine lacks, with the command that mends it
    Doctor,
    /// Certificates for the TCP address of the API
    #[command(subcommand)]
    Pki(pki::Verb),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    let format = arguments.client.output;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

/// Shows help, or what is wrong with the arguments: as JSON if they ask for it.
fn misused(error: &clap::Error) -> ExitCode {
    let arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    let json = arguments.windows(2).any(|pair| {
        matches!(pair[0].as_str(), "-o" | "--output") && pair[1] == "json"
            || matches!(pair[1].as_str(), "-ojson" | "-o=json" | "--output=json")
    });
    if !error.use_stderr() || !json {
        error.exit();
    }
    Failure::from(usage::fault(error)).report(Format::Json)
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.noun {
        Noun::Pki(verb) => return pki::run(verb),
        Noun::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut script);
            return output::write(&String::from_utf8_lossy(&script));
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if matches!(arguments.noun, Noun::Doctor) {
            return doctor::run(&arguments.client).await;
        }
        let client = Client::connect(&arguments.client).await?;
        match arguments.noun {
            Noun::Status => status::run(&client).await,
            Noun::Port(verb) => port::run(&client, verb).await,
            Noun::Instance(verb) => instance::run(&client, verb).await,
            Noun::Worker(verb) => worker::run(&client, verb).await,
            Noun::Scale(scale) => scale::run(&client, scale).await,
            Noun::Move(command) => r#move::run(&client, command).await,
            Noun::Copy(command) => copy::run(&client, command).await,
            Noun::Share(command) => share::run(&client, command).await,
            Noun::Notify(command) => notify::run(&client, command).await,
            Noun::Operation(verb) => operation::run(&client, verb).await,
            Noun::Route(verb) => route::run(&client, verb).await,
            Noun::Policy(verb) => policy::run(&client, verb).await,
            Noun::Neighbour(verb) => neighbour::run(&client, verb).await,
            Noun::Nf(verb) => nf::run(&client, verb).await,
            Noun::Flow(verb) => flow::run(&client, verb).await,
            Noun::Drops(drops) => drops::run(&client, drops).await,
            Noun::Stats(stats) => stats::run(&client, stats).await,
            Noun::Doctor | Noun::Pki(_) | Noun::Completion { .. } => Ok(()),
        }
    })
}
