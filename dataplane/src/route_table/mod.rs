//! The route table: longest-prefix match that readers never wait for.
//!
//! One writer changes single words in place. A lookup beside a change gives what was right before
//! it or what is right after it. The table of a family is divided by the first byte of the
//! address; each part has a generation that grows with its changes, so that a cached decision is
//! stale only when its own part has changed. Read the generation before looking up.

mod next_hops;
mod recycler;
mod table;
mod trie;
mod word;
mod writer;

pub use next_hops::{NEXT_HOPS_MAX, NextHop};
pub use table::{RouteLimits, RouteTable};
pub use writer::{RouteError, RouteWriter};

/// Bytes of an address that the root of its family's trie looks at.
pub(crate) const V4_ROOT_BYTES: usize = 3;
pub(crate) const V6_ROOT_BYTES: usize = 2;

#[cfg(test)]
mod tests;
