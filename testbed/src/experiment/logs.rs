//! Logs of network functions, read back and compared entry by entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use weir_dataplane::nf::ids::log::{self, Log};
use weir_dataplane::nf::ids::{Record, Timestamp};

/// What depends on when packets came: times, how long something took, and the names of
/// connections, which are made of their start.
pub(super) const OF_TIME: [&str; 3] = ["ts", "uid", "duration"];
/// What an entry is about. Entries that agree in it are compared with each other.
const ABOUT: [&str; 5] = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "trans_depth"];
/// The logs that are compared; scans are known of more than one flow.
const COMPARED: [Log; 2] = [Log::Conn, Log::Http];
/// Entries told in full.
const EXAMPLES: usize = 5;

/// The entries of one or more instances: connections of TCP, and HTTP transactions.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs {
    pub(super) conns: Vec<Entry>,
    pub(super) https: Vec<Entry>,
}

/// A line of a log: values under the names of their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(pub(super) BTreeMap<String, String>);

/// Where logs differ from those that they should be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Difference {
    /// Entries that are not there.
    pub missing: usize,
    /// Entries that should not be there.
    pub unexpected: usize,
    /// By field, in how many pairs of a missing and an unexpected entry of the same connection or
    /// transaction it differs.
    pub fields: BTreeMap<String, usize>,
    /// Some of them.
    pub examples: Vec<String>,
}

impl Entry {
    /// The value of a field, if there is one.
    pub(super) fn value(&self, field: &str) -> &str {
        self.0.get(field).map_or("-", String::as_str)
    }

    fn about(&self) -> [&str; 5] {
        ABOUT.map(|field| self.value(field))
    }

