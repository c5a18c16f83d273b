//! What is wrong with a configuration file, shown as the data plane shows it: line and caret.

use std::{fmt, ops::Range, path::PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Where in the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What stands beside the caret.
    pub label: String,
    /// What to do; empty when the rest says it.
    pub fix: String,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>, label: &str) -> Self {
        let label = label.to_owned();
        Self { line: 1, span, message: message.into(), label, fix: String::new() }
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }

    fn render(&self, text: &str, name: &str) -> String {
        let start = text.floor_char_boundary(self.span.start);
        let end = text.floor_char_boundary(self.span.end.max(start));
        let caret = AnnotationKind::Primary.span(start..end).label(self.label.as_str());
        let snippet = Snippet::source(text).path(name).annotation(caret);
        let mut group = Level::ERROR.primary_title(self.message.as_str()).element(snippet);
        if !self.fix.is_empty() {
            group = group.element(Level::HELP.message(self.fix.as_str()));
        }
        Renderer::plain().render(&[group])
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("error: cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong; shown whole, with carets.
    #[error("{0}")]
    Wrong(Faults),
}

impl ConfigError {
    /// The faults found, empty when the file could not be read.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Read { .. } => &[],
            Self::Wrong(faults) => &faults.faults,
        }
    }
}

/// Everything that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// What is wrong, in the order of the file.
    pub faults: Vec<Fault>,
    rendered: String,
}

impl Faults {
    /// Puts faults in the order of the file and finds their lines.
    pub(super) fn new(mut faults: Vec<Fault>, text: &str, name: &str) -> Self {
        faults.sort_by_key(|fault| fault.span.start);
        for fault in &mut faults {
            let before = &text.as_bytes()[..fault.span.start.min(text.len())];
            fault.line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        }
        let rendered = Self::render(&faults, text, name);
        Self { faults, rendered }
    }

    /// Shows the first 100 and the number of the rest.
    fn render(faults: &[Fault], text: &str, name: &str) -> String {
        const SHOWN: usize = 100;
        let shown = faults.iter().take(SHOWN).map(|fault| fault.render(text, name));
        let mut shown: Vec<String> = shown.collect();
        if faults.len() > SHOWN {
            shown.push(format!("and {} more", faults.len() - SHOWN));
        }
        shown.join("\n\n")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}
