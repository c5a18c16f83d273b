//! One table of the file: keys are taken out one by one, and what is left over is unknown.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Finding, Findings};
use super::value::Label;

/// A table while it is read. Every fault goes to the findings and reading continues.
pub(super) struct Section<'a> {
    /// As the file writes it, for messages: `[memory]` or `[[port]]`.
    title: &'static str,
    table: &'a DeTable<'a>,
    header: Range<usize>,
    /// Keys that may stand here, and that are suggested for one that may not.
    known: Vec<&'static str>,
    /// Keys that have been judged, each with an error of its own if it stands here.
    refused: Vec<&'static str>,
    findings: &'a Findings,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        title: &'static str,
        table: &'a DeTable<'a>,
        header: Range<usize>,
        findings: &'a Findings,
    ) -> Self {
        Self { title, table, header, known: Vec::new(), refused: Vec::new(), findings }
    }

    /// The value of a key with the place where it stands, or `None` when it is absent or wrong.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Label>,
    ) -> Option<Spanned<T>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(Spanned::new(value.span(), parsed)),
            Err(label) => {
                let title = format!("bad value of {key} in {}", self.title);
                self.findings.push(Finding::error(value.span(), title, &label));
                None
            }
        }
    }

    /// The value of a key, or `default` when it is absent or wrong.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Label>,
    ) -> T {
        self.optional(key, parse).map_or(default, Spanned::into_inner)
    }

    /// The value of a key that has to be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Label>,
    ) -> Option<Spanned<T>> {
        if !self.table.contains_key(key) {
            let title = format!("missing key {key} in {}", self.title);
            let label = format!("this table needs {key}");
            self.findings.push(Finding::error(self.header.clone(), title, &label).over_the_whole());
        }
        self.optional(key, parse)
    }

    /// The good elements of an array, in order; none when the key is absent.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        most: usize,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Label>,
    ) -> Vec<Spanned<T>> {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let title = || format!("bad value of {key} in {}", self.title);
        let Some(array) = value.get_ref().as_array().filter(|array| array.len() <= most) else {
            let label = format!("expected a list of at most {most}, as in [...]");
            self.findings.push(Finding::error(value.span(), title(), &label));
            return Vec::new();
        };
        let mut parsed = Vec::with_capacity(array.len());
        for element in array {
            match parse(element.get_ref()) {
                Ok(good) => parsed.push(Spanned::new(element.span(), good)),
                Err(label) => self.findings.push(Finding::error(element.span(), title(), &label)),
            }
        }
        parsed
    }

    /// The tables of an array, each with this title; none when the key is absent.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        title: &'static str,
        most: usize,
    ) -> Vec<Section<'a>> {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let wrong = |span, label: &str| {
            let finding = Finding::error(span, format!("{key} has the wrong shape"), label);
            self.findings.push(finding);
        };
        let Some(array) = value.get_ref().as_array().filter(|array| array.len() <= most) else {
            wrong(value.span(), &format!("write {title}, {most} times at most"));
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for element in array {
            match element.get_ref().as_table() {
                Some(table) => {
                    sections.push(Section::new(title, table, element.span(), self.findings));
                }
                None => wrong(element.span(), &format!("write {title}")),
            }
        }
        sections
    }

    /// Refuses a key that exists but has no use here, and says why.
    pub(super) fn forbid(&mut self, key: &'static str, why: &str) {
        self.refused.push(key);
        if let Some((key, _)) = self.table.get_key_value(key) {
            let title = format!("{} has no use in this {}", key.get_ref(), self.title);
            self.findings.push(Finding::error(key.span(), title, why));
        }
    }

    /// Accepts keys whose values do not matter.
    pub(super) fn know(&mut self, keys: &[&'static str]) {
        self.known.extend_from_slice(keys);
    }

    /// Reports a fault of the table as a whole: keys that do not fit each other.
    pub(super) fn fault(&self, title: &str, label: &str, help: String) {
        let finding = Finding::error(self.header.clone(), title, label).over_the_whole();
        self.findings.push(finding.help(help));
    }

    /// Where the table begins.
    pub(super) fn header(&self) -> Range<usize> {
        self.header.clone()
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn close(self) {
        let judged = |key: &str| self.known.contains(&key) || self.refused.contains(&key);
        for (key, _) in self.table.iter().filter(|(key, _)| !judged(key.get_ref())) {
            let title = format!("unknown key {} in {}", key.get_ref(), self.title);
            let finding = Finding::error(key.span(), title, "nothing reads this");
            self.findings.push(suggest(finding, key.get_ref(), &self.known));
        }
    }
}

/// Adds "did you mean", or the words that exist.
pub(super) fn suggest(finding: Finding, written: &str, known: &[&str]) -> Finding {
    let likeness = |word: &&&str| strsim::normalized_damerau_levenshtein(written, word);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best {
        Some(best) if likeness(&best) >= 0.6 => finding.help(format!("did you mean `{best}`?")),
        Some(_) => finding.help(format!("known here: {}", known.join(", "))),
        None => finding,
    }
}