    /// What it says beyond what it is about.
    fn shown(&self) -> String {
        let said = self.0.iter().filter(|(name, value)| {
            !ABOUT.contains(&name.as_str()) && !["-", "(empty)"].contains(&value.as_str())
        });
        said.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    /// Without what depends on time.
    fn timeless(&self) -> Self {
        let fields = self.0.iter().filter(|(name, _)| !OF_TIME.contains(&name.as_str()));
        Self(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

impl Logs {
    /// Those of all instances that log below a folder.
    ///
    /// # Errors
    /// When a file cannot be read, or is no log.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut logs = Self::default();
        for instance in fs::read_dir(folder)? {
            let instance = instance?.path();
            for log in COMPARED {
                let path = instance.join(format!("{}.log", log.path()));
                if path.exists() {
                    let text = fs::read_to_string(&path)?;
                    logs.add(log, &text).with_context(|| path.display().to_string())?;
                }
            }
        }
        Ok(logs)
    }

    /// Those that records make.
    ///
    /// # Errors
    /// When a line of a log is none.
    pub(super) fn of(records: &[Record]) -> Result<Self> {
        let mut logs = Self::default();
        for log in COMPARED {
            let own = records.iter().filter(|record| Log::of(record) == log);
            let header = std::iter::once(log.header(Timestamp(0)));
            let text: String = header.chain(own.map(log::line)).collect();
            logs.add(log, &text)?;
        }
        Ok(logs)
    }

    /// Entries in all.
    pub(super) fn len(&self) -> usize {
        self.conns.len() + self.https.len()
    }

    fn add(&mut self, log: Log, text: &str) -> Result<()> {
        let head = text.lines().find_map(|line| line.strip_prefix("#fields\t"));
        let names: Vec<_> = head.context("no names of fields")?.split('\t').collect();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let values: Vec<_> = line.split('\t').map(str::to_owned).collect();
            ensure!(values.len() == names.len(), "{} values in {line:?}", values.len());
            let names = names.iter().map(|name| (*name).to_owned());
            let entry = Entry(names.zip(values).collect());
            match log {
                Log::Conn if entry.value("proto") == "tcp" => self.conns.push(entry),
                Log::Http => self.https.push(entry),
                Log::Conn | Log::Scan => {}
            }
        }
        Ok(())
    }

    /// HTTP transactions whose connection is not logged under the name that they give.
    pub(super) fn unnamed(&self) -> usize {
        let name = |entry: &Entry| {
            let ends = ABOUT[..4].iter().map(|field| entry.value(field).to_owned());
            (entry.value("uid").to_owned(), ends.collect::<Vec<_>>())
        };
        let known: BTreeSet<_> = self.conns.iter().map(name).collect();
        self.https.iter().filter(|http| !known.contains(&name(http))).count()
    }

    /// Where these logs differ from those that they should be, but for what depends on time.
    pub(super) fn difference(&self, should: &Self) -> Difference {
        let mut difference = Difference::default();
        difference.add(&self.conns, &should.conns);
        difference.add(&self.https, &should.https);
        difference
    }
}

impl Difference {
    /// Entries that differ: what is missing, and what should not be there. An entry that is wrong
    /// and in the place of the right one counts as both.
    pub fn entries(&self) -> usize {
        self.missing + self.unexpected
    }

    fn add(&mut self, are: &[Entry], should: &[Entry]) {
        let mut balance: BTreeMap<Entry, isize> = BTreeMap::new();
        for entry in are {
            *balance.entry(entry.timeless()).or_default() += 1;
        }
        for entry in should {
            *balance.entry(entry.timeless()).or_default() -= 1;
        }
        let mut pairs: BTreeMap<[&str; 5], [Vec<&Entry>; 2]> = BTreeMap::new();
        for (entry, more) in &balance {
            let times = more.unsigned_abs();
            let [missing, unexpected] = pairs.entry(entry.about()).or_default();
            let (list, total) = if *more < 0 {
                (missing, &mut self.missing)
            } else {
                (unexpected, &mut self.unexpected)
            };
            list.extend(std::iter::repeat_n(entry, times));
            *total += times;
        }
        for (about, [missing, unexpected]) in &pairs {
            self.add_pairs(*about, missing, unexpected);
        }
    }

    fn add_pairs(&mut self, about: [&str; 5], missing: &[&Entry], unexpected: &[&Entry]) {
        for (should, is) in missing.iter().zip(unexpected) {
            let differ = should.0.iter().filter(|(name, value)| is.value(name) != value.as_str());
            for (name, _) in differ {
                *self.fields.entry(name.clone()).or_default() += 1;
            }
        }
        if missing.len() + unexpected.len() > 0 && self.examples.len() < EXAMPLES {
            let about = about.join(" ");
            let [should, are] = [missing, unexpected].map(|entries| {
                entries.iter().map(|entry| entry.shown()).collect::<Vec<_>>().join(" | ")
            });
            self.examples.push(format!("{about}: missing [{should}], unexpected [{are}]"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "#separator \\x09\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\t\
                        id.resp_h\tid.resp_p\tproto\tduration\torig_pkts\n";

    fn logs(lines: &[[&str; 9]]) -> Logs {
        let mut logs = Logs::default();
        let text: String = lines.iter().map(|line| line.join("\t") + "\n").collect();
        logs.add(Log::Conn, &(HEAD.to_owned() + &text)).unwrap();
        logs
    }

    const ONE: [&str; 9] = ["1.0", "Ca", "10.0.0.0", "1", "198.18.0.1", "80", "tcp", "0.5", "7"];

    fn but(field: usize, value: &'static str) -> [&'static str; 9] {
        let mut line = ONE;
        line[field] = value;
        line
    }

    #[test]
    fn times_and_names_of_times_may_differ_and_nothing_else_may() {
        let should = logs(&[ONE, but(3, "2")]);
        for (field, differ) in [0, 0, 2, 2, 2, 2, 2, 0, 2].into_iter().enumerate() {
            // Another protocol is not compared: then the entry is missing only.
            let differ = if field == 6 { 1 } else { differ };
            let found = logs(&[but(field, "9"), but(3, "2")]).difference(&should);
            assert_eq!(found.entries(), differ, "field {field}: {found:?}");
        }
    }

    #[test]
    fn order_is_nothing_and_number_is() {
        let should = logs(&[ONE, but(3, "2")]);
        assert_eq!(logs(&[but(3, "2"), ONE]).difference(&should).entries(), 0);
        let twice = logs(&[ONE, ONE, but(3, "2")]).difference(&should);
        assert_eq!((twice.missing, twice.unexpected), (0, 1));
        let once = logs(&[ONE]).difference(&should);
        assert_eq!((once.missing, once.unexpected), (1, 0));
    }

    #[test]
    fn the_fields_that_differ_are_told() {
        let found = logs(&[but(8, "6")]).difference(&logs(&[ONE]));
        assert_eq!(found.fields, [("orig_pkts".to_owned(), 1)].into());
        assert!(found.examples[0].contains("10.0.0.0 1"), "{found:?}");
        assert!(found.examples[0].contains("unexpected [orig_pkts=6 proto=tcp]"), "{found:?}");
    }

    #[test]
    fn a_transaction_under_another_name_than_its_connection_is_noticed() {
        let mut logs = logs(&[ONE]);
        logs.https = logs.conns.clone();
        assert_eq!(logs.unnamed(), 0);
        logs.https[0].0.insert("uid".to_owned(), "Cb".to_owned());
        assert_eq!(logs.unnamed(), 1);
    }
}
