//! `weir-nf-conformance`: whether a network function in a process of its own can be moved, copied
//! and shared.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use weir_nf_api::client::{CallError, Client, connect};
use weir_nf_api::conformance::{Line, Options, Outcome, run_until};

/// Says of each rule of the southbound API whether a network function keeps it.
///
/// The function must have state, and rules about packets need traffic; what can not be told is
/// skipped, with the reason. Without --disturb only the rules are judged that leave packets and state
/// as they are, and the rest is skipped.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_STATUS)]
struct Arguments {
    /// Where it serves, such as unix:///run/counter.sock.
    #[arg(value_parser = socket)]
    address: PathBuf,
    /// The instance, by its number, where the address is that of a data plane.
    #[arg(long, value_name = "NUMBER")]
    instance: Option<u32>,
    /// Judge the rules too that disturb what the function does: they DROP the packets that come
    /// meanwhile, keep some back, and delete state, spoil it and put it back. Not where live traffic
    /// matters.
    #[arg(long)]
    disturb: bool,
    /// Only rules whose names begin with this.
    #[arg(long, default_value = "")]
    rules: String,
    /// Exit with 4 where any rule is skipped.
    #[arg(long)]
    complete: bool,
    /// How long to wait for somebody to serve the address, such as 10s.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span)]
    wait: Duration,
    /// How long the function may take to answer.
    #[arg(long, alias = "limit", value_name = "TIME", default_value = "5s", value_parser = span)]
    time_limit: Duration,
    /// How long to wait for packets, each time that a rule needs them.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span)]
    patience: Duration,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  every rule that was judged is kept, and these are at least half of all
  1  a rule is not kept
  2  the command line is wrong, or lacks --instance where the address is that of a data plane
  3  nobody serves the address, or there is no such instance
  4  no rule was found broken, but more than half were skipped; with --complete, any
  5  it was ended by SIGINT or SIGTERM, or as nobody reads what it says: the rule in hand has come to
     its end and put back what it had changed, and further ones are not judged";
const BROKEN: u8 = 1;
const USAGE: u8 = 2;
const ABSENT: u8 = 3;
const UNTOLD: u8 = 4;
const INTERRUPTED: u8 = 5;

/// How long to wait before it is tried again whether somebody serves.
const AGAIN: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(3_600);

fn main() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let interrupted = interruption()?;
        let judged = judge(&arguments, interrupted.clone()).await;
        let is_interrupted = *interrupted.borrow();
        Ok::<_, io::Error>(match judged {
            Ok(lines) if lines.is_empty() && !is_interrupted => {
                complain(&format_args!("error: no rule begins with {:?}", arguments.rules));
                USAGE
            }
            Ok(lines) => conclude(&lines, arguments.complete, is_interrupted),
            Err(error) => refuse(&arguments, &error),
        })
    })?;
    Ok(ExitCode::from(code))
}

/// Becomes true with the first signal to end. Others do not hurry it: state would be lost.
fn interruption() -> io::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        complain(
            &"interrupted: the rule in hand comes to its end, and puts back what it has changed",
        );
        tell.send_replace(true);
    });
    Ok(told)
}

async fn judge(
    arguments: &Arguments,
    mut interrupted: watch::Receiver<bool>,
) -> Result<Vec<Line>, CallError> {
    let (path, limit) = (&*arguments.address, arguments.time_limit);
    tokio::select! {
        served = served(path, arguments.wait) => {
            served.map_err(|error| CallError::Unreachable { why: error.to_string() })?;
        }
        _ = interrupted.wait_for(|is_so| *is_so) => return Ok(Vec::new()),
    }
    let client = match arguments.instance {
        Some(number) => Client::instance(connect(path, limit, Arc::default()), number, None, limit),
        None => Client::unix(path, limit),
    };
    let options = Options {
        rules: arguments.rules.clone(),
        patience: arguments.patience,
        disturb: arguments.disturb,
    };
    run_until(&client, &options, interrupted, |line| say(line)).await
}

/// Says why there is nothing to judge; the exit status.
fn refuse(arguments: &Arguments, error: &CallError) -> u8 {
    let address = arguments.address.display();
    if arguments.instance.is_none() && error.is_about_instance() {
        let advice = "--instance NUMBER is missing: it is the socket of a data plane, and that says \
                      which of its instances is judged";
        complain(&format_args!("error: {address}: {advice}"));
        return USAGE;
    }
    let advice = match error {
        CallError::Unreachable { .. } => ": start it, or wait for it with --wait 10s",
        _ => "",
    };
    complain(&format_args!("error: {address}: {error}{advice}"));
    ABSENT
}

/// Writes a line to standard output. Between two rules nothing is left to be put back: where nobody
/// reads it the program ends there, and quietly where the reader has gone.
fn say(line: &dyn Display) {
    let mut output = io::stdout().lock();
    let Err(error) = writeln!(output, "{line}").and_then(|()| output.flush()) else { return };
    if error.kind() != io::ErrorKind::BrokenPipe {
        complain(&format_args!("error: cannot write to standard output: {error}"));
    }
    std::process::exit(INTERRUPTED.into());
}

/// Writes a line to standard error, if that can be.
fn complain(line: &dyn Display) {
    let _written = writeln!(io::stderr(), "{line}");
}

/// Waits until somebody serves a socket.
async fn served(path: &Path, wait: Duration) -> io::Result<()> {
    let connected = async {
        while UnixStream::connect(path).await.is_err() {
            sleep(AGAIN).await;
        }
    };
    match timeout(wait, connected).await {
        Ok(()) => Ok(()),
        Err(_) => UnixStream::connect(path).await.map(drop),
    }
}

/// Says how many rules are kept; the exit status.
fn conclude(lines: &[Line], complete: bool, interrupted: bool) -> u8 {
    let count = |is: fn(&Outcome) -> bool| lines.iter().filter(|line| is(&line.outcome)).count();
    let kept = count(|outcome| matches!(outcome, Outcome::Pass));
    let broken = count(|outcome| matches!(outcome, Outcome::Fail(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skip(_)));
    let most = skipped * 2 > lines.len();
    let (code, verdict) = match (broken, skipped) {
        (0, _) if interrupted => (INTERRUPTED, ": interrupted"),
        (0, 0) => (0, ""),
        (0, _) if most => (UNTOLD, ": too few to tell"),
        (0, _) if complete => (UNTOLD, ": not complete"),
        (0, _) => (0, ""),
        _ => (BROKEN, ""),
    };
    let all = lines.len();
    say(&format_args!("{all} rules: {kept} kept, {broken} not kept, {skipped} skipped{verdict}"));
    code
}

/// The path of an address.
fn socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").or(text.strip_prefix("unix:"));
    path.map(PathBuf::from).ok_or_else(|| "expected an address such as unix:///path".to_owned())
}

/// A length of time, such as 10s, 500ms or 2m; a plain number is in seconds.
fn span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err("expected a length of time such as 10s, 500ms or 2m".into()),
    };
    let number: f64 = digits.parse().map_err(|_| "expected a number and ms, s or m".to_owned())?;
    let span = Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())?;
    if span <= LONGEST { Ok(span) } else { Err("1 hour is the most".into()) }
}
