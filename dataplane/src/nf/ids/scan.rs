//! Who tries out addresses and ports: state that belongs to all connections of a source.

use std::net::IpAddr;

use md5::{Digest as _, Md5};
use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::merge::{Counter, Distinct, Join, Lives, Replica};
use weir_state_transfer::wire::Writer;
use weir_state_transfer::{FlowId, ServiceId};

use super::config::ScanConfig;
use super::record::ScanRecord;
use crate::nf::numbered::Numbered;
use crate::nf::schema::IDS_SOURCE;
use crate::nf::timestamp::{Timestamp, nanos};

/// Whose attempts are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    /// The service.
    pub service: ServiceId,
    /// The address that the attempts came from.
    pub address: IpAddr,
}

impl SourceId {
    /// The flows that the state of the source is about.
    pub fn flow_id(&self) -> FlowId {
        FlowId::host(self.address, self.service)
    }

    /// The source whose flows an id is of.
    pub fn of_id(id: &FlowId) -> Option<Self> {
        id.as_host().map(|(address, service)| Self { service, address })
    }
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) source: SourceId,
    /// Where it went to.
    pub(super) to: (IpAddr, u16),
    /// When it began.
    pub(super) at: Timestamp,
}

/// What a source has tried in one window of time.
///
/// Windows begin at the same times everywhere, so that copies of a source can be joined: the
/// later window stays, and of one window what both have seen.
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

impl Source {
    /// Whether its window is one of this length: of those of another the numbers mean other times.
    pub(super) fn is_of(&self, config: &ScanConfig) -> bool {
        self.window == window(self.last, config)
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

    /// Leaves out what lives have counted that others have taken over.
    pub(super) fn retire(&mut self, lives: &Lives) {
        self.attempts.retire(lives);
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
    sources: Numbered<SourceId, Known>,
    /// Under this replica sources count that are new.
    replica: Replica,
    /// The window in which sources of earlier ones were last thrown out.
    swept: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) source: Source,
    /// Under which it counts. One that was taken out and comes again begins at 0, which a copy from
    /// before must not be taken for newer than; so it counts under another replica then.
    replica: Replica,
}

/// There is no room for another source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full;

impl Sources {
    /// None, of an instance that counts as a replica.
    pub(super) fn new(replica: Replica) -> Self {
        Self { sources: Numbered::default(), replica, swept: 0 }
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
        id: SourceId,
        other: &Source,
        config: &ScanConfig,
    ) -> Result<Option<ScanRecord>, Full> {
        let Known { source, .. } = self.place(id, other.window, config)?;
        source.join(other);
        Ok(source.tell(id.address, config))
    }

    /// As which replica a source is counted here, or would be.
    pub(super) fn counted_as(&self, id: &SourceId) -> Replica {
        self.sources.get(id).map_or(self.replica, |known| known.replica)
    }

    pub(super) fn get(&self, id: &SourceId) -> Option<&Source> {
        self.sources.get(id).map(|known| &known.source)
    }

    pub(super) fn remove(&mut self, id: &SourceId) -> Option<Source> {
        let removed = self.sources.remove(id)?;
        self.replica.incarnation = self.replica.incarnation.wrapping_add(1);
        Some(removed.source)
    }

    pub(super) fn ids(&self) -> impl ExactSizeIterator<Item = SourceId> + '_ {
        self.sources.iter().map(|(id, _)| *id)
    }

    pub(super) fn known(&self) -> &Numbered<SourceId, Known> {
        &self.sources
    }

    fn place(
        &mut self,
        id: SourceId,
        window: u64,
        config: &ScanConfig,
    ) -> Result<&mut Known, Full> {
        if !self.sources.contains(&id) && self.sources.len() >= config.sources_max {
            if window <= self.swept {
                return Err(Full);
            }
            self.swept = window;
            self.sources.retain(|known| known.source.window >= window);
            if self.sources.len() >= config.sources_max {
                return Err(Full);
            }
        }
        let replica = self.replica;
        let new = || Known { source: Source { window, ..Source::default() }, replica };
        Ok(self.sources.entry(id, new))
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
