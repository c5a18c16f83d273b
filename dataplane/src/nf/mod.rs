//! Network functions: what processes flows beyond routing them.

pub mod ids;
