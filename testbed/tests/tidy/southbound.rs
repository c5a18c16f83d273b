//! How much of each network function's code is there for its southbound API: OpenNF reports 4 to
//! 10 % for the functions that it changed (section 7).

use std::collections::BTreeSet;

/// A network function, where its code is, and files that are of the API as a whole beside those of
/// [`WHOLE`]. What functions have in common counts for each.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) folders: &'static [&'static str],
    whole: &'static [&'static str],
    /// The function itself is not here and is not changed: its code is an agent beside it, which is
    /// there for nothing but the API.
    pub(crate) is_agent: bool,
}

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "firewall",
        folders: &["dataplane/src/nf/firewall/", "dataplane/src/nf/connection/"],
        whole: &[],
        is_agent: false,
    },
    Function { name: "ids", folders: &["dataplane/src/nf/ids/"], whole: &[], is_agent: false },
    Function {
        name: "assets",
        folders: &["dataplane/src/nf/assets/"],
        whole: &[],
        is_agent: false,
    },
    Function {
        name: "nat",
        folders: &["dataplane/src/nf/nat/", "dataplane/src/nf/connection/"],
        whole: &[],
        is_agent: false,
    },
    Function {
        name: "cache",
        folders: &["dataplane/nf-cache/src/"],
        whole: &["cache/objects.rs", "cache/connections.rs", "connection/repair.rs"],
        is_agent: false,
    },
    Function {
        name: "conntrack",
        folders: &["dataplane/nf-conntrack/src/"],
        whole: &[],
        is_agent: true,
    },
];

/// Files that hold nothing but state as chunks.
const WHOLE: [&str; 3] = ["southbound.rs", "codec.rs", "body.rs"];
/// Functions that make bytes or chunks of state, or the other way.
const VERBS: [&str; 15] = [
    "encode",
    "decode",
    "put",
    "take",
    "to_chunk",
    "from_chunk",
    "chunk_of",
    "state_of",
    "kinds",
    "inherit",
    "counted_as",
    "get_multi_flow",
    "put_multi_flow",
    "get_all_flows",
    "put_all_flows",
];

impl Function {
    /// Lines of code of a file of the function, and how many of them are of the API.
    pub(crate) fn count(&self, path: &str, text: &str) -> (usize, usize) {
        let lines = code(text);
        let is_whole = |name: &&str| path.ends_with(&format!("/{name}"));
        let whole = self.is_agent || WHOLE.iter().chain(self.whole).any(is_whole);
        let of_api = if whole { lines.len() } else { of_verbs(&lines) };
        (lines.len(), of_api)
    }

    /// Whether a file is of the function, and no test.
    pub(crate) fn has(&self, path: &str) -> bool {
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        path.ends_with(".rs") && !is_test && self.folders.iter().any(|at| path.starts_with(at))
    }
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

/// Lines of code: neither empty nor comments nor tests, which end a file.
fn code(text: &str) -> Vec<&str> {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").filter(is_code).collect()
}

/// Lines of functions that are named as the API has it: from the name to the closing brace that is
/// indented as it is.
fn of_verbs(lines: &[&str]) -> usize {
    let mut count = 0;
    let mut end: Option<String> = None;
    for line in lines {
        let indent = &line[..line.len() - line.trim_start().len()];
        if end.is_none() && named(line).is_some_and(|name| VERBS.contains(&name)) {
            end = Some(format!("{indent}}}"));
        }
        if let Some(brace) = &end {
            count += 1;
            if line.trim_end() == brace {
                end = None;
            }
        }
    }
    count
}

/// The name of the function that begins in a line.
fn named(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_modifier = |word: &str| word.starts_with("pub") || ["const", "async"].contains(&word);
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    before.split_whitespace().all(is_modifier).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
//! A function.
impl Source {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            out.u64(1);
        })
    }

    fn other(&self) -> u64 { self.encode().len() as u64 }
}
#[cfg(test)]
mod tests {}
";

    #[test]
    fn functions_of_the_api_count_and_all_of_a_file_that_is_named_so() {
        let function = &FUNCTIONS[1];
        assert_eq!(function.count("dataplane/src/nf/ids/scan.rs", TEXT), (8, 5));
        assert_eq!(function.count("dataplane/src/nf/ids/southbound.rs", TEXT), (8, 8));
        assert!(function.has("dataplane/src/nf/ids/scan.rs"));
        assert!(!function.has("dataplane/src/nf/ids/tests/scans.rs"));
    }

    #[test]
    fn an_agent_is_of_the_api_as_a_whole() {
        let agent = FUNCTIONS.iter().find(|function| function.is_agent).unwrap();
        assert_eq!(agent.count("dataplane/nf-conntrack/src/entry.rs", TEXT), (8, 8));
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
