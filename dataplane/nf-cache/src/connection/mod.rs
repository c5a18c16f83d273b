//! Client connections: their sockets, what they are doing, and the tasks that serve them.

mod activity;
pub(crate) mod repair;
mod socket;
mod task;

pub(crate) use activity::Activity;
pub(crate) use repair::Repaired;
pub(crate) use task::{Connection, over, serve};
