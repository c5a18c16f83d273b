//! What the experiment found out, as it is written to `report.json`.

use serde::Serialize;

use super::forwarding_only::Emptied;
use super::listed::Agreement;
use super::logs::Difference;
use super::promises::Promise;
use super::run::{Moved, Run};
use super::tshark::Found;

/// The figures. Times are in the unit that ends the name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Where the packets come from.
    pub source: String,
    /// Connections.
    pub flows: usize,
    /// Packets of them.
    pub packets: usize,
    /// Packets a second that were asked for.
    pub rate: u64,
    /// Where everything random came from.
    pub seed: u64,
    /// All packets through a single instance.
    pub one: Run,
    /// All packets through two instances, with moves.
    pub two: Run,
    /// The moves.
    pub moves: Vec<Moved>,
    /// Moves that promise less or more, at two rates.
    pub promises: Vec<Promise>,
    /// The logs of both instances together against those of the single one.
    pub logs: Difference,
    /// HTTP transactions that name another connection than is logged, in both runs.
    pub unnamed: usize,
    /// The single instance's logs against the intrusion detection in this process, which is shown
    /// the same packets.
    pub in_process: Difference,
    /// The single instance's logs against the list of the conversations.
    pub listed: Agreement,
    /// The single instance's logs against tshark, if it is installed and was asked for.
    pub tshark: Option<Found>,
    /// Whether it was asked to do without tshark.
    pub without_tshark: bool,
    /// The logs of an instance and its full clone against those of the single one.
    pub clone: FullClone,
    /// An instance that waits for its flows to end, in simulated time.
    pub forwarding_only: Waited,
    /// How long it all took.
    pub seconds: f64,
}

/// What a full clone logs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FullClone {
    /// Connections that the original logs and that are other than those of the single instance.
    pub wrong_at_original: usize,
    /// The same of the clone.
    pub wrong_at_clone: usize,
    /// Both together, HTTP transactions too.
    pub logs: Difference,
}

/// How long an instance waits for its flows to end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Waited {
    /// Of each draw, until no flow was left.
    pub seconds: Vec<f64>,
    /// Of each draw, the flows that were left after 1,500 s.
    pub left_late: Vec<usize>,
    /// Of all flows drawn, the share that lasted longer than 1,500 s.
    pub long: f64,
    /// One draw.
    pub example: Emptied,
}

impl Report {
    /// What was not exact. Times are no faults.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must_be_none = |count: u64, what: &str| {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        };
        for (name, run) in [("one instance", &self.one), ("two instances", &self.two)] {
            let packets = &run.packets;
            must_be_none(packets.lost(), &format!("packets lost with {name}"));
            must_be_none(packets.reordered, &format!("packets reordered with {name}"));
            must_be_none(packets.unexpected, &format!("frames not expected with {name}"));
            must_be_none(run.overload, &format!("packets dropped before the router with {name}"));
            let unsent = self.packets as u64 - packets.sent.min(self.packets as u64);
            must_be_none(unsent, &format!("packets not sent with {name}"));
            must_be_none(run.drops.len() as u64, &format!("reasons to drop with {name}"));
        }
        must_be_none(self.logs.entries() as u64, "log entries differ");
        must_be_none(self.in_process.entries() as u64, "log entries differ from those in-process");
        must_be_none(self.unnamed as u64, "transactions of no connection");
        let unlisted = self.listed.flows - self.listed.exact + self.listed.unlisted;
        must_be_none(unlisted as u64, "connections are not as listed");
        let requests = self.listed.unexplained();
        must_be_none(requests as u64, "connections have not the requests that are known of them");
        let undone = self.moves.iter().filter(|moved| !moved.done || moved.flows == 0).count();
        must_be_none(undone as u64, "moves were undone or moved nothing");
        must_be_none(u64::from(self.moves.is_empty()), "experiment without a move");
        must_be_none(u64::from(self.one.entries == 0), "run without a log");
        must_be_none(u64::from(self.clone.logs.entries() == 0), "clone that makes no difference");
        must_be_none(u64::from(self.promises.is_empty()), "experiment without guarantees");
        faults.extend(self.promises.iter().flat_map(Promise::faults));
        faults.extend(self.fault_by_tshark());
        faults
    }

    fn fault_by_tshark(&self) -> Option<String> {
        match &self.tshark {
            None if self.without_tshark => None,
            None => Some(
                "tshark is not installed and the requests were not compared: install it, or ask for \
                 --without-tshark"
                    .to_owned(),
            ),
            Some(found) => found.fault(),
        }
    }

    /// The times of the moves, in milliseconds.
    pub(super) fn move_ms(&self) -> Vec<f64> {
        self.moves.iter().map(|moved| moved.took_us / 1e3).collect()
    }
}

