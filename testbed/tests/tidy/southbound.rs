//! How much of each network function's code is there for its southbound API: OpenNF reports 4 to
//! 10 % for the functions that it changed (section 7), its poster 3 to 8 %.
//!
//! A function of the code counts as a whole when it names a type of the API or of its codec, and so
//! does all of a file that is there for nothing else. Imports and fields of the other files do not
//! count, nor does what all functions have in common: `dataplane/src/nf/*.rs` and the libraries.

use std::collections::BTreeSet;
use std::iter::Sum;

use crate::text::has_word;

/// A network function, and where its code is. What functions have in common counts for each.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) folders: &'static [&'static str],
    /// Files that are there for the API alone.
    whole: &'static [&'static str],
    /// Types and fields of its own that are there for the API alone.
    names: &'static [&'static str],
    /// The function itself is not here and is not changed: its code is an agent beside it, which is
    /// there for nothing but the API.
    pub(crate) is_agent: bool,
}

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "firewall",
        folders: &["dataplane/src/nf/firewall/", "dataplane/src/nf/connection/"],
        whole: &[
            "dataplane/src/nf/connection/codec.rs",
            "dataplane/src/nf/connection/southbound.rs",
            "dataplane/src/nf/firewall/codec.rs",
            "dataplane/src/nf/firewall/southbound.rs",
        ],
        names: &[],
        is_agent: false,
    },
    Function {
        name: "ids",
        folders: &["dataplane/src/nf/ids/"],
        whole: &["dataplane/src/nf/ids/codec.rs", "dataplane/src/nf/ids/southbound.rs"],
        names: &[],
        is_agent: false,
    },
    Function {
        name: "assets",
        folders: &["dataplane/src/nf/assets/"],
        whole: &["dataplane/src/nf/assets/southbound.rs"],
        names: &[],
        is_agent: false,
    },
    Function {
        name: "nat",
        folders: &["dataplane/src/nf/nat/", "dataplane/src/nf/connection/"],
        whole: &[
            "dataplane/src/nf/connection/codec.rs",
            "dataplane/src/nf/connection/southbound.rs",
            "dataplane/src/nf/nat/codec.rs",
            "dataplane/src/nf/nat/southbound.rs",
        ],
        names: &[],
        is_agent: false,
    },
    Function {
        name: "cache",
        folders: &["dataplane/nf-cache/src/"],
        whole: &[
            "dataplane/nf-cache/src/cache/objects.rs",
            "dataplane/nf-cache/src/cache/requests.rs",
            "dataplane/nf-cache/src/cache/southbound.rs",
            "dataplane/nf-cache/src/connection/repair.rs",
            "dataplane/nf-cache/src/kinds.rs",
        ],
        names: &["Admission", "Description", "Repaired", "Restored", "Service", "adopted"],
        is_agent: false,
    },
    Function {
        name: "conntrack",
        folders: &["dataplane/nf-conntrack/src/"],
        whole: &[],
        names: &[],
        is_agent: true,
    },
];

/// Types of `weir_state_transfer` and of the chain that only the API has need of. A [`Replica`] is
/// not among them, as who counts says as which, but what is taken over from one that has ended is.
///
/// [`Replica`]: weir_state_transfer::merge::Replica
const NAMES: [&str; 17] = [
    "Southbound",
    "StateKind",
    "FlowId",
    "Chunk",
    "Cursor",
    "PutError",
    "BodyError",
    "Reader",
    "Writer",
    "WireError",
    "decode_body",
    "Join",
    "Figures",
    "Life",
    "Lives",
    "by: Replica",
    "SubscriptionId",
];
/// What reads packets with the reader of the codec.
const READS_PACKETS: &str = "dataplane/src/nf/assets/service/";
/// Where lines of a share stand, which is another API: they count apart.
const SHARE: &str = "/share.rs";

/// Lines of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) all: usize,
    pub(crate) of_api: usize,
    pub(crate) of_shares: usize,
}

impl Sum for Lines {
    fn sum<I: Iterator<Item = Self>>(lines: I) -> Self {
        lines.fold(Self::default(), |sum, lines| Self {
            all: sum.all + lines.all,
            of_api: sum.of_api + lines.of_api,
            of_shares: sum.of_shares + lines.of_shares,
        })
    }
}

