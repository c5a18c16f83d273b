//! Figures over all flows, by who has counted them: state of all flows that a function declares.

/// Declares totals of a kind of state: each is counted, joined and carried alike.
macro_rules! totals {
    ($state:path; $($(#[$doc:meta])* $name:ident,)*) => {
        /// Figures over all flows.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: weir_state_transfer::merge::Counter,)*
        }

        impl weir_state_transfer::merge::Join for Totals {
            fn join(&mut self, other: &Self) {
                $(self.$name.join(&other.$name);)*
            }
        }

        impl $crate::nf::figures::Figures for Totals {
            const KIND: weir_state_transfer::southbound::StateKind = $state;

            fn read(
                schema: weir_state_transfer::chunk::Schema,
                bytes: &[u8],
            ) -> Result<Self, weir_state_transfer::chunk::BodyError> {
                Self::decode(schema, bytes)
            }

            fn fits(&self) -> bool {
                [$(&self.$name),*].into_iter().all(weir_state_transfer::merge::Counter::fits)
            }

            fn retires(&self, life: weir_state_transfer::merge::Life) -> bool {
                [$(&self.$name),*].into_iter().any(|counter| counter.retires(life))
            }
        }

        impl Totals {
            /// Each figure with its name.
            pub(super) fn named(&self) -> Vec<(String, u64)> {
                vec![$((stringify!($name).to_owned(), self.$name.value()),)*]
            }

            /// Takes over what a life that has ended has counted; see
            /// [`Counter::take_over`](weir_state_transfer::merge::Counter::take_over).
            pub fn take_over(
                &mut self,
                ended: weir_state_transfer::merge::Life,
                heir: weir_state_transfer::merge::Replica,
            ) {
                $(self.$name.take_over(ended, heir);)*
            }

            /// The totals as bytes.
            pub fn encode(&self) -> Vec<u8> {
                weir_state_transfer::wire::Writer::bytes_of(|out| {
                    $(self.$name.put(out);)*
                })
            }

            /// The totals that bytes of a schema are.
            ///
            /// # Errors
            /// What is wrong with them.
            pub fn decode(
                schema: weir_state_transfer::chunk::Schema,
                bytes: &[u8],
            ) -> Result<Self, weir_state_transfer::chunk::BodyError> {
                weir_state_transfer::chunk::decode_body(schema, $state.schema, bytes, |reader| {
                    Ok(Self { $($name: weir_state_transfer::merge::Counter::take(reader)?,)* })
                })
            }
        }
    };
}

pub(super) use totals;