/// The value in the middle, the lower one of two; zero when there is none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::listed::Counted;
    use super::super::promises::GUARANTEES;
    use super::super::promises::tests::kept;
    use super::super::replay::Tally;
    use super::super::tshark::Otherwise;
    use super::*;

    /// A report without a fault.
    pub(in super::super) fn clean() -> Report {
        let packets = Tally { sent: 9, received: 9, ..Tally::default() };
        let run = Run { packets, entries: 3, ..Run::default() };
        let wrong = Difference { unexpected: 4, ..Difference::default() };
        Report {
            packets: 9,
            one: run.clone(),
            two: run,
            moves: vec![Moved { done: true, flows: 2, took_us: 300.0, ..Moved::default() }],
            promises: GUARANTEES.map(kept).to_vec(),
            listed: Agreement { flows: 2, exact: 2, ..Agreement::default() },
            tshark: Some(Found { version: "4.0.17".to_owned(), ..Found::default() }),
            clone: FullClone { logs: wrong, ..FullClone::default() },
            ..Report::default()
        }
    }

    #[test]
    fn a_clean_run_has_no_faults() {
        assert_eq!(clean().faults(), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_must_not_be_is_a_fault() {
        let spoil: [fn(&mut Report); 24] = [
            |report| report.one.packets.received = 8,
            |report| report.two.packets.received = 8,
            |report| report.two.packets.reordered = 1,
            |report| report.two.packets.unexpected = 1,
            |report| report.two.overload = 1,
            |report| report.two.drops.push("1 no_route".to_owned()),
            |report| report.packets = 10,
            |report| report.logs.missing = 1,
            |report| report.logs.unexpected = 1,
            |report| report.in_process.missing = 1,
            |report| report.unnamed = 1,
            |report| report.listed.exact = 1,
            |report| report.listed.otherwise.push(Counted::default()),
            |report| report.listed.absent.push(String::new()),
            |report| report.tshark = None,
            |report| report.tshark.as_mut().unwrap().requests.otherwise.push(Otherwise::default()),
            |report| report.tshark.as_mut().unwrap().statuses.absent.push(String::new()),
            // Of whatever version.
            |report| {
                let found = report.tshark.as_mut().unwrap();
                found.statuses.otherwise.push(Otherwise::default());
                found.version = "4.2.2".to_owned();
            },
            |report| report.moves[0].done = false,
            |report| report.moves.clear(),
            |report| report.one.entries = 0,
            |report| report.clone.logs.unexpected = 0,
            |report| report.promises.clear(),
            |report| report.promises[2].reordered = 1,
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let mut report = clean();
            spoil(&mut report);
            assert!(!report.faults().is_empty(), "spoiled {number}");
        }
    }

    #[test]
    fn what_is_known_is_no_fault_and_nor_is_to_do_without() {
        let mut report = clean();
        let why = Some("it is known");
        report.listed.otherwise.push(Counted { why, ..Counted::default() });
        let found = report.tshark.as_mut().unwrap();
        found.statuses.otherwise.push(Otherwise { why, ..Otherwise::default() });
        assert_eq!(report.faults(), Vec::<String>::new());
        (report.tshark, report.without_tshark) = (None, true);
        assert_eq!(report.faults(), Vec::<String>::new());
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median([9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!((median([9.0, 1.0]) - 1.0).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
