//! The report in words, for somebody who sees Weir for the first time.

use std::fmt::Write as _;

use super::Report;

/// Time of the elastic router of 2015 from one switch to four, in milliseconds.
const PAPER_MS: f64 = 25_000.0;

/// The figures of a run, explained.
pub fn summary(report: &Report) -> String {
    let mut text = String::from("\nWhat happened\n\n");
    for (what, figures) in
        [scaling(report), packets(report), control(report), account(report)].concat()
    {
        // Writing to a string does not fail.
        let _ok = writeln!(text, "  {what:<24} {figures}");
    }
    text + &verdict(report)
}

/// What a line is about, and its figures.
type Line = (&'static str, String);

fn scaling(report: &Report) -> Vec<Line> {
    let out = median(&report.scale_out_ms);
    let out = format!(
        "{out:.1} ms (median of {}), of which moving flows {:.1} ms; the paper took about 25 s: \
         {:.0} times as long",
        report.scale_out_ms.len(),
        median(&report.scale_out_moving_ms),
        PAPER_MS / out.max(0.001)
    );
    let back = format!(
        "{:.1} ms (median), of which moving flows {:.1} ms",
        median(&report.scale_in_ms),
        median(&report.scale_in_moving_ms)
    );
    let flows = format!(
        "moved {} times with their state; {} kept another state than in a single instance",
        report.flows_moved, report.state_mismatches
    );
    let during = format!(
        "{} packets came in; at most {} were held at once, half of them for less than {:.0} \
         \u{b5}s, the longest {:.0} \u{b5}s",
        report.packets_during_moves, report.held_max, report.hold_us.p50, report.hold_us.max
    );
    vec![
        ("scale out, 1 -> 4", out),
        ("scale in, 4 -> 1", back),
        ("flows", flows),
        ("during moves", during),
        ("four instances carried", carried(report)),
    ]
}

fn packets(report: &Report) -> Vec<Line> {
    let udp = format!(
        "{} sent in {} flows, {} received; {} lost, {} duplicated, {} reordered",
        report.packets_sent,
        report.flows,
        report.packets_received,
        report.lost,
        report.duplicated,
        report.reordered
    );
    let tcp = format!(
        "{} of {} streams whole, {} MB; {} sent again with scaling, {} without",
        report.tcp_streams_whole,
        report.tcp_streams,
        report.tcp_bytes_ok >> 20,
        segments(report.tcp_retransmits),
        report.tcp_retransmits_baseline
    );
    let pings = format!("{} of {} answered", report.pings_answered, report.pings_sent);
    vec![("UDP packets", udp), ("TCP", tcp), ("pings", pings)]
}

fn control(report: &Report) -> Vec<Line> {
    let kill = &report.sidecar_kill;
    let killed = format!(
        "before {}: {} packets passed without it, {} lost; after its restart the scale-out was {} \
         in {:.0} ms",
        kill.step, kill.packets_while_dead, kill.lost, kill.outcome, kill.resume_ms
    );
    let load = format!(
        "decided {:.0} ms after the traffic rose, up to {} instances",
        report.auto.detect_ms, report.auto.instances_max
    );
    vec![("sidecar killed", killed), ("scaling by load", load)]
}

fn account(report: &Report) -> Vec<Line> {
    let account = format!(
        "{} packets unaccounted for, {} dropped by the kernel before the router; {}",
        report.unaccounted,
        report.overload,
        drops(report)
    );
    let cost = format!(
        "{:.0} ns of CPU time a packet in the instances, {} ns in the generator and sink; latency \
         {:.0} \u{b5}s (p50), {:.0} \u{b5}s (p99)",
        report.instance_cpu_ns_a_packet,
        report.tester_cpu_ns_a_packet,
        report.latency_us.p50,
        report.latency_us.p99
    );
    vec![("the account", account), ("cost", cost)]
}

fn verdict(report: &Report) -> String {
    let faults = report.faults();
    if faults.is_empty() {
        return format!("\nNothing was lost. {:.0} s, seed {}.\n", report.seconds, report.seed);
    }
    let mut text = format!("\nFAILED (seed {}):\n", report.seed);
    for fault in faults {
        let _ok = writeln!(text, "  {fault}");
    }
    text
}

fn carried(report: &Report) -> String {
    let total: u64 = report.carried_by_four.values().sum();
    let shares = report
        .carried_by_four
        .iter()
        .map(|(name, packets)| format!("{name} {packets} ({} %)", percent(*packets, total)));
    shares.collect::<Vec<_>>().join(", ")
}

/// The share of a part in percent, rounded.
fn percent(part: u64, whole: u64) -> u64 {
    let whole = whole.max(1);
    (part * 100 + whole / 2) / whole
}

fn segments(count: u64) -> String {
    if count == 1 { "1 segment".to_owned() } else { format!("{count} segments") }
}

fn drops(report: &Report) -> String {
    let drops: Vec<String> =
        report.transit_drops().map(|(reason, count)| format!("{count} {reason}")).collect();
    if drops.is_empty() { "no drop".to_owned() } else { format!("drops: {}", drops.join(", ")) }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_faults_says_so_with_its_seed() {
        let report = Report { lost: 3, seed: 99, ..Report::default() };
        let text = summary(&report);
        assert!(text.contains("FAILED (seed 99)") && text.contains("3 packets lost"), "{text}");
    }

    #[test]
    fn shares_are_rounded_and_one_is_singular() {
        assert_eq!([percent(2, 3), percent(1, 3), percent(1, 200), percent(0, 0)], [67, 33, 1, 0]);
        assert_eq!([0, 1, 2].map(segments), ["0 segments", "1 segment", "2 segments"]);
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(&[9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }
}
