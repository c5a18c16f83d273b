//! What the tests share: a naive data plane, a fake of its API, and a sidecar in a thread.

pub(crate) mod fake;
pub(crate) mod gate;
pub(crate) mod model;
pub(crate) mod nf;
pub(crate) mod node;
pub(crate) mod peers;
mod policies;
mod shares;
pub(crate) mod source;
pub(crate) mod spoiling;
pub(crate) mod stalls;
pub(crate) mod state;
