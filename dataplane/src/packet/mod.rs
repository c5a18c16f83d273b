//! Packets: their headers, what is read from them and what is changed in them.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod forward;
pub mod header;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod meta;
pub mod neighbour_discovery;
pub mod parse;
pub mod partial;
pub mod reason;
pub mod scope;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod strange;

pub use ethernet::MacAddr;
pub use meta::{Flags, Meta};
pub use parse::{Parsed, parse};
pub use reason::DropReason;
