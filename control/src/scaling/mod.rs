//! Scaling: when, how many, and the ordered steps from what runs to what is wanted.
//!
//! Nothing here does I/O or reads a clock. [`decide`] says when, [`plan`] says which buckets go
//! where, [`machine`] says the next step given what runs.

pub mod decide;
pub mod load;
pub mod machine;
pub mod operation;
pub mod plan;
pub mod policy;
mod progress;
