//! Rules between crates: who may use whom, and where `unsafe` lives.

use super::Finding;

/// The crates by folder, with the crates of this workspace that each may use (design section 3).
///
/// `weir-xdp` uses `weir-frame`: the memory of its sockets is frame memory, so that no unsafe
/// interface lies between them.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("xdp", &["weir-frame"]),
    ("dataplane/frame", &[]),
    ("dataplane/dpdk-sys", &[]),
    ("dataplane/nf-api", &["weir-state-transfer", "weir-api"]),
    ("dataplane/nf-conntrack", &["weir-nf-api", "weir-state-transfer", "weir-api", "weir-log"]),
    // The sidecar and its client for its tests.
    (
        "dataplane/nf-cache",
        &[
            "weir-state-transfer",
            "weir-api",
            "weir-nf-api",
            "weir-log",
            "weir-control",
            "weir-client",
        ],
    ),
    ("state-transfer", &[]),
    ("control/api", &[]),
    ("control/log", &[]),
    (
        "dataplane",
        &[
            "weir-xdp",
            "weir-frame",
            "weir-dpdk-sys",
            "weir-nf-api",
            "weir-state-transfer",
            "weir-api",
            "weir-log",
        ],
    ),
    // Its client for its tests.
    ("control", &["weir-nf-api", "weir-state-transfer", "weir-api", "weir-log", "weir-client"]),
    // All but `weir-api` for its tests.
    ("control/client", &["weir-api", "weir-control", "weir-nf-api", "weir-state-transfer"]),
    (
        "testbed",
        &[
            "weir-xdp",
            "weir-frame",
            "weir-dpdk-sys",
            "weir-nf-api",
            "weir-state-transfer",
            "weir-api",
            "weir-dataplane",
            "weir-control",
            "weir-client",
        ],
    ),
    ("testbed/seed", &[]),
    (
        "benches",
        &[
            "weir-xdp",
            "weir-frame",
            "weir-dpdk-sys",
            "weir-nf-api",
            "weir-state-transfer",
            "weir-api",
            "weir-dataplane",
            "weir-control",
            "weir-testbed",
        ],
    ),
];

/// What every crate may use for its tests, and the testbed, which is for tests alone.
const FOR_TESTS: &str = "weir-seed";

/// The only folders with unsafe code.
const UNSAFE_HOMES: [&str; 3] = ["xdp/", "dataplane/frame/", "dataplane/dpdk-sys/"];

/// Checks a manifest: dependencies of every kind, and that the workspace's lints hold.
pub(crate) fn check(folder: &str, manifest: &str) -> Vec<Finding> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == folder) else {
        return vec![format!("{folder}: a crate that the design does not know")];
    };
    let mut findings = Vec::new();
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['.', '=', ' ', '"']).next().unwrap_or_default();
        let is_dependency = section.contains("dependencies") && name.starts_with("weir-");
        let is_for_tests = section.contains("dev-dependencies") || folder == "testbed";
        let may_use = allowed.contains(&name) || (name == FOR_TESTS && is_for_tests);
        if is_dependency && !may_use {
            findings.push(format!("{folder} must not use {name}"));
        }
    }
    if !manifest.contains("[lints]\nworkspace = true\n") {
        findings.push(format!("{folder} does not take the workspace's lints"));
    }
    findings
}

/// Whether a path is the root of a library, a program or an integration test.
pub(crate) fn is_root(path: &str) -> bool {
    let in_tests = path.contains("/tests/") && !path.contains("/src/");
    let test = in_tests && (path.matches('/').count() == 2 || path.ends_with("/main.rs"));
    (path.ends_with("/src/lib.rs") || path.ends_with("main.rs") || test) && path.ends_with(".rs")
}

/// Checks that a crate root outside the homes of unsafe code forbids it.
pub(crate) fn check_root(path: &str, content: &str) -> Option<Finding> {
    let home = UNSAFE_HOMES.iter().any(|home| path.starts_with(home));
    let forbids = content.contains("#![forbid(unsafe_code)]");
    let is_test = path.contains("/tests/");
    (!home && !forbids && !is_test).then(|| format!("{path}: lacks #![forbid(unsafe_code)]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    #[test]
    fn what_the_design_allows_passes() {
        let manifest = format!("{LINTS}[dependencies]\nweir-api.workspace = true\nserde = \"1\"\n");
        assert!(check("control", &manifest).is_empty());
    }

    #[test]
    fn every_kind_of_dependency_against_the_arrows_is_found() {
        for kind in ["dependencies", "dev-dependencies", "target.'cfg(loom)'.dependencies"] {
            for form in ["weir-dataplane.workspace = true", "weir-dataplane = { path = \"x\" }"] {
                let manifest = format!("{LINTS}[{kind}]\n{form}\n");
                assert_eq!(check("control", &manifest), ["control must not use weir-dataplane"]);
            }
        }
    }

    #[test]
    fn seeds_are_for_tests_alone() {
        let manifest = |kind: &str| format!("{LINTS}[{kind}]\nweir-seed.workspace = true\n");
        for kind in ["dev-dependencies", "target.'cfg(loom)'.dev-dependencies"] {
            assert!(check("xdp", &manifest(kind)).is_empty());
        }
        for kind in ["dependencies", "build-dependencies", "target.'cfg(loom)'.dependencies"] {
            assert_eq!(check("xdp", &manifest(kind)), ["xdp must not use weir-seed"]);
            assert!(check("testbed", &manifest(kind)).is_empty());
        }
    }

    #[test]
    fn a_crate_that_ignores_the_lints_or_is_unknown_is_found() {
        assert_eq!(check("xdp", ""), ["xdp does not take the workspace's lints"]);
        assert_eq!(check("extra", LINTS), ["extra: a crate that the design does not know"]);
    }

    #[test]
    fn a_root_without_the_forbid_is_found_outside_the_homes_only() {
        assert!(check_root("control/src/lib.rs", "//! x\n").is_some());
        assert!(check_root("control/src/lib.rs", "#![forbid(unsafe_code)]\n").is_none());
        assert!(check_root("dataplane/frame/src/lib.rs", "//! x\n").is_none());
        assert!(check_root("dataplane/src/main.rs", "//! x\n").is_some());
    }

    #[test]
    fn roots_are_told_from_other_files() {
        for root in ["xdp/src/lib.rs", "control/src/bin/weir/main.rs", "dataplane/src/main.rs"] {
            assert!(is_root(root), "{root}");
        }
        for other in ["xdp/src/ring.rs", "dataplane/src/port/mod.rs", "Makefile"] {
            assert!(!is_root(other), "{other}");
        }
    }
}
