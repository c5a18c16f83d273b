//! A network function served over a socket: what arrives, what a peer that hangs or dies comes to,
//! and whether the conformance kit finds each rule broken that it knows.
#![forbid(unsafe_code)]

mod conformance;
mod counting;
mod faulty;
mod interrupted;
mod liars;
mod limits;
mod python;
mod running;
mod transfer;