impl Function {
    /// Lines of a file of the function.
    pub(crate) fn count(&self, path: &str, text: &str) -> Lines {
        let lines = code(text);
        let all = lines.len();
        if path.ends_with(SHARE) {
            return Lines { all, of_api: 0, of_shares: all };
        }
        let whole = self.is_agent || self.whole.contains(&path);
        let of_items = || self.items(path, &lines).iter().map(|item| item.len()).sum();
        Lines { all, of_api: if whole { all } else { of_items() }, of_shares: 0 }
    }

    /// Whether a file is of the function, and no test.
    pub(crate) fn has(&self, path: &str) -> bool {
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        path.ends_with(".rs") && !is_test && self.folders.iter().any(|at| path.starts_with(at))
    }

    /// The functions among lines that name something of the API, and implementations of its traits.
    fn items<'a>(&self, path: &str, lines: &'a [&'a str]) -> Vec<&'a [&'a str]> {
        let mut items = Vec::new();
        let mut at = if path.starts_with(READS_PACKETS) { lines.len() } else { 0 };
        while at < lines.len() {
            let begun = begun(lines[at]);
            let item = &lines[at..begun.map_or(at, |_| end_of_item(lines, at))];
            let counts = match begun {
                None => false,
                Some(Begun::Function) => item.iter().any(|line| self.names_api(line)),
                Some(Begun::Implementation(of)) => NAMES.contains(&of),
            };
            if counts {
                items.push(item);
            }
            // What is in an implementation of something else is looked at by itself.
            let passed = counts || matches!(begun, Some(Begun::Function));
            at += if passed { item.len() } else { 1 };
        }
        items
    }

    fn names_api(&self, line: &str) -> bool {
        NAMES.iter().chain(self.names).any(|name| has_word(line, name))
    }
}

/// What begins in a line.
#[derive(Clone, Copy)]
enum Begun<'a> {
    Function,
    /// Of this trait; of none, it has no name.
    Implementation(&'a str),
}

fn begun(line: &str) -> Option<Begun<'_>> {
    let is_modifier = |word: &str| word.starts_with("pub") || ["const", "async"].contains(&word);
    let is_function = |before: &str| before.split_whitespace().all(is_modifier);
    if line.split_once("fn ").is_some_and(|(before, _)| is_function(before)) {
        return Some(Begun::Function);
    }
    let header =
        line.trim_start().strip_prefix("impl").filter(|rest| rest.starts_with([' ', '<']))?;
    let of = header.split_once(" for ").map_or("", |(before, _)| before);
    let of = of.rsplit(' ').next().unwrap_or_default();
    Some(Begun::Implementation(of.split('<').next().unwrap_or_default()))
}

