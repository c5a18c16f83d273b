//! What is random in a test follows from a seed that can be given back: it comes from `weir_seed`.

use super::Finding;

/// The one home of seeds, and this file, which spells out what it forbids.
const HOMES: [&str; 2] = ["testbed/seed/", "testbed/tests/tidy/seeds.rs"];

/// Finds random numbers that nobody can give back, and seeds that are read elsewhere.
pub(crate) fn check(path: &str, content: &str) -> Vec<Finding> {
    if HOMES.iter().any(|home| path.starts_with(home)) {
        return Vec::new();
    }
    let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
    let mut before = "";
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(content.lines()) {
        let code = line.split("//").next().unwrap_or_default().trim();
        if code.is_empty() {
            continue;
        }
        let what = wrong(code, before, is_test);
        findings.extend(what.map(|what| format!("{path}:{number}: {what}")));
        before = code;
    }
    findings
}

/// What is wrong with a line of code behind another.
fn wrong(code: &str, before: &str, is_test: bool) -> Option<&'static str> {
    let variable = code.split('"').skip(1).step_by(2).find(|text| {
        let name = text.strip_prefix("WEIR_").and_then(|name| name.strip_suffix("SEED"));
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    });
    if variable.is_some() {
        return Some("seeds are given back by WEIR_SEED, which weir_seed alone reads");
    }
    // Types are upper case; functions draw from what was seeded by nobody.
    let is_type = |rest: &str| rest.starts_with(char::is_uppercase);
    let by_nobody = code.split("fastrand::").skip(1).any(|rest| !is_type(rest));
    if by_nobody || code.contains("Rng::new()") || code.contains("Rng::default()") {
        return Some("a seed that nobody can give back: weir_seed::rng, or any for a name");
    }
    if is_test && code.contains("getrandom::") {
        return Some("a number that nobody can give back: weir_seed::rng, or any for a name");
    }
    if ["seed = weir_seed::any", "with_seed(weir_seed::any"].iter().any(|seed| code.contains(seed))
    {
        return Some("weir_seed::any is for names: weir_seed::seed");
    }
    if before.ends_with("proptest! {") && !code.starts_with("#![proptest_config(") {
        return Some("cases that nobody can give back: #![proptest_config(crate::seeded())]");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(code: &str) -> Vec<Finding> {
        check("a/tests/b.rs", code)
    }

    #[test]
    fn seeds_that_nobody_can_give_back_are_found() {
        for code in [
            "let seed = fastrand::u64(..);",
            "fastrand::shuffle(&mut all);",
            "use fastrand::u64;",
            "let a: fastrand::Rng = fastrand::Rng::new();",
            "let mut rng = Rng::new();",
            "rng: Rng::default(),",
            "let seed = getrandom::u64().unwrap();",
            "let seed = weir_seed::any();",
            "let mut rng = Rng::with_seed(weir_seed::any());",
            "proptest! {\n    #[test]",
        ] {
            let found = findings(code);
            assert!(found.len() == 1 && found[0].starts_with("a/tests/b.rs:"), "{code}: {found:?}");
        }
    }

    #[test]
    fn seeds_that_are_read_elsewhere_or_by_another_name_are_found() {
        assert_eq!(findings("let seed = var(\"WEIR_SEED\");").len(), 1);
        assert_eq!(findings("number(\"a\", \"WEIR_OTHER_SEED\")").len(), 1);
    }

    #[test]
    fn what_follows_from_a_seed_and_names_are_not() {
        for code in [
            "let mut rng = weir_seed::rng();",
            "let mut rng = fastrand::Rng::with_seed(3);",
            "fn draw(rng: &mut fastrand::Rng) {}",
            "let name = format!(\"weir-{}\", weir_seed::any());",
            "panic!(\"WEIR_SEED={seed}: {failure}\");",
            "// fastrand::u64(..) is not repeated",
            "proptest! {\n\n    #![proptest_config(crate::seeded())]",
        ] {
            assert_eq!(findings(code), Vec::<Finding>::new(), "{code}");
        }
        let shipped = "let incarnation = getrandom::u64()?;";
        assert_eq!(check("a/src/run.rs", shipped), Vec::<Finding>::new());
    }
}
