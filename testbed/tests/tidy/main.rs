//! The rules of the repository that the compiler does not hold.
//!
//! Each rule is a function from text to findings, with tests that show it bites; the tests in this
//! file apply them all to the repository as it is.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod crates;
mod documents;
mod named_tests;
mod seeds;
mod southbound;
mod text;
mod totals;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Something that breaks a rule: where, and what.
pub(crate) type Finding = String;

/// Which tests hold what OpenNF's code does not.
const OPENNF: &str = "state-transfer/tests/README.md";

#[test]
fn every_source_file_keeps_the_rules_of_text() {
    let mut findings = Vec::new();
    for path in files() {
        let Some(kind) = text::Kind::of(&path) else { continue };
        let content = read(&path);
        if !text::is_generated(&content) {
            findings.extend(text::check(&path, kind, &content));
        }
    }
    report(&findings);
}

#[test]
fn every_random_test_can_be_given_its_seed_back() {
    let files = files().into_iter().filter(|path| path.ends_with(".rs"));
    report(&files.flat_map(|path| seeds::check(&path, &read(&path))).collect::<Vec<_>>());
}

#[test]
fn crates_use_only_what_the_design_lets_them() {
    let manifests: Vec<(String, String)> = files()
        .into_iter()
        .filter(|path| path.ends_with("/Cargo.toml"))
        .map(|path| (path.trim_end_matches("/Cargo.toml").to_owned(), read(&path)))
        .collect();
    assert!(manifests.len() >= 8, "the crates are not found from {}", root().display());
    report(
        &manifests
            .iter()
            .flat_map(|(folder, toml)| crates::check(folder, toml))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_southbound_api_is_a_small_part_of_each_network_function() {
    let files = files();
    let config = read("dataplane/src/config/nf.rs");
    let measured: BTreeSet<&str> = southbound::FUNCTIONS.iter().map(|of| of.name).collect();
    assert_eq!(measured, southbound::known(&config, &files), "a function is not measured");
    let (told, mut findings) = (read("ARCHITECTURE.md"), Vec::new());
    for function in southbound::FUNCTIONS {
        let name = function.name;
        let of_function = files.iter().filter(|path| function.has(path));
        let counts = of_function.map(|path| function.count(path, &read(path)));
        let southbound::Lines { all, of_api, of_shares } = counts.sum();
        if function.is_agent {
            println!("southbound API of {name}: its agent, {all} lines; itself unmodified");
            assert!(all > 0, "{name}: is it found?");
            continue;
        }
        let percent = 100.0 * of_api as f64 / all as f64;
        let shares = 100.0 * of_shares as f64 / all as f64;
        println!(
            "southbound API of {name}: {of_api} of {all} lines, {percent:.1} %; \
             shares: {of_shares} more, {shares:.1} %"
        );
        assert!(of_api > 0 && of_api * 3 < all, "{name}: is it found?");
        if southbound::told(&told, name).is_none_or(|told| (told - percent).abs() > 1.5) {
            findings.push(format!("ARCHITECTURE.md: the share of {name} is {percent:.1} %"));
        }
    }
    report(&findings);
}

#[test]
fn every_crate_root_outside_the_homes_of_unsafe_forbids_it() {
    let findings = files().into_iter().filter(|path| crates::is_root(path)).flat_map(|path| {
        let content = read(&path);
        crates::check_root(&path, &content)
    });
    report(&findings.collect::<Vec<_>>());
}

#[test]
fn every_file_that_the_documents_name_exists() {
    let files = files();
    let findings = ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"]
        .into_iter()
        .flat_map(|name| documents::missing_files(name, &read(name), &files));
    report(&findings.collect::<Vec<_>>());
}

#[test]
fn every_defect_and_every_oracle_of_opennf_has_tests_and_they_exist() {
    let (name, text) = (OPENNF, read(OPENNF));
    let file = |path: &str| fs::read_to_string(root().join(path)).ok();
    let mut findings = named_tests::missing(name, &text, file);
    findings.extend(named_tests::untested(name, &text, &[13, 14]));
    report(&findings);
}

#[test]
fn every_make_command_that_the_documents_name_is_a_target() {
    let targets = documents::targets(&read("Makefile"));
    let findings = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"]
        .into_iter()
        .flat_map(|name| documents::missing_targets(name, &read(name), &targets));
    report(&findings.collect::<Vec<_>>());
}

#[test]
fn the_top_level_holds_what_the_design_lists_and_no_other_folder() {
    let folders: BTreeSet<String> = files()
        .iter()
        .filter_map(|path| path.split_once('/').map(|(folder, _)| folder.to_owned()))
        .collect();
    let expected = [".ci", "benches", "control", "dataplane", "state-transfer", "testbed", "xdp"];
    assert_eq!(folders.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

fn report(findings: &[Finding]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository by its path from the root, what builds make left out.
fn files() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if !["target", ".git"].iter().any(|skipped| path.ends_with(skipped)) {
                    folders.push(path);
                }
            } else {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
