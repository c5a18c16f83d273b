//! Rules of the documents: what they name must be there.

use std::collections::BTreeSet;

use super::Finding;

/// Endings by which a word in backticks is taken for a file of the repository.
const ENDINGS: [&str; 8] = [".rs", ".c", ".h", ".proto", ".toml", ".sh", ".md", ".yaml"];

/// The files and folders in backticks that are not there.
///
/// A name is that of a file when it is its path, or the end of one path or more. What is not of
/// the repository is not looked for: absolute paths, those of `target` and of the folder above.
pub(crate) fn missing_files(document: &str, text: &str, files: &[String]) -> Vec<Finding> {
    let mut missing = Vec::new();
    for name in quoted(text).flat_map(|name| expand(&name)) {
        let is_folder = name.ends_with('/');
        let is_file = ENDINGS.iter().any(|ending| name.ends_with(ending));
        let outside = ["/", "target/", "..", "~", "."].iter().any(|start| name.starts_with(start))
            && !name.starts_with(".ci/");
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        if outside || !plain || !(is_file || is_folder) {
            continue;
        }
        let there = files.iter().any(|file| {
            if is_folder {
                file.starts_with(&name) || file.contains(&format!("/{name}"))
            } else {
                *file == name || file.ends_with(&format!("/{name}"))
            }
        });
        if !there {
            missing.push(format!("{document}: `{name}` does not exist"));
        }
    }
    missing
}

/// The targets of a Makefile.
pub(crate) fn targets(makefile: &str) -> BTreeSet<String> {
    let rule = |line: &str| {
        let (names, rest) = line.split_once(':')?;
        let is_rule = !names.starts_with(['\t', '.', '#']) && !rest.starts_with('=');
        is_rule.then(|| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    makefile.lines().filter_map(rule).flatten().collect()
}

/// The `make` commands, in backticks or in blocks of code, that are no target.
pub(crate) fn missing_targets(
    document: &str,
    text: &str,
    targets: &BTreeSet<String>,
) -> Vec<Finding> {
    let commands = quoted(text).chain(code_lines(text).map(str::to_owned));
    let target = |command: String| {
        let mut words = command.trim().trim_start_matches(['$', '#', ' ']).split_whitespace();
        (words.next() == Some("make")).then(|| words.next().unwrap_or("help").to_owned())
    };
    commands
        .filter_map(target)
        .filter(|target| !targets.contains(target))
        .map(|target| format!("{document}: `make {target}` is no target of the Makefile"))
        .collect()
}

/// What stands between single backticks outside of blocks of code.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    let prose: String =
        text.split("```").step_by(2).flat_map(|part| [part, "\n"]).collect::<Vec<_>>().concat();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The lines of blocks of code.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).flat_map(str::lines)
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn expand(name: &str) -> Vec<String> {
    let Some((head, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((choices, tail)) = rest.split_once('}') else { return vec![name.to_owned()] };
    choices.split(',').flat_map(|choice| expand(&format!("{head}{choice}{tail}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<String> {
        ["dataplane/src/worker/poll.rs", "xdp/src/ring.rs", ".ci/run"].map(str::to_owned).into()
    }

    fn missing(text: &str) -> usize {
        missing_files("A.md", text, &files()).len()
    }

    #[test]
    fn names_of_files_that_exist_pass_in_full_and_in_part() {
        assert_eq!(
            missing("see `dataplane/src/worker/poll.rs` and `worker/poll.rs`, `ring.rs`"),
            0
        );
        assert_eq!(missing("the folder `xdp/` and `{xdp,dataplane}/src/`"), 0);
    }

    #[test]
    fn a_name_that_does_not_exist_is_found() {
        assert_eq!(missing("see `worker/pole.rs`"), 1);
        assert_eq!(missing("`oll.rs` is the end of a name, not of a path"), 1);
        assert_eq!(missing("no folder `xdpx/`"), 1);
        assert_eq!(missing("one of `xdp/src/{ring,umem}.rs`"), 1);
    }

    #[test]
    fn what_is_not_of_the_repository_is_not_looked_for() {
        let text = "`target/demo/report.json`, `/etc/weir.toml`, `../shared/x.md`, `a::b`, `x`";
        assert_eq!(missing(text), 0);
        assert_eq!(missing("```\nnot/quoted.rs `y.rs`\n```"), 0);
    }

    #[test]
    fn make_commands_must_be_targets() {
        let makefile = "CARGO ?= cargo\n.PHONY: demo\ndemo: ## Run\n\tcargo run\ntest check:\n";
        let targets = targets(makefile);
        assert_eq!(
            targets.iter().map(String::as_str).collect::<Vec<_>>(),
            ["check", "demo", "test"]
        );
        let found = |text| missing_targets("A.md", text, &targets);
        assert!(found("run `make demo` or\n```\nmake test\n$ make check\n```").is_empty());
        assert_eq!(found("run `make deno`").len(), 1);
        assert_eq!(
            found("```sh\nmake all\n```"),
            ["A.md: `make all` is no target of the Makefile"]
        );
    }
}
