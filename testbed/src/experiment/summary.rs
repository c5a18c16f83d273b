//! The report in words and plots.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::forwarding_only::{LONG, LONG_SECONDS};
use super::listed::{Agreement, Counted};
use super::logs::{Difference, OF_TIME};
use super::plot::{self, Axis, Scale, Shape};
use super::promises_table;
use super::report::{Report, median};
use super::run::{MOVED, NICE, Run};
use super::tshark::{Found, KNOWN_OF, Said};

/// Time of a move of 489 HTTP flows in OpenNF, in milliseconds.
const OPENNF_MOVE_MS: f64 = 260.0;
/// Weir's own target for the median of it: under so many. No fault when it is missed, as times are none.
const TARGET_MS: f64 = 1.0;
/// Wrong entries of conn.log after a full clone, in OpenNF's evaluation.
const OPENNF_CLONE: &str = "3,889";

/// Why something is read otherwise, where that is not known.
const UNEXPLAINED: &str = "**not known**";
/// Characters of a request that are shown.
const MESSAGE_MAX: usize = 80;

/// Writes `report.json`, `report.md` and the plots to a folder.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(report: &Report, folder: &Path) -> Result<()> {
    let files = [
        ("report.json", serde_json::to_string_pretty(report)? + "\n"),
        ("report.md", markdown(report)),
        ("moves.svg", moves_plot(report)),
        ("forwarding-only.svg", forwarding_plot(report)),
        ("guarantees.svg", promises_table::plot(&report.promises)),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The table beside the published figures, and what stands behind it.
pub(super) fn markdown(report: &Report) -> String {
    let ms = report.move_ms();
    let (least, most) = (ms.iter().copied().fold(f64::INFINITY, f64::min), most(&ms));
    let clone = &report.clone;
    let waited = &report.forwarding_only;
    let faults = report.faults();
    let verdict = if faults.is_empty() {
        "Nothing was lost, reordered or logged otherwise than promised.".to_owned()
    } else {
        format!("**FAILED**: {}.", faults.join("; "))
    };
    format!(
        "# OpenNF's experiment with Weir\n\n{verdict}\n\n\
         {} HTTP connections ({}), {} packets, {} asked for in a second, seed {}.\n\n\
         | | OpenNF (2014) | Weir |\n|---|---|---|\n\
         | time of a loss-free move | {OPENNF_MOVE_MS:.0} ms, 489 flows | order-preserving too: {:.2} ms, median of {} \
         ({least:.2} to {most:.2}; target: under {TARGET_MS} ms), all {} connections, up to {} directed flows |\n\
         | packets lost, reordered | 0, – | {}, {} |\n\
         | log entries other than of a single instance | 0 | {} of {} |\n\
         | the same after a full clone | {OPENNF_CLONE} of conn.log | {}: {} of conn.log at the \
         original, {} at the clone, {} of http.log |\n\
         | forwarding only: until an instance has no flow | ≥ {LONG_SECONDS:.0} s | after \
         {LONG_SECONDS:.0} s {:.0} of {} flows are left, median of {} draws; simulated |\n\n{}\n{}\n{}\n{}\n{}",
        report.flows,
        report.source,
        report.packets,
        report.rate,
        report.seed,
        median(ms.iter().copied()),
        ms.len(),
        report.flows,
        report.moves.iter().map(|moved| moved.flows).max().unwrap_or_default(),
        report.one.packets.lost() + report.two.packets.lost(),
        report.one.packets.reordered + report.two.packets.reordered,
        report.logs.entries(),
        report.one.entries,
        clone.logs.entries(),
        clone.wrong_at_original,
        clone.wrong_at_clone,
        clone.logs.entries().saturating_sub(clone.wrong_at_original + clone.wrong_at_clone),
        left_late(report),
        report.flows,
        waited.left_late.len(),
        moves(report),
        promises_table::section(&report.promises),
        runs(report),
        logs(report),
        baselines(report),
    )
}

/// The last line of the output.
pub(super) fn line(report: &Report) -> String {
    let reordered = report.one.packets.reordered + report.two.packets.reordered;
    let ms = report.move_ms();
    format!(
        "experiment: {} moves of {} flows, median {:.2} ms, max {:.2} ms \
         (target: under {TARGET_MS} ms; OpenNF 260 ms), CPU {:.0} µs and run-queue delay {:.0} µs \
         (medians); {} lost, {reordered} reordered, {} log differences; {}; {}; full clone {} differences; \
         forwarding-only waits {:.0} s, {:.0} flows left after {LONG_SECONDS:.0} s (medians, simulated); {}; {}",
        report.moves.len(),
        report.flows,
        median(ms.iter().copied()),
        most(&ms),
        median(report.moves.iter().map(|moved| moved.cpu_us)),
        median(report.moves.iter().map(|moved| moved.waited_us)),
        report.one.packets.lost() + report.two.packets.lost(),
        report.logs.entries(),
        listed_line(report),
        tshark_line(report),
        report.clone.logs.entries(),
        median(report.forwarding_only.seconds.iter().copied()),
        left_late(report),
        promises_table::line(&report.promises),
        if report.faults().is_empty() { "ok" } else { "FAILED" },
    )
}

fn listed_line(report: &Report) -> String {
    let listed = &report.listed;
    format!(
        "list: {} of {} flows exact, requests of {} alike, of {} otherwise, {} of these unexplained",
        listed.exact,
        listed.flows,
        listed.requests_as_listed,
        listed.otherwise.len(),
        listed.unexplained()
    )
}

fn tshark_line(report: &Report) -> String {
    let Some(found) = &report.tshark else { return "tshark: not compared".to_owned() };
    let Found { version, requests, statuses } = found;
    format!(
        "tshark {version}: {} requests and {} statuses alike, of {} and {} flows otherwise, {} of these \
         unexplained",
        requests.same,
        statuses.same,
        requests.otherwise.len(),
        statuses.otherwise.len(),
        found.unexplained()
    )
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Flows that are left after 1,500 s, in the median of all draws.
fn left_late(report: &Report) -> f64 {
    median(report.forwarding_only.left_late.iter().map(|left| *left as f64))
}

fn moves(report: &Report) -> String {
    let mut text = format!(
        "## Moves\n\nOf all flows that match `{MOVED}`, to the second instance and back in turn, \
         loss-free and order-preserving, while all are open. The CPU time is that of the whole \
         data plane from before a move is asked for until it is told to be over, polling included. \
         The hosts' threads have the same cores, and the data plane has nice {NICE}.\n\n\
         | move | ms | steer, drain, hand over µs | flows | packets during | held | at once | \
         hold p50 µs | hold max µs | CPU µs | run-queue delay µs |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for (number, m) in (1..).zip(&report.moves) {
        text += &format!(
            "| {number} | {:.2} | {:.0}, {:.0}, {:.0} | {} | {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            m.took_us / 1e3,
            m.steer_us,
            m.drain_us,
            m.hand_over_us,
            m.flows,
            m.packets_during,
            m.held,
            m.held_max,
            m.hold_p50_us,
            m.hold_max_us,
            m.cpu_us,
            m.waited_us
        );
    }
    text + "\n![moves](moves.svg)\n"
}

fn runs(report: &Report) -> String {
    let mut text = "## Packets\n\nA packet waits until all that the other end of its connection \
                    has said before has arrived, so that both ends may have a port of their own \
                    and the router sees the order of the capture.\n\n\
                    | instances | sent | received | lost | reordered | not expected | dropped | in \
                    front of the router | packets/s | CPU ns a packet | run-queue delay ns a packet \
                    |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut row = |name: &str, run: &Run| {
        let packets = &run.packets;
        text += &format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.0} |\n",
            packets.sent,
            packets.received,
            packets.lost(),
            packets.reordered,
            packets.unexpected,
            if run.drops.is_empty() { "0".to_owned() } else { run.drops.join(", ") },
            run.overload,
            run.rate,
            run.cpu_ns_a_packet,
            run.waited_ns_a_packet
        );
    };
    row("one", &report.one);
    row("two", &report.two);
    text
}

