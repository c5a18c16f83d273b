//! `weir-nf-conformance`: whether a network function in a process of its own can be moved, copied
//! and shared.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use weir_nf_api::client::{Client, connect};
use weir_nf_api::conformance::{Options, Outcome, run};

/// Says of each rule of the southbound API whether a network function keeps it.
///
/// The exit code is 0 when it keeps all, 1 when not. The function must have state, and rules about
/// packets need traffic; what can not be told is skipped.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where it serves, such as unix:///run/counter.sock.
    address: String,
    /// The instance, by its number, where the address is that of a data plane.
    #[arg(long, value_name = "NUMBER")]
    instance: Option<u32>,
    /// Only rules whose names begin with this.
    #[arg(long, default_value = "")]
    rules: String,
    /// Fail where a rule is skipped too.
    #[arg(long)]
    complete: bool,
    /// How long the function may take to answer, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    limit: f64,
    /// How long to wait for packets, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    patience: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let path =
        arguments.address.strip_prefix("unix://").or(arguments.address.strip_prefix("unix:"));
    let path = Path::new(path.context("the address is not of the form unix:///path")?);
    let limit = Duration::from_secs_f64(arguments.limit);
    let patience = Duration::from_secs_f64(arguments.patience);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lines = runtime.block_on(async {
        let client = match arguments.instance {
            Some(number) => {
                Client::instance(connect(path, limit, Arc::default()), number, None, limit)
            }
            None => Client::unix(path, limit),
        };
        let options = Options { rules: arguments.rules.clone(), patience };
        anyhow::Ok(run(&client, &options, |line| println!("{line}")).await)
    })?;
    let count = |is: fn(&Outcome) -> bool| lines.iter().filter(|line| is(&line.outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Fail(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skip(_)));
    println!("{} rules: {failed} not kept, {skipped} skipped", lines.len());
    anyhow::ensure!(!lines.is_empty(), "no rule begins with {:?}", arguments.rules);
    let is_good = failed == 0 && !(arguments.complete && skipped > 0);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A number of seconds that is a length of time.
fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    if (0.001..=3_600.0).contains(&number) {
        Ok(number)
    } else {
        Err("expected 0.001 to 3600".into())
    }
}
