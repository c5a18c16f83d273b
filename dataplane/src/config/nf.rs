//! `[[nf]]`: the network functions that every instance runs, in the order of the file.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::nat;
use super::report::{Finding, Findings};
use super::section::Section;
use super::value::{self, Label};
use crate::nf::connection::{Settings, Timeouts};
use crate::nf::firewall::{self, Limits, RULES_MAX, Rate, Rule, RuleError, Rules};
use crate::nf::{FunctionConfig, ids};

/// One `[[nf]]`.
#[derive(Clone, Debug)]
pub struct Nf {
    /// How it is set up.
    pub function: FunctionConfig,
    /// The directory for its logs; of the `ids` only.
    pub logs: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Firewall,
    Ids,
    Nat,
}

const KINDS: &[(&str, Kind)] =
    &[("firewall", Kind::Firewall), ("ids", Kind::Ids), ("nat", Kind::Nat)];

/// The keys of each kind, and what it is called.
const KEYS: [(Kind, &str, &[&str]); 3] = [
    (
        Kind::Firewall,
        "the firewall",
        &[
            "rules",
            "connections_max",
            "rate",
            "burst",
            "sources_max",
            "established_timeout",
            "pick_up",
        ],
    ),
    (
        Kind::Ids,
        "the ids",
        &["logs", "records_max", "scan_threshold", "scan_window", "sources_max"],
    ),
    (
        Kind::Nat,
        "the nat",
        &[
            "source",
            "service",
            "udp_timeout",
            "icmp_timeout",
            "transitory_timeout",
            "established_timeout",
            "pick_up",
        ],
    ),
];

/// Reads one function; `None` when its kind is none.
pub(super) fn read_nf(mut section: Section<'_>, findings: &Findings) -> Option<Nf> {
    let kind = section.required("kind", value::word(KINDS)).map(Spanned::into_inner);
    forbid_others(&mut section, kind);
    let nf = match kind {
        Some(Kind::Firewall) => {
            let function = FunctionConfig::Firewall(read_firewall(&mut section, findings));
            Some(Nf { function, logs: None })
        }
        Some(Kind::Ids) => {
            let function = FunctionConfig::Ids(read_ids(&mut section));
            let logs = section.optional("logs", value::absolute_path).map(Spanned::into_inner);
            Some(Nf { function, logs })
        }
        Some(Kind::Nat) => {
            let function = FunctionConfig::Nat(nat::read(&mut section, findings));
            Some(Nf { function, logs: None })
        }
        None => None,
    };
    section.close();
    nf
}

/// Refuses keys that are of other kinds only; of no kind, all are known.
fn forbid_others(section: &mut Section<'_>, kind: Option<Kind>) {
    let own = KEYS.iter().find(|(of, ..)| Some(*of) == kind);
    for (_, name, keys) in KEYS.iter().filter(|(of, ..)| Some(*of) != kind) {
        match own {
            None => section.know(keys),
            Some((.., own)) => keys
                .iter()
                .filter(|key| !own.contains(key))
                .for_each(|key| section.forbid(key, &format!("this is a key of {name}"))),
        }
    }
}

/// Refuses a second function of a kind, as both would do the same, and one behind a NAT, which
/// would see each flow by two names.
pub(super) fn check(functions: &[Spanned<Nf>], findings: &Findings) {
    let kind = |nf: &Spanned<Nf>| std::mem::discriminant(&nf.get_ref().function);
    for (n, nf) in functions.iter().enumerate() {
        if let Some(first) = functions[..n].iter().find(|first| kind(first) == kind(nf)) {
            let finding = Finding::error(nf.span(), "a second [[nf]] of this kind", "again here");
            findings.push(finding.over_the_whole().context(first.span(), "first here"));
        }
    }
    let is_nat = |nf: &&Spanned<Nf>| matches!(nf.get_ref().function, FunctionConfig::Nat(_));
    if let (Some(nat), Some(last)) = (functions.iter().find(is_nat), functions.last())
        && !is_nat(&last)
    {
        let finding =
            Finding::error(nat.span(), "a NAT is the last [[nf]]", "others are behind it");
        let help = "put it behind all others: they know each flow as who has begun it does";
        findings.push(finding.over_the_whole().help(help));
    }
}

fn read_firewall(section: &mut Section<'_>, findings: &Findings) -> firewall::Config {
    let drafts = section.list("rules", RULES_MAX, rule);
    let spans: Vec<_> = drafts.iter().map(Spanned::span).collect();
    let rules = Rules::new(drafts.into_iter().map(Spanned::into_inner).collect());
    let rules = rules.unwrap_or_else(|error| {
        let span = spans.first().cloned().unwrap_or_default();
        let finding = Finding::error(span, "bad rules in [[nf]]", &error.to_string());
        findings.push(finding.over_the_whole());
        Rules::default()
    });
    let defaults = Limits::default();
    let connections_max = section.optional("connections_max", value::count(1..=u32::MAX >> 1));
    let per_second = section.optional("rate", value::count(1..=1_000_000_u32));
    let burst = section.optional("burst", value::count(1..=1_000_000_u32));
    let rate = per_second.as_ref().map(|per_second| {
        let per_second = *per_second.get_ref();
        Rate { per_second, burst: burst.as_ref().map_or(per_second, |burst| *burst.get_ref()) }
    });
    if let (Some(burst), None) = (&burst, &per_second) {
        let finding =
            Finding::error(burst.span(), "burst without rate in [[nf]]", "of which rate?");
        findings.push(finding.over_the_whole().help("add rate = 100, in connections per second"));
    }
    let limits = Limits {
        connections_max: connections_max.map(Spanned::into_inner),
        rate,
        sources_max: section.or("sources_max", defaults.sources_max, value::count(1..=SOURCES_MAX)),
    };
    let mut timeouts = Timeouts::default();
    let established = section.or(
        "established_timeout",
        timeouts.tcp.established,
        value::duration(Duration::from_secs(1)..=Duration::from_hours(30 * 24)),
    );
    timeouts.tcp.established = established;
    let words = &[("on", true), ("off", false)];
    let pick_up = section.or("pick_up", false, value::word(words));
    firewall::Config { rules, limits, tracking: Settings { timeouts, pick_up } }
}

fn read_ids(section: &mut Section<'_>) -> ids::Config {
    let defaults = ids::Config::default();
    let scan = defaults.scan;
    let window = value::duration(Duration::from_secs(1)..=Duration::from_hours(24));
    ids::Config {
        records_max: section.or("records_max", defaults.records_max, value::count(1..=1 << 20)),
        scan: ids::ScanConfig {
            threshold: section.or("scan_threshold", scan.threshold, value::count(1..=65_536)),
            window: section.or("scan_window", scan.window, window),
            sources_max: section.or("sources_max", scan.sources_max, value::count(1..=SOURCES_MAX)),
        },
        ..defaults
    }
}

/// A rule, as in `web: accept dst=10.0.0.0/8,proto=tcp,dport=80`.
fn rule(value: &DeValue<'_>) -> Result<Rule, Label> {
    let text = value.as_str().ok_or_else(|| RuleError::Form.to_string())?;
    text.parse().map_err(|error: RuleError| error.to_string())
}

/// Sources that a function keeps count of at most.
const SOURCES_MAX: usize = 1 << 20;
