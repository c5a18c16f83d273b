//! Figures over all flows, by who has counted them.

use weir_state_transfer::chunk::Schema;
use weir_state_transfer::merge::{Counter, Join, Replica};

use super::codec::{BodyError, Reader, Writer};

/// What encoded totals are.
pub const TOTALS_SCHEMA: Schema = Schema { kind: 0x1d03, revision: 1 };
/// Replicas of a counter at most.
const REPLICAS_MAX: usize = 4096;

/// Declares the totals: each is counted, joined and carried alike.
macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Figures over all flows.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Join for Totals {
            fn join(&mut self, other: &Self) {
                $(self.$name.join(&other.$name);)*
            }
        }

        impl Totals {
            /// The totals as bytes.
            pub fn encode(&self) -> Vec<u8> {
                let mut out = Writer::new(TOTALS_SCHEMA);
                $(encode_counter(&self.$name, &mut out);)*
                out.finish()
            }

            /// The totals that bytes are.
            ///
            /// # Errors
            /// What is wrong with them.
            pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
                let mut reader = Reader::new(bytes, TOTALS_SCHEMA)?;
                let totals = Self { $($name: decode_counter(&mut reader)?,)* };
                reader.finish()?;
                Ok(totals)
            }
        }
    };
}

totals! {
    /// Packets.
    packets,
    /// Bytes from the IP header on.
    ip_bytes,
    /// Packets that were fragments.
    fragments,
    /// ICMP errors about packets of connections.
    icmp_errors,
    /// Connections that have begun.
    connections,
    /// Connections that have ended.
    ended,
    /// HTTP transactions.
    transactions,
    /// Connections that did not come about.
    failed,
    /// Failed connections whose source there was no room to watch.
    unwatched,
    /// Records that there was no room for.
    lost_records,
}

pub(super) fn encode_counter(counter: &Counter, out: &mut Writer) {
    out.u32(counter.parts().len() as u32);
    for (replica, part) in counter.parts() {
        encode_replica(replica, out);
        out.u64(part);
    }
    out.u32(counter.retired().len() as u32);
    counter.retired().for_each(|replica| encode_replica(replica, out));
}

pub(super) fn decode_counter(reader: &mut Reader<'_>) -> Result<Counter, BodyError> {
    let count = reader.number("replicas", REPLICAS_MAX)?;
    let parts = (0..count).map(|_| Ok((decode_replica(reader)?, reader.u64()?)));
    let parts = parts.collect::<Result<Vec<_>, BodyError>>()?;
    let count = reader.number("replicas", REPLICAS_MAX)?;
    let retired = (0..count).map(|_| decode_replica(reader)).collect::<Result<Vec<_>, _>>()?;
    let in_order = parts.is_sorted_by(|one, two| one.0 < two.0);
    if !in_order || !retired.is_sorted_by(|one, two| one < two) {
        return Err(BodyError::BadField { what: "counter" });
    }
    Ok(Counter::from_parts(parts, retired))
}

fn encode_replica(replica: Replica, out: &mut Writer) {
    out.u32(replica.instance);
    out.u64(replica.incarnation);
}

fn decode_replica(reader: &mut Reader<'_>) -> Result<Replica, BodyError> {
    Ok(Replica { instance: reader.u32()?, incarnation: reader.u64()? })
}
