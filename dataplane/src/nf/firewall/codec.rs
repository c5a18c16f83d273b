//! What is known of sources, and the totals, as bytes in network order.
//!
//! ```text
//! counter: count 2 | for each: instance 4, incarnation 8, counted 8
//!          | retired 2 | for each: instance 4, incarnation 8
//! source:  connections up counter | down counter | bucket: 0, or
//!          1 | stamp: time 8, count 4, instance 4, incarnation 8 | age 8 (ns) | taken counter
//! totals:  accepted, begun, ended counter | reasons 1 | counter for each
//!          | rules 2 | for each: length 1, name, counter
//! ```

use std::collections::BTreeMap;

use weir_state_transfer::Nanos;
use weir_state_transfer::chunk::Schema;
use weir_state_transfer::merge::{Counter, Gauge, Replica, Stamp};

use super::bucket::{Bucket, Full};
use super::limits::Source;
use super::reason::Reason;
use super::rules::RULES_MAX;
use super::totals::Totals;
use crate::config::Name;
use crate::nf::wire::{DecodeError, Fault, Reader, decode};

/// What the bytes of a source are.
pub const SOURCE_SCHEMA: Schema = Schema { kind: 2, revision: 1 };
/// What the bytes of totals are.
pub const TOTALS_SCHEMA: Schema = Schema { kind: 3, revision: 1 };
/// Replicas of one counter that are taken in, at most; as many that have ended.
pub const REPLICAS_MAX: usize = 256;

impl Source {
    /// Appends what is known of a source to bytes. How long ago its bucket was full travels, not
    /// when that was.
    pub fn encode(&self, now: Nanos, out: &mut Vec<u8>) {
        put_counter(&self.open.up, out);
        put_counter(&self.open.down, out);
        let (full, taken) = self.bucket.parts();
        let Some(Full { stamp, time }) = full else {
            out.push(0);
            return;
        };
        out.push(1);
        out.extend(stamp.time.0.to_be_bytes());
        out.extend(stamp.count.to_be_bytes());
        put_replica(stamp.replica, out);
        out.extend(now.0.saturating_sub(time.0).to_be_bytes());
        put_counter(taken, out);
    }

    /// What bytes of a schema say of a source.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8], now: Nanos) -> Result<Self, DecodeError> {
        decode(schema, SOURCE_SCHEMA, bytes, |reader| {
            let open = Gauge { up: take_counter(reader)?, down: take_counter(reader)? };
            let [has_bucket] = reader.facts()?;
            let bucket = if has_bucket { take_bucket(reader, now)? } else { Bucket::default() };
            Ok(Self { open, bucket })
        })
    }
}

impl Totals {
    /// Appends the totals to bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for counter in [&self.accepted, &self.begun, &self.ended] {
            put_counter(counter, out);
        }
        // Reasons, rules and the length of a name are bounded by less than their fields hold.
        out.push(Reason::COUNT as u8);
        for counter in &self.dropped {
            put_counter(counter, out);
        }
        out.extend((self.rules.len() as u16).to_be_bytes());
        for (name, counter) in &self.rules {
            out.push(name.as_str().len() as u8);
            out.extend(name.as_str().as_bytes());
            put_counter(counter, out);
        }
    }

    /// The totals that bytes of a schema are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(schema, TOTALS_SCHEMA, bytes, take_totals)
    }
}

fn take_bucket(reader: &mut Reader<'_>, now: Nanos) -> Result<Bucket, Fault> {
    let (time, count) = (Nanos(reader.u64()?), reader.u32()?);
    let stamp = Stamp { time, count, replica: take_replica(reader)? };
    let time = Nanos(now.0.saturating_sub(reader.u64()?));
    Ok(Bucket::from_parts(Full { stamp, time }, take_counter(reader)?))
}

fn take_totals(reader: &mut Reader<'_>) -> Result<Totals, Fault> {
    let (accepted, begun) = (take_counter(reader)?, take_counter(reader)?);
    let ended = take_counter(reader)?;
    if usize::from(reader.u8()?) != Reason::COUNT {
        return Err(Fault::Bad("number of reasons"));
    }
    let mut dropped = [const { None }; Reason::COUNT];
    for place in &mut dropped {
        *place = Some(take_counter(reader)?);
    }
    let dropped = dropped.map(Option::unwrap_or_default);
    let count = usize::from(reader.u16()?);
    if count > RULES_MAX {
        return Err(Fault::Bad("number of rules"));
    }
    let mut rules = BTreeMap::new();
    for _ in 0..count {
        let length = usize::from(reader.u8()?);
        let text = std::str::from_utf8(reader.bytes(length)?).ok();
        let name: Option<Name> = text.and_then(|text| text.parse().ok());
        let name = name.ok_or(Fault::Bad("name of a rule"))?;
        // In order, so that there is one form only.
        if rules.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(Fault::Bad("order of rules"));
        }
        rules.insert(name, take_counter(reader)?);
    }
    Ok(Totals { accepted, begun, ended, dropped, rules })
}

/// A counter has fewer replicas than [`REPLICAS_MAX`]: there is one for each instance, and those
/// that have ended are taken over.
fn put_counter(counter: &Counter, out: &mut Vec<u8>) {
    let (parts, retired) = (counter.parts(), counter.retired());
    out.extend((parts.len() as u16).to_be_bytes());
    for (replica, counted) in parts {
        put_replica(replica, out);
        out.extend(counted.to_be_bytes());
    }
    out.extend((retired.len() as u16).to_be_bytes());
    for replica in retired {
        put_replica(replica, out);
    }
}

fn take_counter(reader: &mut Reader<'_>) -> Result<Counter, Fault> {
    let parts: Vec<(Replica, u64)> =
        take_list(reader, |reader| Ok((take_replica(reader)?, reader.u64()?)))?;
    let retired: Vec<Replica> = take_list(reader, take_replica)?;
    let in_order = parts.is_sorted_by(|one, other| one.0 < other.0)
        && retired.is_sorted_by(|one, other| one < other);
    if !in_order || parts.iter().any(|(replica, _)| retired.binary_search(replica).is_ok()) {
        return Err(Fault::Bad("replicas"));
    }
    Ok(Counter::from_parts(parts, retired))
}

fn take_list<T>(
    reader: &mut Reader<'_>,
    mut take: impl FnMut(&mut Reader<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let count = usize::from(reader.u16()?);
    if count > REPLICAS_MAX {
        return Err(Fault::Bad("number of replicas"));
    }
    (0..count).map(|_| take(reader)).collect()
}

fn put_replica(replica: Replica, out: &mut Vec<u8>) {
    out.extend(replica.instance.to_be_bytes());
    out.extend(replica.incarnation.to_be_bytes());
}

fn take_replica(reader: &mut Reader<'_>) -> Result<Replica, Fault> {
    Ok(Replica { instance: reader.u32()?, incarnation: reader.u64()? })
}