fn logs(report: &Report) -> String {
    let listed = &report.listed;
    let tshark = report.tshark.as_ref().map_or_else(
        || "tshark was not asked: the requests were not compared.".to_owned(),
        |found| {
            let told = |said: &Said| match said.otherwise.len() {
                0 => format!("{}, none otherwise", said.same),
                count => format!("{}, otherwise in the {count} connections below", said.same),
            };
            format!(
                "tshark {} finds the same requests, by method, host and target: {}; and the same \
                 status codes of answers: {}. {} connections should be read otherwise and are not, \
                 or the other way round: of tshark {KNOWN_OF} it is known.",
                found.version,
                told(&found.requests),
                told(&found.statuses),
                found.unexplained()
            )
        },
    );
    format!(
        "## Logs\n\nEntries of conn.log (TCP) and http.log are compared field by field but for {}: \
         times, how long something took, and names that are made of the start. The scans in \
         scan.log are known of more than one flow and are not compared.\n\n\
         - two instances together and the single one: {}\n\
         - the single one and the same function without a network: {}\n\
         - transactions that name no connection of conn.log: {}\n\
         - the single one and the list of connections: {} of {} have all packets and bytes, {} are \
         in no row; {} requests. {} connections have as many as packets of them look like one, {} \
         otherwise, as below; {} should be otherwise and are not, or the other way round.\n\
         - {tshark}\n{}",
        OF_TIME.join(", "),
        told(&report.logs),
        told(&report.in_process),
        report.unnamed,
        listed.exact,
        listed.flows,
        listed.unlisted,
        listed.requests,
        listed.requests_as_listed,
        listed.otherwise.len(),
        listed.unexplained(),
        counted(listed) + &otherwise(report),
    )
}

