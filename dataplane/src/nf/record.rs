//! What functions find out: lines of their logs.

use super::{Timestamp, assets, ids, log};

/// Something that a function has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Of the intrusion detection.
    Ids(ids::Record),
    /// Of the asset detection.
    Asset(assets::Record),
}

/// A log of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// Of the intrusion detection.
    Ids(ids::log::Log),
    /// What the asset detection has learned.
    Assets,
}

impl Record {
    /// The log that it stands in.
    pub fn log(&self) -> Log {
        match self {
            Self::Ids(record) => Log::Ids(ids::log::Log::of(record)),
            Self::Asset(_) => Log::Assets,
        }
    }

    /// The record as a line, with its line feed.
    pub fn line(&self) -> String {
        match self {
            Self::Ids(record) => ids::log::line(record),
            Self::Asset(record) => record.line(),
        }
    }
}

impl Log {
    /// The function that writes it, as the configuration calls it.
    pub fn function(self) -> &'static str {
        match self {
            Self::Ids(_) => "ids",
            Self::Assets => "assets",
        }
    }

    /// Its name, without `.log`.
    pub fn path(self) -> &'static str {
        match self {
            Self::Ids(log) => log.path(),
            Self::Assets => assets::record::PATH,
        }
    }

    /// The lines that it begins with, opened at that time.
    pub fn header(self, opened: Timestamp) -> String {
        match self {
            Self::Ids(log) => log.header(opened),
            Self::Assets => assets::record::log_header(opened),
        }
    }

    /// The line that any of them ends with that was closed in order, at that time.
    pub fn footer(closed: Timestamp) -> String {
        log::footer(closed)
    }
}
