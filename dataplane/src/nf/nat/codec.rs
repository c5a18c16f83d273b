//! Translations, the usage of addresses and the totals, as bytes. When a translation ends is not in
//! them.
//!
//! ```text
//! translation: connection, behind its length | source | destination | ports 2 each
//! usage:       open gauge | exhausted counter
//! totals:      passed, translated, begun, ended counter | reasons, behind their number: counter
//! ```
//!
//! The connection has the flow as it is before its translation; what follows is the translated flow,
//! of which both ports are the identifier where it has one.

use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::merge::{Counter, Gauge};
use weir_state_transfer::wire::{Reader, WireError, Writer};
use weir_state_transfer::{FlowKey, Nanos, protocol};

use super::reason::Reason;
use super::rules::{ends, has_ports};
use super::totals::Totals;
use super::translation::Translation;
use super::usages::Usage;
use crate::nf::connection::{self, Connection};
use crate::nf::schema::{CONNECTION, NAT_TOTALS, NAT_TRANSLATION, NAT_USAGE};

/// Bytes of a translation at most.
pub const BODY_MAX: usize = 4 + connection::BODY_MAX + 2 * 17 + 2 * 2;

impl Translation {
    /// The translation as bytes, at most [`BODY_MAX`] of them. When it ends is not in them, as clocks
    /// differ.
    pub fn encode(&self) -> Vec<u8> {
        let connection = self.connection.encode();
        Writer::bytes_of(|out| {
            out.bytes(&connection);
            let [src, dst] = ends(&self.translated);
            out.address(src.0);
            out.address(dst.0);
            out.u16(src.1);
            out.u16(dst.1);
        })
    }

    /// The translation that bytes of a schema are, which ends at `deadline` if no packet comes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8], deadline: Nanos) -> Result<Self, BodyError> {
        decode_body(schema, NAT_TRANSLATION.schema, bytes, |reader| take(reader, deadline))
    }
}

impl Usage {
    /// How much an address is used.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            self.open.put(out);
            self.exhausted.put(out);
        })
    }

    /// What bytes of a schema say of the usage of an address.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
        decode_body(schema, NAT_USAGE.schema, bytes, |reader| {
            Ok(Self { open: Gauge::take(reader)?, exhausted: Counter::take(reader)? })
        })
    }
}

impl Totals {
    /// The totals.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            for counter in [&self.passed, &self.translated, &self.begun, &self.ended] {
                counter.put(out);
            }
            out.list(self.dropped.iter(), |out, counter| counter.put(out));
        })
    }

    /// The totals that bytes of a schema are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
        decode_body(schema, NAT_TOTALS.schema, bytes, |reader| {
            let (passed, translated) = (Counter::take(reader)?, Counter::take(reader)?);
            let (begun, ended) = (Counter::take(reader)?, Counter::take(reader)?);
            let dropped = reader.list("reasons", Reason::COUNT, Counter::take)?;
            let dropped = dropped
                .try_into()
                .map_err(|_| WireError::BadField { what: "number of reasons" })?;
            Ok(Self { passed, translated, begun, ended, dropped })
        })
    }
}

fn take(reader: &mut Reader<'_>, deadline: Nanos) -> Result<Translation, WireError> {
    let bad = |what| WireError::BadField { what };
    let connection = reader.bytes("bytes of a connection", connection::BODY_MAX)?;
    let connection = Connection::decode(CONNECTION.schema, connection, deadline)
        .map_err(|_| bad("connection"))?;
    let key = connection.key();
    let (src, dst) = (reader.address()?, reader.address()?);
    let ports = (reader.u16()?, reader.u16()?);
    let translated = FlowKey::new(src, dst, ports, key.protocol(), key.service())
        .filter(|translated| translated.is_v4() == key.is_v4())
        .ok_or(bad("pair of addresses"))?;
    // No port where none is translated.
    let fits = match key.protocol() {
        number if protocol::is_icmp(number) => ports.0 == ports.1,
        number if has_ports(number) => true,
        _ => ports == (0, 0),
    };
    if !fits {
        return Err(bad("pair of ports"));
    }
    Ok(Translation { connection, translated })
}
