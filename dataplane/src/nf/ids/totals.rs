//! Figures over all flows, by who has counted them.

use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::merge::{Counter, Join, Life, Lives, Replica};
use weir_state_transfer::southbound::StateKind;
use weir_state_transfer::wire::Writer;

use crate::nf::figures::Figures;
use crate::nf::schema::IDS_TOTALS;

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

        impl Figures for Totals {
            const KIND: StateKind = IDS_TOTALS;

            fn read(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
                Self::decode(schema, bytes)
            }

            fn fits(&self) -> bool {
                [$(&self.$name),*].into_iter().all(Counter::fits)
            }
        }

        impl Totals {
            /// Takes over what a life that has ended has counted; see [`Counter::take_over`].
            pub fn take_over(&mut self, ended: Life, heir: Replica) {
                $(self.$name.take_over(ended, heir);)*
            }

            /// Each figure with its name.
            pub(super) fn named(&self) -> Vec<(String, u64)> {
                vec![$((stringify!($name).to_owned(), self.$name.value()),)*]
            }

            /// The totals as bytes.
            pub fn encode(&self) -> Vec<u8> {
                Writer::bytes_of(|out| {
                    $(self.$name.put(out);)*
                })
            }

            /// The totals that bytes of a schema are.
            ///
            /// # Errors
            /// What is wrong with them.
            pub fn decode(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
                decode_body(schema, IDS_TOTALS.schema, bytes, |reader| {
                    Ok(Self { $($name: Counter::take(reader)?,)* })
                })
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
    /// Connections whose streams were given up, as there was no memory for them.
    without_memory,
    /// Records that there was no room for.
    lost_records,
}

impl Totals {
    /// Lives whose counts have been taken over.
    pub(super) fn retired(&self) -> &Lives {
        self.packets.retired()
    }
}
