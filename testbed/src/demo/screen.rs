//! What the user sees while the demo runs: a line for each thing done, and live figures below.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Times a second that the live line may change.
const REDRAW: Duration = Duration::from_millis(100);

/// The terminal. Without one, the lines are printed and the live figures are not.
#[derive(Debug)]
pub(super) struct Screen {
    bar: ProgressBar,
    step: usize,
}

/// Steps that the demo announces.
const STEPS: usize = 6;

impl Screen {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {elapsed:>4}  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(REDRAW);
        Self { bar, step: 0 }
    }

    /// Announces the next step.
    pub(super) fn step(&mut self, what: &str) {
        self.step += 1;
        self.line(&format!("[{}/{STEPS}] {what}", self.step));
    }

    /// Tells a result within a step.
    pub(super) fn result(&self, what: &str) {
        self.line(&format!("      {what}"));
    }

    /// Shows live figures until the next ones come.
    pub(super) fn live(&self, figures: String) {
        self.bar.set_message(figures);
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| {
            // Whoever closes the output does not want to read on.
            let _closed = writeln!(io::stdout(), "{text}");
        });
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
