//! Benchmarks: one file a question. What several of them need is here.
#![forbid(unsafe_code)]

pub mod router;