/// Behind the end of what begins at a line: a brace, or a semicolon, that is indented as it is.
fn end_of_item(lines: &[&str], at: usize) -> usize {
    let is_end = |(n, line): &(usize, &&str)| {
        let ends = line.ends_with(';') || (*line).trim_start() == "}";
        indent(line) == indent(lines[at]) && (ends || (*n == 0 && line.ends_with('}')))
    };
    let last = lines[at..].iter().enumerate().find(is_end).map(|(n, _)| n);
    at + last.expect("what begins ends") + 1
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The network functions that there are: the kinds of `[[nf]]`, as the table of the configuration
/// has them, and the crates of those in processes of their own, but for that of the API itself.
pub(crate) fn known<'a>(config: &'a str, files: &'a [String]) -> BTreeSet<&'a str> {
    let table = config.split_once("const KINDS").and_then(|(_, rest)| rest.split_once(';'));
    let kinds = table.map_or("", |(table, _)| table).split('"').skip(1).step_by(2);
    let folders = files.iter().filter_map(|path| path.strip_prefix("dataplane/nf-"));
    let crates =
        folders.filter_map(|path| Some(path.split_once('/')?.0)).filter(|name| *name != "api");
    kinds.chain(crates).collect()
}

/// The share of a function, in percent, that a document has in a table of two columns.
pub(crate) fn told(document: &str, name: &str) -> Option<f64> {
    let row = format!("| `{name}` | ");
    let (_, rest) = document.lines().find_map(|line| line.split_once(&row))?;
    rest.split_once(" %")?.0.parse().ok()
}

/// Lines of code: neither empty nor comments nor tests.
fn code(text: &str) -> Vec<&str> {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let mut lines = text.lines().map(str::trim_end).filter(is_code);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim_start() == "#[cfg(test)]" {
            // To the end of what is only for tests, which is indented as this is.
            let _last = lines
                .find(|of_test| indent(of_test) == indent(line) && of_test.ends_with(['}', ';']));
        } else {
            found.push(line);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{files, read};

    fn function(name: &str) -> &'static Function {
        FUNCTIONS.iter().find(|function| function.name == name).unwrap()
    }

    /// What counts of a file here: the names of functions, and first lines of implementations.
    fn counted(name: &str, path: &str) -> Vec<String> {
        let text = read(path);
        let lines = code(&text);
        let name_of = |item: &&[&str]| match item[0].split_once("fn ") {
            Some((_, rest)) => rest.split(['(', '<']).next().unwrap().to_owned(),
            None => item[0].trim_end_matches(" {").to_owned(),
        };
        function(name).items(path, &lines).iter().map(name_of).collect()
    }

    #[test]
    fn what_is_named_as_the_api_and_is_none_of_it_does_not_count() {
        let body = "dataplane/nf-cache/src/proxy/body.rs";
        let lines = function("cache").count(body, &read(body));
        assert!(lines.all > 100 && lines.of_api == 0, "bodies of HTTP: {lines:?}");
        assert_eq!(counted("cache", "dataplane/nf-cache/src/store/mod.rs"), [""; 0]);
        assert_eq!(counted("assets", "dataplane/src/nf/assets/service/tls.rs"), [""; 0]);
        let of_bucket = counted("firewall", "dataplane/src/nf/firewall/bucket.rs");
        let expected = ["inherit", "take_from", "retire", "impl Join for Bucket"];
        assert_eq!(of_bucket, expected, "to take a token is none of it");
    }

    #[test]
    fn what_is_of_the_api_counts_wherever_it_stands() {
        for name in ["kinds.rs", "cache/requests.rs", "connection/repair.rs"] {
            let path = format!("dataplane/nf-cache/src/{name}");
            let lines = function("cache").count(&path, &read(&path));
            assert!(lines.of_api > 10 && lines.of_api == lines.all, "{path}: {lines:?}");
        }
        let of_run = counted("cache", "dataplane/nf-cache/src/run.rs");
        assert_eq!(of_run, ["serve_peers", "southbound", "peers"]);
        // Behind a function that is there for tests alone, and modules of tests.
        let of_scan = counted("ids", "dataplane/src/nf/ids/scan.rs");
        assert!(
            ["encode", "decode"].iter().all(|of| of_scan.contains(&(*of).into())),
            "{of_scan:?}"
        );
        let of_firewall = counted("firewall", "dataplane/src/nf/firewall/mod.rs");
        assert_eq!(of_firewall, ["take_over"]);
        // Declared in a trait, where it has no end of its own, and implemented.
        let of_lowest = counted("assets", "dataplane/src/nf/assets/lowest.rs");
        assert_eq!(of_lowest.iter().filter(|item| *item == "put").count(), 2, "{of_lowest:?}");
    }

    #[test]
    fn every_file_that_speaks_the_api_has_lines_that_count() {
        let files = files();
        for function in FUNCTIONS {
            for path in function.whole {
                assert!(files.iter().any(|file| file == path), "{path}: is it there?");
            }
            for path in files.iter().filter(|path| function.has(path)) {
                let text = read(path);
                let apis = ["southbound", "wire"].map(|of| format!("transfer::{of}"));
                let speaks = code(&text).iter().any(|line| apis.iter().any(|of| line.contains(of)));
                let lines = function.count(path, &text);
                let is_counted = lines.of_api + lines.of_shares > 0;
                assert!(!speaks || is_counted || path.starts_with(READS_PACKETS), "{path}");
            }
        }
    }

    #[test]
    fn an_agent_is_of_the_api_as_a_whole() {
        let path = "dataplane/nf-conntrack/src/entry.rs";
        let lines = function("conntrack").count(path, &read(path));
        assert!(lines.of_api == lines.all && lines.all > 100, "{lines:?}");
    }

    #[test]
    fn functions_are_found_in_the_configuration_and_by_their_crates() {
        let table = "const KINDS: &[(&str, Kind)] =\n    &[(\"a\", A), (\"b\", B)];";
        let config = format!("const OTHER: &str = \"x\";\n{table}\nconst KEYS: &str = \"c\";");
        let files =
            ["dataplane/nf-api/src/lib.rs", "dataplane/nf-d/src/lib.rs", "control/nf-e/a.rs"];
        let files = files.map(str::to_owned);
        assert_eq!(known(&config, &files), BTreeSet::from(["a", "b", "d"]));
    }
}
