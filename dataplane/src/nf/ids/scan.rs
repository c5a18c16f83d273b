//! Who tries out addresses and ports: state that belongs to all connections of a source.

use std::net::IpAddr;

use md5::{Digest as _, Md5};
use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::merge::{Counter, Distinct, Join, Life, Lives, Replica};
use weir_state_transfer::wire::Writer;

use super::config::ScanConfig;
use super::record::ScanRecord;
use crate::nf::origin::Origin;
use crate::nf::schema::IDS_SOURCE;
use crate::nf::share::{Countable, Known, KnownSources};
use crate::nf::timestamp::{Timestamp, nanos};

/// An attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nf) struct Attempt {
    pub(in crate::nf) source: Origin,
    /// Where it went to.
    pub(in crate::nf) to: (IpAddr, u16),
    /// When it began.
    pub(in crate::nf) at: Timestamp,
}

/// What a source has tried in one window of time.
///
/// Windows begin at the same times everywhere, so that copies of a source can be joined: the
/// later window stays, and of one window what both have seen. That asks of the clocks of two nodes that
/// they agree to within a window, as those kept by NTP do; else the two count different windows, and
/// nothing that one knows would be of use to the other. So what is tried in a window further to come is
/// refused, and the move that brings it undone, and what is of one that is over counts no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    window: u64,
    distinct: Distinct,
    attempts: Counter,
    /// The last attempt.
    last: Timestamp,
    /// Whether its record has been written.
    told: bool,
}

impl Join for Source {
    fn join(&mut self, other: &Self) {
        if other.window > self.window {
            *self = other.clone();
        } else if other.window == self.window {
            self.distinct.join(&other.distinct);
            self.attempts.join(&other.attempts);
            self.last = self.last.max(other.last);
            self.told |= other.told;
        }
    }
}

impl Countable for Source {
    fn take_from(&mut self, by: Replica, heir: Replica) {
        self.attempts.take_from(by, heir);
    }

    fn retire(&mut self, ended: &Lives) {
        self.attempts.retire(ended);
    }

    fn retires(&self, life: Life) -> bool {
        self.attempts.retires(life)
    }
}

impl Source {
    /// Whether its window is one of this length: of those of another the numbers mean other times.
    pub(super) fn is_of(&self, config: &ScanConfig) -> bool {
        self.window == window(self.last, config)
    }

    /// Whether it has tried before or now, by clocks that are a window apart at most. What is later
    /// would not be watched until then.
    pub(super) fn is_past(&self, config: &ScanConfig, now: Timestamp) -> bool {
        self.window <= window(now, config).saturating_add(1)
    }

    /// Makes what its holder has given away the heir's, who may know of the source itself; see
    /// [`Counter::inherit`].
    pub(super) fn give(&mut self, by: Replica, heir: Replica, known: Option<&Self>, ended: &Lives) {
        let given = std::mem::take(&mut self.attempts);
        if let Some(known) = known.filter(|known| known.window == self.window) {
            self.attempts = known.attempts.clone();
        }
        self.attempts.inherit(given, by, heir, ended);
    }

    #[cfg(test)]
    pub(in crate::nf) fn attempts(&self) -> &Counter {
        &self.attempts
    }

    /// Whether its counter is no larger than it may be.
    pub(super) fn fits(&self) -> bool {
        self.attempts.fits()
    }

    /// The record, once in a window, when it is a scan.
    fn tell(&mut self, address: IpAddr, config: &ScanConfig) -> Option<ScanRecord> {
        let distinct = self.distinct.estimate().round() as u64;
        if self.told || distinct < u64::from(config.threshold) {
            return None;
        }
        self.told = true;
        let attempts = self.attempts.value();
        Some(ScanRecord { ts: self.last, source: address, distinct, attempts })
    }

    /// The source as bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            out.u64(self.window);
            self.distinct.put(out);
            self.attempts.put(out);
            out.u64(self.last.0);
            out.bool(self.told);
        })
    }

    /// The source that bytes of a schema are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
        decode_body(schema, IDS_SOURCE.schema, bytes, |reader| {
            Ok(Self {
                window: reader.u64()?,
                distinct: Distinct::take(reader)?,
                attempts: Counter::take(reader)?,
                last: Timestamp(reader.u64()?),
                told: reader.bool("mark of a record")?,
            })
        })
    }
}

/// All sources that have failed of late.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) known: KnownSources<Source>,
    /// The window in which sources of earlier ones were last thrown out.
    swept: u64,
}

/// What there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Another source.
    Sources,
    /// Another replica that has counted the source.
    Replicas,
}

impl Sources {
    /// None, of an instance that counts as a replica.
    pub(super) fn new(replica: Replica) -> Self {
        Self { known: KnownSources::new(replica), swept: 0 }
    }

    /// Counts an attempt.
    pub(super) fn failed(
        &mut self,
        attempt: &Attempt,
        config: &ScanConfig,
    ) -> Result<Option<ScanRecord>, Full> {
        let window = window(attempt.at, config);
        let Known { source, replica } = self.place(attempt.source, window, config)?;
        if window < source.window {
            return Ok(None);
        }
        if window > source.window {
            *source = Source { window, ..Source::default() };
        }
        source.distinct.see(hash(attempt.to));
        source.attempts.add(*replica, 1);
        source.last = source.last.max(attempt.at);
        Ok(source.tell(attempt.source.address, config))
    }

    /// Takes in a copy of a source. It may be that only both together are a scan.
    pub(super) fn join(
        &mut self,
        id: Origin,
        other: &Source,
        config: &ScanConfig,
    ) -> Result<Option<ScanRecord>, Full> {
        let mut joined = self.known.source(&id).cloned().unwrap_or_default();
        joined.join(other);
        if !joined.fits() {
            return Err(Full::Replicas);
        }
        let Known { source, .. } = self.place(id, other.window, config)?;
        *source = joined;
        Ok(source.tell(id.address, config))
    }

    fn place(
        &mut self,
        id: Origin,
        window: u64,
        config: &ScanConfig,
    ) -> Result<&mut Known<Source>, Full> {
        if !self.known.has(&id) && self.known.len() >= config.sources_max {
            if window <= self.swept {
                return Err(Full::Sources);
            }
            self.swept = window;
            self.known.retain(|source| source.window >= window);
            if self.known.len() >= config.sources_max {
                return Err(Full::Sources);
            }
        }
        Ok(self.known.entry(id, || Source { window, ..Source::default() }))
    }
}

/// The number of the window that a time is in.
fn window(at: Timestamp, config: &ScanConfig) -> u64 {
    at.0 / nanos(config.window).max(1)
}

/// The same everywhere, and every bit as good as random.
fn hash((address, port): (IpAddr, u16)) -> u64 {
    let mut md5 = Md5::new();
    match address {
        IpAddr::V4(address) => md5.update(address.octets()),
        IpAddr::V6(address) => md5.update(address.octets()),
    }
    md5.update(port.to_be_bytes());
    let digest: [u8; 16] = md5.finalize().into();
    // Half of it is enough.
    (u128::from_be_bytes(digest) >> 64) as u64
}
