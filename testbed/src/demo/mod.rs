//! The main job, shown: one switch instance becomes four and goes back to one while real traffic
//! flows, and nothing is lost.

mod automatic;
mod baseline;
mod cancel;
mod cycles;
mod kill;
mod report;
mod screen;
mod stage;
mod summary;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub use cancel::Cancel;
pub use report::{Auto, Hold, Report, ScaleDecision, SidecarKill};
use stage::Stage;
pub use summary::summary;

use crate::{namespace, wait};

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// UDP flows between all ordered pairs of SAPs.
    pub flows: usize,
    /// Times that the service goes from one instance to four and back by command.
    pub cycles: usize,
    /// Packets a second of all flows together, while scaling by command.
    pub rate: u64,
    /// Where everything random comes from.
    pub seed: u64,
    /// Where the report and the logs go.
    pub folder: PathBuf,
}

/// Runs the demo and writes `report.json` to its folder.
///
/// # Errors
/// When something does not work at all, or the demo is cancelled. What works but is not clean is
/// in [`Report::faults`].
pub fn run(options: &Options, cancel: &Cancel) -> Result<Report> {
    let started = wait::now();
    fs::create_dir_all(&options.folder)
        .with_context(|| format!("making {}", options.folder.display()))?;
    namespace::sweep()?;
    let mut stage = Stage::build(options, cancel)?;
    baseline::run(&mut stage)?;
    cycles::run(&mut stage, options.cycles)?;
    kill::run(&mut stage)?;
    automatic::run(&mut stage)?;
    let mut report = stage.finish()?;
    report.seconds = (wait::now() - started).as_secs_f64();
    let path = options.folder.join("report.json");
    fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(report)
}
