//! What is wrong with a configuration file, shown with the line and a caret.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Everything found in one file: its errors, or the warnings of a file that is accepted.
#[derive(Clone, Debug)]
pub struct Report {
    path: String,
    text: String,
    findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// The number of errors and warnings.
    pub fn len(&self) -> usize {
        self.findings.len()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

impl fmt::Display for Report {
    /// Shows the first 100 findings and the number of the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 100;
        let renderer = Renderer::plain();
        for (n, finding) in self.findings.iter().take(SHOWN).enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&renderer.render(&[finding.group(&self.path, &self.text)]))?;
        }
        match self.findings.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}

impl std::error::Error for Report {}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub(super) struct Findings(RefCell<Vec<Finding>>);

impl Findings {
    pub(super) fn push(&self, finding: Finding) {
        self.0.borrow_mut().push(finding);
    }

    /// The report in the order of the file. Where a line is not TOML, what was read from it is a
    /// guess, and so is everything that was judged from the whole: only the syntax errors and what
    /// stands on other lines are kept.
    pub(super) fn into_report(self, path: &str, text: &str) -> Report {
        let mut findings = self.0.into_inner();
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |finding: &Finding| ends.partition_point(|end| *end < finding.span.start);
        let syntax = findings.iter().filter(|finding| finding.judged_from == Evidence::Syntax);
        let broken: HashSet<usize> = syntax.map(line).collect();
        findings.retain(|finding| match finding.judged_from {
            Evidence::Syntax => true,
            Evidence::Line => !broken.contains(&line(finding)),
            Evidence::Whole => broken.is_empty(),
        });
        findings.sort_by_key(|finding| (finding.span.start, finding.span.end));
        Report { path: path.to_owned(), text: text.to_owned(), findings }
    }
}

/// One error or warning, at one place of the file.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    severity: Severity,
    judged_from: Evidence,
    span: Range<usize>,
    title: String,
    label: String,
    help: Option<String>,
    context: Option<(Range<usize>, String)>,
}

impl Finding {
    /// An error that one line shows by itself: `label` stands beside the caret.
    pub(super) fn error(span: Range<usize>, title: impl Into<String>, label: &str) -> Self {
        Self {
            severity: Severity::Error,
            judged_from: Evidence::Line,
            span,
            title: title.into(),
            label: label.to_owned(),
            help: None,
            context: None,
        }
    }

    /// Something that is allowed and probably not meant.
    pub(super) fn warning(span: Range<usize>, title: impl Into<String>, label: &str) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, title, label) }
    }

    /// A line that is not TOML.
    pub(super) fn syntax(span: Range<usize>, title: impl Into<String>) -> Self {
        Self { judged_from: Evidence::Syntax, ..Self::error(span, title, "") }
    }

    /// Says that it follows from several places of the file.
    pub(super) fn over_the_whole(self) -> Self {
        Self { judged_from: Evidence::Whole, ..self }
    }

    /// Adds what to do.
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds the other place that it is about.
    pub(super) fn context(self, span: Range<usize>, label: &str) -> Self {
        Self { context: Some((span, label.to_owned())), ..self }
    }

    fn group<'a>(&'a self, path: &'a str, text: &'a str) -> Group<'a> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut snippet = Snippet::source(text).path(path).annotation(
            AnnotationKind::Primary.span(within(text, &self.span)).label(self.label.as_str()),
        );
        if let Some((span, label)) = &self.context {
            let context = AnnotationKind::Context.span(within(text, span)).label(label.as_str());
            snippet = snippet.annotation(context);
        }
        let group = level.primary_title(self.title.as_str()).element(snippet);
        match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

/// How much of the file has to be right for a finding to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    Syntax,
    Line,
    Whole,
}

/// The span cut to the text and to whole characters, as the renderer needs it.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.floor_char_boundary(span.end.max(start));
    start..end
}
