//! How many different things were seen, in little memory.

use super::Join;

/// Registers: a power of two. With 1,024 the standard error is 3.25 %.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 10;

/// An estimate of how many different things were seen: HyperLogLog (Flajolet et al., 2007).
#[derive(Clone, PartialEq, Eq)]
pub struct Distinct {
    registers: Box<[u8; REGISTERS]>,
}

impl Distinct {
    /// Nothing was seen.
    pub fn new() -> Self {
        Self { registers: Box::new([0; REGISTERS]) }
    }

    /// Something with this hash was seen. All copies must hash alike, and every bit of the hash
    /// must be as good as random.
    pub fn see(&mut self, hash: u64) {
        let index = (hash >> (u64::BITS - INDEX_BITS)) as usize;
        let rest = hash << INDEX_BITS;
        let rank = (rest.leading_zeros() + 1).min(u64::BITS - INDEX_BITS + 1) as u8;
        let register = &mut self.registers[index];
        *register = (*register).max(rank);
    }

    /// How many different things that were.
    pub fn estimate(&self) -> f64 {
        let m = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|rank| 2f64.powi(-i32::from(*rank))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let empty = self.registers.iter().filter(|rank| **rank == 0).count();
        // Few things: count the registers that none of them has met.
        if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw }
    }

    /// The registers, to be carried to another instance.
    pub fn registers(&self) -> &[u8; REGISTERS] {
        &self.registers
    }

    /// The estimate with these registers, or `None` when one has a value that it can not have.
    pub fn from_registers(registers: &[u8; REGISTERS]) -> Option<Self> {
        let most = (u64::BITS - INDEX_BITS + 1) as u8;
        let valid = registers.iter().all(|rank| *rank <= most);
        valid.then(|| Self { registers: Box::new(*registers) })
    }
}

impl Default for Distinct {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Distinct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Distinct(about {:.0})", self.estimate())
    }
}

impl Join for Distinct {
    fn join(&mut self, other: &Self) {
        for (register, other) in self.registers.iter_mut().zip(other.registers.iter()) {
            *register = (*register).max(*other);
        }
    }
}
