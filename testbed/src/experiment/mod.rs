//! OpenNF's experiment: 489 HTTP flows through one instance of an intrusion detection, and through
//! two between which they are moved while all are open; what comes of it without moves; and what a
//! move costs that promises less or more.

mod conversations;
mod forwarding_only;
mod full_clone;
mod generated;
mod known;
mod listed;
mod logs;
mod player;
mod plot;
mod promises;
mod promises_table;
mod replay;
mod report;
mod run;
mod segments;
mod summary;
mod tshark;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use weir_state_transfer::FlowKey;

use conversations::Conversations;
use forwarding_only::Lengths;
use known::Known;
use listed::List;
use logs::{Difference, Logs};
use run::Plan;

pub use forwarding_only::Emptied;
pub use listed::{Agreement, Counted};
pub use logs::Difference as LogDifference;
pub use promises::{Promise, Times};
pub use replay::Tally;
pub use report::{FullClone, Report, Waited};
pub use run::{Moved, Run};
pub use tshark::{Found, Otherwise, Said};

use crate::demo::Cancel;
use crate::folder::Folder;
use crate::{namespace, trace, wait};

/// The conversations, of the test data.
const CAPTURE: &str = "traces/http-489.pcap";
/// What is known of each.
const LIST: &str = "traces/http-489.flows.csv";
/// Flows of the seed's experiment.
const FLOWS: usize = 489;
/// Times that the lengths of flows are drawn.
const DRAWS: usize = 21;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Packets a second.
    pub rate: u64,
    /// Moves, to and fro in turn.
    pub moves: usize,
    /// Make conversations though there is a capture.
    pub generated: bool,
    /// Do without tshark.
    pub without_tshark: bool,
    /// Where everything random comes from.
    pub seed: u64,
    /// Where the report and the logs of the processes go.
    pub folder: PathBuf,
}

/// Runs the experiment and writes its report: `report.json`, `report.md` and plots.
///
/// # Errors
/// When something does not work at all, or it is cancelled. What works but is not exact is in [`Report::faults`].
pub fn run(options: &Options, cancel: &Cancel) -> Result<Report> {
    let started = wait::now();
    let folder = &options.folder;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    namespace::sweep()?;
    let Source { name, all, list, by_tshark } = source(options)?;
    let mut report = Report {
        source: name,
        flows: all.clients.len(),
        packets: all.packets.len(),
        rate: options.rate,
        seed: options.seed,
        without_tshark: options.without_tshark,
        ..Report::default()
    };
    let all = Arc::new(all);

    let plan = Plan { rate: options.rate, moves: 0 };
    let one = run::run(&all, plan, &folder.join("one"), cancel)?;
    let plan = Plan { moves: options.moves, ..plan };
    let two = run::run(&all, plan, &folder.join("two"), cancel)?;

    report.logs = two.logs.difference(&one.logs);
    report.unnamed = one.logs.unnamed() + two.logs.unnamed();
    report.listed = list.agreement(&all, &one.logs);
    if !options.without_tshark {
        report.tshark = tshark::compare(&all, &one.logs, by_tshark, Folder::new()?.path())?;
    }
    (report.one, report.two, report.moves) = (one.figures, two.figures, two.moves);
    report.promises = promises::run(options.moves, options.seed, &folder.join("promises"), cancel)?;

    let single = Logs::of(&full_clone::single(&all.packets))?;
    report.in_process = one.logs.difference(&single);
    report.clone = full_clone(&all, &single)?;
    report.forwarding_only = forwarding_only(report.flows, options.seed);
    report.seconds = (wait::now() - started).as_secs_f64();
    summary::write(&report, folder)?;
    Ok(report)
}

/// The figures in one line.
pub fn line(report: &Report) -> String {
    summary::line(report)
}

/// The table beside the published figures, and what stands behind it, as Markdown.
pub fn summary(report: &Report) -> String {
    summary::markdown(report)
}

/// Conversations, and what is known of them.
struct Source {
    name: String,
    all: Conversations,
    list: List,
    /// Requests and statuses that tshark reads otherwise.
    by_tshark: [Known; 2],
}

/// Those of the capture, or generated ones.
fn source(options: &Options) -> Result<Source> {
    let capture = trace::data(CAPTURE);
    if options.generated || !capture.exists() {
        let all = Conversations::new(&generated::frames(FLOWS, options.seed))?;
        let (name, list) = ("generated".to_owned(), List::of(&all));
        return Ok(Source { name, all, list, by_tshark: [Known::NOTHING; 2] });
    }
    Ok(Source {
        name: "real, http-489.pcap".to_owned(),
        all: Conversations::read(&capture)?,
        list: List::read(&trace::data(LIST), known::LISTED)?,
        by_tshark: [known::REQUESTS, known::STATUSES],
    })
}

/// Clones the instance when half of the packets have come.
fn full_clone(all: &Conversations, single: &Logs) -> Result<FullClone> {
    let to_clone = |key: &FlowKey| key.dst_port() == 80;
    let open = all.all_open();
    let at = open.start + open.len() / 2;
    let [original, clone] = full_clone::cloned(&all.packets, at, to_clone);
    let wrong = |records| -> Result<usize> {
        let Logs { conns, .. } = Logs::of(records)?;
        let conns = Logs { conns, ..Logs::default() };
        Ok(conns.difference(single).unexpected)
    };
    let (wrong_at_original, wrong_at_clone) = (wrong(&original)?, wrong(&clone)?);
    let logs: Difference = Logs::of(&[original, clone].concat())?.difference(single);
    Ok(FullClone { wrong_at_original, wrong_at_clone, logs })
}

fn forwarding_only(flows: usize, seed: u64) -> Waited {
    let mut seeds = fastrand::Rng::with_seed(seed);
    let mut draw = || forwarding_only::empty(flows, Lengths::long_tailed(), seeds.u64(..));
    let draws: Vec<_> = (0..DRAWS).map(|_| draw()).collect();
    Waited {
        seconds: draws.iter().map(|draw| draw.seconds).collect(),
        left_late: draws.iter().map(|draw| draw.left_late).collect(),
        long: draws.iter().map(|draw| draw.long).sum::<f64>() / DRAWS as f64,
        example: draws.into_iter().next().unwrap_or_default(),
    }
}
