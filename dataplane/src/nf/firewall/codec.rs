//! What is known of sources, and the totals, as bytes in network order.
//!
//! ```text
//! source: connections gauge | bucket: 0, or 1 | stamp | taken counter
//! totals: accepted, begun, ended counter | reasons 1 | counter for each
//!         | rules 4 | for each: length 4, name, counter
//! ```

use std::collections::BTreeMap;

use weir_state_transfer::Nanos;
use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::merge::{Counter, Gauge, Stamp};
use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::bucket::{Bucket, Full};
use super::limits::Source;
use super::reason::Reason;
use super::rules::RULES_MAX;
use super::totals::Totals;
use crate::config::Name;
use crate::nf::schema::{FIREWALL_SOURCE, FIREWALL_TOTALS};

impl Source {
    /// What is known of a source as bytes. When its bucket was full is not in them, as clocks
    /// differ.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            self.open.put(out);
            let (full, taken) = self.bucket.parts();
            out.option(full, |out, Full { stamp, .. }| {
                stamp.put(out);
                taken.put(out);
            });
        })
    }

    /// What bytes of a schema say of a source whose bucket was last full at `full`, if ever.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8], full: Nanos) -> Result<Self, BodyError> {
        decode_body(schema, FIREWALL_SOURCE.schema, bytes, |reader| {
            let open = Gauge::take(reader)?;
            let bucket = reader.option("bucket", |reader| take_bucket(reader, full))?;
            Ok(Self { open, bucket: bucket.unwrap_or_default() })
        })
    }
}

impl Totals {
    /// The totals as bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            for counter in [&self.accepted, &self.begun, &self.ended] {
                counter.put(out);
            }
            out.u8(REASONS);
            for counter in &self.dropped {
                counter.put(out);
            }
            out.list(self.rules.iter(), |out, (name, counter)| {
                out.bytes(name.as_str().as_bytes());
                counter.put(out);
            });
        })
    }

    /// The totals that bytes of a schema are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
        decode_body(schema, FIREWALL_TOTALS.schema, bytes, take_totals)
    }
}

const REASONS: u8 = Reason::COUNT as u8;

fn take_bucket(reader: &mut Reader<'_>, time: Nanos) -> Result<Bucket, WireError> {
    let stamp = Stamp::take(reader)?;
    Ok(Bucket::from_parts(Full { stamp, time }, Counter::take(reader)?))
}

fn take_totals(reader: &mut Reader<'_>) -> Result<Totals, WireError> {
    let (accepted, begun) = (Counter::take(reader)?, Counter::take(reader)?);
    let ended = Counter::take(reader)?;
    if reader.u8()? != REASONS {
        return Err(WireError::BadField { what: "number of reasons" });
    }
    let mut dropped = [const { None }; Reason::COUNT];
    for place in &mut dropped {
        *place = Some(Counter::take(reader)?);
    }
    let dropped = dropped.map(Option::unwrap_or_default);
    let rules = reader.list("rules", RULES_MAX, |reader| {
        let text = reader.text("bytes of name", Name::LENGTH_MAX)?;
        let name = text.parse::<Name>();
        let name = name.map_err(|_| WireError::BadField { what: "name of a rule" })?;
        Ok((name, Counter::take(reader)?))
    })?;
    // In order, so that there is one form only.
    if !rules.is_sorted_by(|one, other| one.0 < other.0) {
        return Err(WireError::BadField { what: "order of rules" });
    }
    Ok(Totals { accepted, begun, ended, dropped, rules: BTreeMap::from_iter(rules) })
}
