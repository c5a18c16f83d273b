//! `[[nf]]`: the network functions that every instance runs, in the order of the file.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::nat;
use super::report::{Finding, Findings};
use super::section::Section;
use super::value::{self, Label};
use crate::nf::connection::{Settings, TIMEOUT_MAX, Timeouts};
use crate::nf::firewall::{self, Limits, RULES_MAX, Rate, Rule, RuleError, Rules};
use crate::nf::{FunctionConfig, assets, ids};

/// One `[[nf]]`.
#[derive(Clone, Debug)]
pub struct Nf {
    /// How it is set up.
    pub function: FunctionConfig,
    /// The directory for its logs, if it has any.
    pub logs: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Firewall,
    Ids,
    Assets,
    Nat,
}
use Kind::{Assets, Firewall, Ids, Nat};

const KINDS: &[(&str, Kind)] =
    &[("firewall", Firewall), ("ids", Ids), ("assets", Assets), ("nat", Nat)];

/// Every key but `kind`, and the kinds that have a use for it.
const KEYS: &[(&str, &[Kind])] = &[
    ("rules", &[Firewall]),
    ("connections_max", &[Firewall]),
    ("rate", &[Firewall]),
    ("burst", &[Firewall]),
    ("established_timeout", &[Firewall, Nat]),
    ("pick_up", &[Firewall, Nat]),
    ("sources_max", &[Firewall, Ids]),
    ("logs", &[Ids, Assets]),
    ("records_max", &[Ids, Assets]),
    ("memory_max", &[Ids]),
    ("scan_threshold", &[Ids]),
    ("scan_window", &[Ids]),
    ("attempt_timeout", &[Ids]),
    ("tcp_timeout", &[Ids]),
    ("closed_timeout", &[Ids]),
    ("reset_timeout", &[Ids]),
    ("udp_timeout", &[Ids, Nat]),
    ("other_timeout", &[Ids]),
    ("hosts_max", &[Assets]),
    ("forget", &[Assets]),
    ("source", &[Nat]),
    ("service", &[Nat]),
    ("icmp_timeout", &[Nat]),
    ("transitory_timeout", &[Nat]),
];

/// Reads one function; `None` when its kind is none.
pub(super) fn read_nf(mut section: Section<'_>, findings: &Findings) -> Option<Nf> {
    let kind = section.required("kind", value::word(KINDS)).map(Spanned::into_inner);
    let nf = match kind {
        Some(kind) => {
            for (key, kinds) in KEYS.iter().filter(|(_, kinds)| !kinds.contains(&kind)) {
                section.forbid(key, &format!("this is a key of the {}", names(kinds)));
            }
            let function = match kind {
                Firewall => FunctionConfig::Firewall(read_firewall(&mut section, findings)),
                Ids => FunctionConfig::Ids(read_ids(&mut section)),
                Assets => FunctionConfig::Assets(read_assets(&mut section)),
                Nat => FunctionConfig::Nat(nat::read(&mut section, findings)),
            };
            let has_logs = matches!(kind, Ids | Assets);
            let logs = has_logs.then(|| section.optional("logs", value::absolute_path));
            Some(Nf { function, logs: logs.flatten().map(Spanned::into_inner) })
        }
        None => {
            KEYS.iter().for_each(|(key, _)| section.know(&[key]));
            None
        }
    };
    section.close();
    nf
}

fn names(kinds: &[Kind]) -> String {
    let names = KINDS.iter().filter(|(_, kind)| kinds.contains(kind)).map(|(name, _)| *name);
    names.collect::<Vec<_>>().join(" and the ")
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
        value::duration(SECOND..=TIMEOUT_MAX),
    );
    timeouts.tcp.established = established;
    let words = &[("on", true), ("off", false)];
    let pick_up = section.or("pick_up", false, value::word(words));
    firewall::Config { rules, limits, tracking: Settings { timeouts, pick_up } }
}

fn read_ids(section: &mut Section<'_>) -> ids::Config {
    let defaults = ids::Config::default();
    let scan = defaults.scan;
    let window = value::duration(SECOND..=Duration::from_hours(24));
    let memory = section.optional("memory_max", value::size(MEMORY_MAX));
    let memory = memory.and_then(|memory| usize::try_from(memory.into_inner()).ok());
    ids::Config {
        timeouts: read_ids_timeouts(section),
        memory_max: memory.unwrap_or(defaults.memory_max),
        records_max: section.or("records_max", defaults.records_max, value::count(1..=1 << 20)),
        scan: ids::ScanConfig {
            threshold: section.or("scan_threshold", scan.threshold, value::count(1..=65_536)),
            window: section.or("scan_window", scan.window, window),
            sources_max: section.or("sources_max", scan.sources_max, value::count(1..=SOURCES_MAX)),
        },
    }
}

fn read_ids_timeouts(section: &mut Section<'_>) -> ids::Timeouts {
    let ids::Timeouts { attempt, tcp, closed, reset, udp, other } = ids::Timeouts::default();
    let mut timeout =
        |key, default| section.or(key, default, value::duration(SECOND..=TIMEOUT_MAX));
    ids::Timeouts {
        attempt: timeout("attempt_timeout", attempt),
        tcp: timeout("tcp_timeout", tcp),
        closed: timeout("closed_timeout", closed),
        reset: timeout("reset_timeout", reset),
        udp: timeout("udp_timeout", udp),
        other: timeout("other_timeout", other),
    }
}

fn read_assets(section: &mut Section<'_>) -> assets::Config {
    let defaults = assets::Config::default();
    let forget = value::duration(Duration::from_mins(2)..=Duration::from_hours(365 * 24));
    assets::Config {
        records_max: section.or("records_max", defaults.records_max, value::count(1..=1 << 20)),
        hosts_max: section.or("hosts_max", defaults.hosts_max, value::count(1..=SOURCES_MAX)),
        forget: section.or("forget", defaults.forget, forget),
        ..defaults
    }
}

/// A rule, as in `web: accept dst=10.0.0.0/8,proto=tcp,dport=80`.
fn rule(value: &DeValue<'_>) -> Result<Rule, Label> {
    let text = value.as_str().ok_or_else(|| RuleError::Form.to_string())?;
    text.parse().map_err(|error: RuleError| error.to_string())
}

const SECOND: Duration = Duration::from_secs(1);
/// Bytes that the ids of an instance may be allowed to keep of streams.
const MEMORY_MAX: RangeInclusive<u64> = 64 << 10..=64 << 30;
/// Sources or hosts that a function keeps count of at most.
const SOURCES_MAX: usize = 1 << 20;
