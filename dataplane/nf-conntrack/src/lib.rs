//! The southbound API of network functions for the connection tracking of the Linux kernel.
//!
//! The kernel of a network namespace tracks and translates connections by itself, unmodified. This
//! agent, which runs in that namespace, takes its entries out and puts them in, over netlink
//! (ctnetlink), so that `weir.nf.v1` can move them to the kernel of another namespace or host. It
//! sees no packets: whoever moves connections has to hold their packets in front of the kernel.
#![forbid(unsafe_code)]

mod body;
mod carried;
mod entry;
mod error;

mod flows;
mod function;
mod kernel;
mod netlink;
mod protocol_state;
mod schema;
mod statistics;
mod translation;
mod tuple;

pub use error::Error;
pub use function::{Bounds, Conntrack};
pub use schema::KINDS;

/// Properties are tried with cases that can be given back.
#[cfg(test)]
fn seeded() -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { rng_seed: RngSeed::Fixed(weir_seed::seed()), ..Config::default() }
}