/// Where there are not as many requests as packets that look like one, and why.
fn counted(listed: &Agreement) -> String {
    if listed.otherwise.is_empty() {
        return String::new();
    }
    let rows = listed.otherwise.iter().map(|counted| {
        let Counted { client, logged, listed, why } = counted;
        format!("| {client} | {logged} | {listed} | {} |\n", why.unwrap_or(UNEXPLAINED))
    });
    let head = "\n| client | requests | packets that look like one | why |\n|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

/// What tshark reads otherwise, message by message, and why.
fn otherwise(report: &Report) -> String {
    let Some(found) = &report.tshark else { return String::new() };
    let kinds = [("request", &found.requests), ("status", &found.statuses)];
    let all =
        || kinds.iter().flat_map(|(kind, said)| said.otherwise.iter().map(move |o| (kind, o)));
    if all().next().is_none() {
        return String::new();
    }
    let cell = |said: &[String]| {
        let shown = said.iter().map(|message| {
            let short: String = message.chars().take(MESSAGE_MAX).collect();
            format!("`{}`", short.escape_default().to_string().replace(['|', '`'], "?"))
        });
        shown.collect::<Vec<_>>().join("<br>")
    };
    let rows = all().map(|(kind, o)| {
        let why = o.why.unwrap_or(UNEXPLAINED);
        format!("| {} | {kind} | {} | {} | {why} |\n", o.client, cell(&o.logged), cell(&o.tshark))
    });
    let head = "\n| client | | only in the log | only tshark | why |\n|---|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

fn baselines(report: &Report) -> String {
    let waited = &report.forwarding_only;
    format!(
        "## Without moves\n\n**Full clone.** When half of the packets have come, the instance and \
         all that it knows is copied; from then on the clone gets the connections to port 80 and \
         the original all others. Each logs those of the other as they were: {}.\n\n\
         **Forwarding only.** New flows go elsewhere, and the instance stays until the last of its \
         {} flows has ended. Their lengths are drawn so that {:.0} % last longer than \
         {LONG_SECONDS:.0} s, as OpenNF says of HTTP; {:.1} % of those drawn did. What is open \
         at a moment lasts longer than what begins, so more are left. The last one \
         ended after {:.0} s (median), which says little: that none lasts longer than a day is an assumption.\n\n\
         ![forwarding only](forwarding-only.svg)\n",
        told(&report.clone.logs),
        report.flows,
        LONG * 100.0,
        waited.long * 100.0,
        median(waited.seconds.iter().copied()),
    )
}

fn told(difference: &Difference) -> String {
    let fields: Vec<_> =
        difference.fields.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let fields =
        if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) };
    let Difference { missing, unexpected, .. } = difference;
    format!("{missing} missing, {unexpected} that should not be there{fields}")
}

