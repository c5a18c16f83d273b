//! Rules of documents that say which tests hold what: the tests are where they say, and nothing is
//! without one.
//!
//! A line `- path/of/a/file.rs: name, another_name`, with path and names in backticks, names tests;
//! its item may go on in the lines below. It is about the heading above, `### 3. A title`.

use super::Finding;

/// The tests that are not in the files that a document says they are in; `read` gives the text of a
/// file, if there is one.
pub(crate) fn missing(
    document: &str,
    text: &str,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, tests) in sections(text).iter().flat_map(|section| &section.named) {
        let Some(file) = read(path) else {
            findings.push(format!("{document}: `{path}` does not exist"));
            continue;
        };
        let there = tests_of(&file);
        let missing = tests.iter().filter(|name| !there.contains(&name.as_str()));
        findings.extend(missing.map(|name| format!("{document}: `{path}` has no test `{name}`")));
        if tests.is_empty() {
            findings.push(format!("{document}: `{path}` stands without a test"));
        }
    }
    findings
}

/// Headings that no test stands under, and a numbering that does not go from 1 up to `numbers`, one
/// for each chapter in order.
pub(crate) fn untested(document: &str, text: &str, numbers: &[usize]) -> Vec<Finding> {
    let sections = sections(text);
    let is_untested = |section: &&Section| section.named.iter().all(|(_, tests)| tests.is_empty());
    let untested = sections.iter().filter(is_untested);
    let mut findings: Vec<_> =
        untested.map(|section| format!("{document}: no test for \"{}\"", section.title)).collect();
    let expected: Vec<usize> = numbers.iter().flat_map(|last| 1..=*last).collect();
    let found: Vec<usize> = sections.iter().map_while(Section::number).collect();
    if found != expected {
        findings.push(format!("{document}: its numbers are {found:?}, expected {expected:?}"));
    }
    findings
}

/// What stands under a heading.
#[derive(Debug, Default)]
struct Section {
    title: String,
    /// Files, with the tests that are said to be in them.
    named: Vec<(String, Vec<String>)>,
}

impl Section {
    fn number(&self) -> Option<usize> {
        self.title.split_once('.')?.0.parse().ok()
    }
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut in_item = false;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            sections.push(Section { title: title.to_owned(), named: Vec::new() });
        }
        in_item = line.starts_with("- `") || (in_item && line.starts_with("  "));
        let Some(section) = sections.last_mut().filter(|_| in_item) else { continue };
        for word in line.split('`').skip(1).step_by(2) {
            match section.named.last_mut() {
                _ if word.ends_with(".rs") => section.named.push((word.to_owned(), Vec::new())),
                Some((_, tests)) => tests.push(word.to_owned()),
                None => {}
            }
        }
    }
    sections
}

/// The names of the tests in a source file.
fn tests_of(file: &str) -> Vec<&str> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in file.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            continue;
        }
        if let (true, Some((_, rest))) = (is_test, line.split_once("fn ")) {
            tests.extend(rest.split('(').next());
        }
        is_test = false;
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
# A title

## Faults

### 1. Something is lost

Why, in `words`.

- `a/lost.rs`: `nothing_is_lost`,
  `nothing_is_lost_late`

## Others

### 1. Something is slow

- `a/slow.rs`: `nothing_is_slow`
";

    fn file(path: &str) -> Option<String> {
        let body = match path {
            "a/lost.rs" => {
                "#[test]\nfn nothing_is_lost() {}\n\n\
                 #[tokio::test(flavor = \"x\")]\n#[ignore = \"y\"]\nasync fn nothing_is_lost_late() {}"
            }
            "a/slow.rs" => "fn nothing_is_slow() {}\n#[test]\nfn other() {}\n",
            _ => return None,
        };
        Some(body.to_owned())
    }

    #[test]
    fn what_is_named_must_be_a_test_of_its_file() {
        let slow = "A.md: `a/slow.rs` has no test `nothing_is_slow`";
        assert_eq!(missing("A.md", DOCUMENT, file), [slow]);
        let other = DOCUMENT.replace("nothing_is_slow", "other");
        assert_eq!(missing("A.md", &other, file), Vec::<Finding>::new());
        let gone = other.replace("a/slow.rs", "a/fast.rs");
        assert_eq!(missing("A.md", &gone, file), ["A.md: `a/fast.rs` does not exist"]);
        let bare = other.replace(": `other`", "");
        assert_eq!(missing("A.md", &bare, file), ["A.md: `a/slow.rs` stands without a test"]);
    }

    #[test]
    fn every_heading_has_a_test_and_its_number() {
        assert_eq!(untested("A.md", DOCUMENT, &[1, 1]), Vec::<Finding>::new());
        let bare = DOCUMENT.replace("- `a/slow.rs`: `nothing_is_slow`", "");
        let found = untested("A.md", &bare, &[1, 1]);
        assert_eq!(found, ["A.md: no test for \"1. Something is slow\""]);
        let found = untested("A.md", DOCUMENT, &[2, 1]);
        assert_eq!(found, ["A.md: its numbers are [1, 1], expected [1, 2, 1]"]);
    }
}
