//! State that several instances keep of the same thing, and how copies of it become one.
//!
//! Every merge here is a join: idempotent, commutative and associative. So copies may be made in
//! any direction, any number of times and in any order, and all end with the same value. OpenNF's
//! own examples, such as adding two counters up (section 4.2), are not: what is copied there and
//! back again is counted twice.

mod clock;
mod codec;
mod counter;
mod distinct;
mod extreme;
mod lives;
mod register;
mod rule;
mod set;
#[cfg(test)]
mod tests;

pub use clock::{Clock, Stamp};
pub use codec::{LIVES_MAX, REPLICAS_MAX};
pub use counter::{Average, Counter, Gauge};
pub use distinct::{Distinct, REGISTERS};
pub use extreme::{First, Last};
pub use lives::{Life, Lives};
pub use register::Register;
pub use rule::MergeRule;
pub use set::{Set, Touched};

/// State that can take in what another instance knows of the same thing.
pub trait Join {
    /// Takes in another copy. Idempotent, commutative and associative.
    fn join(&mut self, other: &Self);
}

/// Who has updated state: an instance, and which of its lives, so that one that starts again with
/// nothing does not take back what it has counted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The instance.
    pub instance: u32,
    /// Drawn at random when it starts; the lives of one process may be numbered from there.
    pub incarnation: u64,
}