fn moves_plot(report: &Report) -> String {
    let dots: Vec<_> = (1..=report.moves.len()).map(|n| n as f64).zip(report.move_ms()).collect();
    let axes = [
        Axis { title: "move", scale: Scale::Linear(dots.len().max(1) as f64) },
        Axis { title: "ms", scale: Scale::Log(-2, 3) },
    ];
    let opennf = Shape::Across(OPENNF_MOVE_MS, "OpenNF, 260 ms".to_owned());
    let title = format!("Time of a move of {} connections", report.flows);
    plot::svg(&title, axes, &[opennf, Shape::Dots(dots)])
}

fn forwarding_plot(report: &Report) -> String {
    // A logarithmic axis has no zero: the first second shows what there was.
    let left = &report.forwarding_only.example.left;
    let steps = left.iter().map(|(seconds, left)| (seconds.max(1.0), *left as f64)).collect();
    let axes = [
        Axis { title: "seconds, simulated", scale: Scale::Log(0, 5) },
        Axis { title: "flows left", scale: Scale::Linear(report.flows.max(1) as f64) },
    ];
    let opennf = Shape::Upright(LONG_SECONDS, "1,500 s".to_owned());
    plot::svg("Flows left when only new ones go elsewhere", axes, &[opennf, Shape::Steps(steps)])
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::clean;
    use super::super::run::Moved;
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn a_run_with_faults_says_so() {
        let mut report = clean();
        assert!(line(&report).ends_with("; ok") && !markdown(&report).contains("FAILED"));
        report.two.packets.received -= 1;
        assert!(line(&report).ends_with("FAILED"), "{}", line(&report));
        assert!(markdown(&report).contains("1 packets lost with two instances"));
    }

    #[test]
    fn all_files_are_written_and_the_last_line_has_the_figures() {
        let folder = Folder::new().unwrap();
        write(&clean(), folder.path()).unwrap();
        for name in
            ["report.json", "report.md", "moves.svg", "forwarding-only.svg", "guarantees.svg"]
        {
            assert!(folder.path().join(name).metadata().unwrap().len() > 100, "{name}");
        }
        let mut report = clean();
        report.moves.push(Moved { took_us: 900.0, cpu_us: 70.0, ..report.moves[0].clone() });
        let said = line(&report);
        for figure in [
            "2 moves",
            "median 0.30 ms, max 0.90 ms (target: under 1 ms; OpenNF 260 ms)",
            "CPU 0 µs",
            "list: 2 of 2 flows exact",
            "0 requests and 0 statuses alike",
            "waits 0 s",
        ] {
            assert!(said.contains(figure), "{figure}: {said}");
        }
        report.tshark = None;
        assert!(line(&report).contains("tshark: not compared"), "{said}");
    }

    #[test]
    fn a_median_beyond_the_target_stands_beside_it_and_is_no_fault() {
        let mut report = clean();
        report.moves.iter_mut().for_each(|moved| moved.took_us = 4_000.0);
        let said = markdown(&report);
        assert!(said.contains("4.00 ms, median of 1 (4.00 to 4.00; target: under 1 ms)"), "{said}");
        assert!(line(&report).ends_with("; ok"), "{}", line(&report));
    }
}
