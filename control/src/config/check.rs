//! Finds everything that is wrong with a configuration file and shows where.

use std::{fmt, ops::Range, path::PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use toml::de::{DeTable, DeValue};

use super::Config;

/// Top-level tables of the file that the data plane reads.
const DATAPLANE_TABLES: [&str; 14] = [
    "node",
    "dataplane",
    "idle",
    "worker",
    "memory",
    "steering",
    "flow_table",
    "route_table",
    "moves",
    "neighbour",
    "icmp",
    "port",
    "route",
    "instance",
];
const CONTROL_KEYS: [&str; 5] = ["socket", "dataplane_socket", "store", "listen", "tls"];
const TLS_KEYS: [&str; 3] = ["ca", "cert", "key"];
const SCALING_KEYS: [&str; 10] =
    ["auto", "min", "max", "high", "low", "target", "dwell", "cool_down", "interval", "window"];

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Where in the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do; empty when the message says it.
    pub fix: String,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
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

/// Everything that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// What is wrong, in the order of the file.
    pub faults: Vec<Fault>,
    rendered: String,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
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

pub(super) fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
    let mut checker = Checker { text, faults: Vec::new() };
    let config = checker.check();
    match config {
        Some(config) if checker.faults.is_empty() => Ok(config),
        _ => Err(checker.into_error(name)),
    }
}

struct Checker<'a> {
    text: &'a str,
    faults: Vec<Fault>,
}

impl<'a> Checker<'a> {
    fn check(&mut self) -> Option<Config> {
        let root = match DeTable::parse(self.text) {
            Ok(root) => root,
            Err(error) => {
                self.toml_fault(&error);
                return None;
            }
        };
        let root = root.get_ref();
        let tables: Vec<&str> =
            DATAPLANE_TABLES.iter().chain(&["control", "scaling"]).copied().collect();
        self.unknown_keys(root, "the file", &tables);
        let control = table(root, "control");
        if let Some(control) = control {
            self.unknown_keys(control, "[control]", &CONTROL_KEYS);
            if let Some(tls) = table(control, "tls") {
                self.unknown_keys(tls, "[control.tls]", &TLS_KEYS);
            }
        }
        let scaling = table(root, "scaling");
        if let Some(scaling) = scaling {
            self.unknown_keys(scaling, "[scaling]", &SCALING_KEYS);
        }
        let config: Config = match toml::from_str(self.text) {
            Ok(config) => config,
            Err(error) => {
                self.toml_fault(&error);
                return None;
            }
        };
        if let Some(listen) = config.control.listen
            && config.control.tls.is_none()
        {
            let message = format!("listening on {listen} needs mutual TLS, on loopback too");
            let fix = "add a [control.tls] table with ca, cert and key; `weir pki init` and \
                       `weir pki issue` make them";
            self.fault(key_span(control, "listen"), message, fix.to_owned());
        }
        for (key, why) in config.scaling.faults() {
            self.fault(key_span(scaling, key), format!("{key} {why}"), String::new());
        }
        Some(config)
    }

    fn unknown_keys(&mut self, table: &DeTable<'_>, place: &str, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let closest = known
                .iter()
                .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
                .min()
                .filter(|(distance, candidate)| *distance <= candidate.len().max(4) / 2);
            let fix = closest.map_or_else(
                || format!("known here: {}", known.join(", ")),
                |(_, candidate)| format!("did you mean `{candidate}`?"),
            );
            self.fault(key.span(), format!("unknown key `{name}` in {place}"), fix);
        }
    }

    fn toml_fault(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        self.fault(span, error.message().to_owned(), String::new());
    }

    fn fault(&mut self, span: Range<usize>, message: String, fix: String) {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        self.faults.push(Fault { line, span, message, fix });
    }

    fn into_error(mut self, name: &str) -> ConfigError {
        self.faults.sort_by_key(|fault| fault.span.start);
        let mut rendered = String::new();
        for fault in &self.faults {
            let snippet = Snippet::source(self.text)
                .path(name)
                .annotation(AnnotationKind::Primary.span(fault.span.clone()));
            let mut group = Level::ERROR.primary_title(fault.message.as_str()).element(snippet);
            if !fault.fix.is_empty() {
                group = group.element(Level::HELP.message(fault.fix.as_str()));
            }
            if !rendered.is_empty() {
                rendered.push_str("\n\n");
            }
            rendered.push_str(&Renderer::plain().render(&[group]));
        }
        ConfigError::Wrong(Faults { faults: self.faults, rendered })
    }
}

fn table<'t, 'i>(parent: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
    match parent.get(key).map(|value| value.get_ref()) {
        Some(DeValue::Table(table)) => Some(table),
        _ => None,
    }
}

/// Where a key of a table stands; the start of the file when it is not written there.
fn key_span(table: Option<&DeTable<'_>>, key: &str) -> Range<usize> {
    let found = table.and_then(|table| table.get_key_value(key));
    found.map_or(0..0, |(key, _)| key.span())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(usize, String, String)> {
        let error = parse(text, "weir.toml").unwrap_err();
        error.faults().iter().map(|f| (f.line, f.message.clone(), f.fix.clone())).collect()
    }

    #[test]
    fn an_empty_file_takes_the_defaults_and_other_tables_are_the_data_planes() {
        assert_eq!(parse("", "weir.toml").unwrap(), Config::default());
        let shared = "[node]\nname = 'a'\n[[port]]\nname = 'p0'\n[scaling]\nmax = 8\n";
        assert_eq!(parse(shared, "weir.toml").unwrap().scaling.max, 8);
    }

    #[test]
    fn unknown_keys_are_refused_with_line_and_suggestion_all_at_once() {
        let text = "[control]\nsockt = '/x'\n\n[scaling]\ncooldown = '1s'\nzebra = 1\n[contrl]\n";
        let found = faults(text);
        assert_eq!(found.iter().map(|fault| fault.0).collect::<Vec<_>>(), [2, 5, 6, 7]);
        assert_eq!(found[0].1, "unknown key `sockt` in [control]");
        assert_eq!(found[0].2, "did you mean `socket`?");
        assert_eq!(found[1].2, "did you mean `cool_down`?");
        assert!(found[2].2.starts_with("known here: auto, "), "{}", found[2].2);
        assert_eq!(found[3].2, "did you mean `control`?");
    }

    #[test]
    fn the_message_shows_the_line_with_a_caret() {
        let text = "[control]\nsockt = '/x'\n";
        let shown = parse(text, "weir.toml").unwrap_err().to_string();
        assert!(shown.contains("weir.toml:2:1") && shown.contains("sockt = '/x'"), "{shown}");
        assert!(shown.contains("^^^^^") && shown.contains("did you mean `socket`?"), "{shown}");
    }

    #[test]
    fn wrong_values_are_refused_where_they_stand() {
        for (text, line, says) in [
            ("[scaling]\nmin = 'one'", 2, "invalid type"),
            ("[scaling]\n\ndwell = '5 parsecs'", 3, "a time is a number and a unit"),
            ("[scaling]\nmin = 3\nmax = 2", 3, "max must be at least min"),
            ("[control]\nlisten = '0.0.0.0:7440'", 2, "needs mutual TLS"),
            ("[control]\nlisten = '127.0.0.1:7440'", 2, "needs mutual TLS"),
            ("[control.tls]\nca = 'a'\ncert = 'b'", 1, "missing field `key`"),
            ("[control\n", 1, ""),
        ] {
            let found = faults(text);
            assert_eq!(found[0].0, line, "{text}: {found:?}");
            assert!(found[0].1.contains(says), "{text}: {found:?}");
        }
    }
}
