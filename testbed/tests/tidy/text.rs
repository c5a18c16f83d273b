//! Rules of a single source file.

use super::Finding;

/// Longest file, tests included.
const LINES_MAX: usize = 500;
/// Longest line; code is kept to 100 by rustfmt, strings and comments may be longer.
const COLUMNS_MAX: usize = 120;

/// Marks of work that is not done.
const UNFINISHED: [&str; 8] =
    ["TODO", "FIXME", "XXX", "HACK", "todo!", "unimplemented!", "for now", "placeholder"];

/// Endings of type names that say nothing.
const EMPTY_WORDS: [&str; 4] = ["Manager", "Helper", "Util", "Handler"];

/// The languages that have rules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rust,
    C,
    Shell,
}

impl Kind {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "rs" => Some(Self::Rust),
            "c" | "h" => Some(Self::C),
            "sh" => Some(Self::Shell),
            _ => None,
        }
    }
}

/// Whether a tool wrote the file.
pub(crate) fn is_generated(content: &str) -> bool {
    content.lines().take(5).any(|line| line.contains("@generated"))
}

pub(crate) fn check(path: &str, kind: Kind, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let count = content.lines().count();
    if count > LINES_MAX {
        findings.push(format!("{path}: {count} lines, at most {LINES_MAX}"));
    }
    if !content.ends_with('\n') || content.ends_with("\n\n") {
        findings.push(format!("{path}: must end with one line feed"));
    }
    if kind == Kind::Rust && !content.starts_with("//!") {
        findings.push(format!("{path}: must begin with what the module is for (//!)"));
    }
    // This file spells out what it forbids.
    let spells_out = path.ends_with("tests/tidy/text.rs");
    for (number, line) in (1..).zip(content.lines()) {
        let mut found = |what: String| findings.push(format!("{path}:{number}: {what}"));
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            found(format!("{columns} columns, at most {COLUMNS_MAX}"));
        }
        if line.ends_with([' ', '\t']) {
            found("blanks at the end".to_owned());
        }
        if kind == Kind::Rust && line.contains('\t') {
            found("a tab".to_owned());
        }
        if spells_out {
            continue;
        }
        // A loop over times reads like a mark.
        let marks = line.replace("for now in ", "");
        for word in UNFINISHED.iter().filter(|word| has_word(&marks, word)) {
            found(format!("says \"{word}\": finish it"));
        }
        if kind == Kind::Rust {
            rust_line(line).into_iter().for_each(found);
        }
    }
    findings
}

/// Operations of the southbound API, which have the names that OpenNF gave them.
const OPERATIONS: [&str; 3] = ["get_per_flow", "get_multi_flow", "get_all_flows"];

fn rust_line(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    if line.trim() == "#[ignore]" {
        found.push("ignored without a reason".to_owned());
    }
    let code = line.split("//").next().unwrap_or_default();
    for keyword in ["struct ", "enum ", "trait "] {
        let Some((_, rest)) = code.split_once(keyword) else { continue };
        let name: &str = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if let Some(word) = EMPTY_WORDS.iter().find(|word| name.ends_with(**word)) {
            found.push(format!("{name}: \"{word}\" says nothing"));
        }
    }
    let name = code.split_once("pub fn ").or_else(|| code.split_once("pub(crate) fn "));
    let name = name.and_then(|(_, rest)| rest.split('(').next()).unwrap_or_default();
    if name.starts_with("get_") && !OPERATIONS.contains(&name) {
        found.push("a getter is named after what it returns, without get_".to_owned());
    }
    found
}

/// Whether `word` stands in the line, not as part of a longer one.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let after = line[at + word.len()..].chars().next();
        !part_of_word(line[..at].chars().next_back()) && !part_of_word(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "//! A module.\n\nfn main() {}\n";

    fn findings(content: &str) -> Vec<Finding> {
        check("a/b.rs", Kind::Rust, content)
    }

    fn assert_found(content: &str, what: &str) {
        let found = findings(content);
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }

    #[test]
    fn a_clean_file_has_no_findings() {
        assert_eq!(findings(CLEAN), Vec::<Finding>::new());
    }

    #[test]
    fn a_file_may_have_500_lines_but_not_501() {
        let lines = |count: usize| format!("//! A module.\n{}", "x\n".repeat(count - 1));
        assert_eq!(findings(&lines(500)).len(), 0);
        assert_found(&lines(501), "501 lines");
    }

    #[test]
    fn a_line_may_have_120_columns_but_not_121() {
        assert_eq!(findings(&format!("//! {}\n", "\u{e9}".repeat(116))).len(), 0);
        assert_found(&format!("//! {}\n", "x".repeat(117)), "b.rs:1: 121 columns");
    }

    #[test]
    fn blanks_tabs_and_bad_ends_are_found() {
        assert_found("//! A module. \n", "blanks");
        assert_found("//! A\tmodule.\n", "tab");
        assert_found("//! A module.", "line feed");
        assert_found("//! A module.\n\n", "line feed");
    }

    #[test]
    fn a_module_must_say_what_it_is_for() {
        assert_found("fn main() {}\n", "//!");
        assert_eq!(check("a.c", Kind::C, "int main;\n").len(), 0);
    }

    #[test]
    fn marks_of_unfinished_work_are_found_but_not_words_that_contain_them() {
        for word in UNFINISHED {
            assert_found(&format!("//! A module.\n// {word}: x\n"), word);
        }
        assert_eq!(findings("//! A.\nfor now in times {}\n").len(), 0);
        assert_eq!(findings("//! HACKSAW, XXXL and TODOS are words.\n").len(), 0);
    }

    #[test]
    fn empty_names_getters_and_bare_ignores_are_found() {
        assert_found("//! A.\nstruct FlowManager {}\n", "Manager");
        assert_found("//! A.\npub enum ErrorHandler<T> {}\n", "Handler");
        assert_found("//! A.\npub fn get_flow() {}\n", "get_");
        assert_found("//! A.\npub(crate) fn get_all_flows_of() {}\n", "get_");
        assert_eq!(findings("//! A.\npub fn get_all_flows(&self) {}\n").len(), 0);
        assert_found("//! A.\n#[ignore]\n", "reason");
        assert_eq!(findings("//! A.\n#[ignore = \"needs root\"]\nstruct Managerial;\n").len(), 0);
    }

    #[test]
    fn generated_files_are_known_by_their_mark() {
        assert!(is_generated("/* @generated by bpftool */\n"));
        assert!(!is_generated(CLEAN));
    }
}
