//! Merged state as bytes, in network order.
//!
//! ```text
//! replica: instance 4 | incarnation 8
//! stamp:   time 8 | count 4 | replica
//! counter: parts 4 | for each: replica, counted 8 | retired 4 | for each: first replica, last incarnation 8
//! gauge:   up counter | down counter
//! average: sum counter | count counter
//! distinct: registers 1,024
//! ```

use super::{Average, Counter, Distinct, Gauge, Life, Lives, Replica, Stamp};
use crate::time::Nanos;
use crate::wire::{Reader, WireError, Writer};

/// Replicas of one counter that are taken in, at most.
///
/// There is one for each instance, and those that have ended are taken over. So large that 30
/// counters fit in a chunk.
pub const REPLICAS_MAX: usize = 1024;

/// Lives that have ended of one counter that are taken in, at most; those of an instance that
/// follow each other are one.
pub const LIVES_MAX: usize = 512;

impl Replica {
    /// Appends who it is.
    pub fn put(self, out: &mut Writer) {
        out.u32(self.instance);
        out.u64(self.incarnation);
    }

    /// Takes a replica off the front of bytes.
    ///
    /// # Errors
    /// When they are cut off.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { instance: reader.u32()?, incarnation: reader.u64()? })
    }
}

impl Stamp {
    /// Appends the stamp.
    pub fn put(self, out: &mut Writer) {
        out.u64(self.time.0);
        out.u32(self.count);
        self.replica.put(out);
    }

    /// Takes a stamp off the front of bytes.
    ///
    /// # Errors
    /// When they are cut off.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (time, count) = (Nanos(reader.u64()?), reader.u32()?);
        Ok(Self { time, count, replica: Replica::take(reader)? })
    }
}

impl Counter {
    /// Whether it would be taken in: it has no more than [`REPLICAS_MAX`] replicas and
    /// [`LIVES_MAX`] lives. Who joins what others have sent must see to this, or copies grow
    /// without bound.
    pub fn fits(&self) -> bool {
        self.parts().len() <= REPLICAS_MAX && self.retired().iter().len() <= LIVES_MAX
    }

    /// Appends the counter.
    pub fn put(&self, out: &mut Writer) {
        out.list(self.parts(), |out, (replica, counted)| {
            replica.put(out);
            out.u64(counted);
        });
        out.list(self.retired().iter(), |out, life| {
            life.first().put(out);
            out.u64(life.last());
        });
    }

    /// Takes a counter off the front of bytes.
    ///
    /// # Errors
    /// When it has more than [`REPLICAS_MAX`] replicas or [`LIVES_MAX`] lives, or not in the order
    /// that they are written in, so that there is one form only.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let parts = reader
            .list("replicas", REPLICAS_MAX, |reader| Ok((Replica::take(reader)?, reader.u64()?)))?;
        let lives = reader.list("lives that have ended", LIVES_MAX, take_life)?;
        let mut retired = Lives::default();
        retired.extend(lives.iter().copied());
        let in_order = parts.is_sorted_by(|one, other| one.0 < other.0) && retired.iter().eq(lives);
        if !in_order || parts.iter().any(|(replica, _)| retired.has(*replica)) {
            return Err(WireError::BadField { what: "counter" });
        }
        Ok(Self::from_parts(parts, retired))
    }
}

fn take_life(reader: &mut Reader<'_>) -> Result<Life, WireError> {
    let (Replica { instance, incarnation }, last) = (Replica::take(reader)?, reader.u64()?);
    Life::new(instance, incarnation, last).ok_or(WireError::BadField { what: "life" })
}

impl Gauge {
    /// Whether it would be taken in; see [`Counter::fits`].
    pub fn fits(&self) -> bool {
        self.up.fits() && self.down.fits()
    }

    /// Appends the gauge.
    pub fn put(&self, out: &mut Writer) {
        self.up.put(out);
        self.down.put(out);
    }

    /// Takes a gauge off the front of bytes.
    ///
    /// # Errors
    /// As those of [`Counter::take`].
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { up: Counter::take(reader)?, down: Counter::take(reader)? })
    }
}

impl Average {
    /// Appends the average.
    pub fn put(&self, out: &mut Writer) {
        self.sum.put(out);
        self.count.put(out);
    }

    /// Takes an average off the front of bytes.
    ///
    /// # Errors
    /// As those of [`Counter::take`].
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { sum: Counter::take(reader)?, count: Counter::take(reader)? })
    }
}

impl Distinct {
    /// Appends the estimate.
    pub fn put(&self, out: &mut Writer) {
        out.raw(self.registers());
    }

    /// Takes an estimate off the front of bytes.
    ///
    /// # Errors
    /// When they are cut off, or a register has a value that it can not have.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bad = WireError::BadField { what: "number of different things" };
        Self::from_registers(&reader.array()?).ok_or(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(instance: u32) -> Replica {
        Replica { instance, incarnation: 7 }
    }

    #[test]
    fn a_counter_has_one_form() {
        let mut counter = Counter::default();
        (1..4).for_each(|instance| counter.add(replica(instance), u64::from(instance)));
        counter.take_over(Life::of_one(replica(3)), replica(1));
        let bytes = Writer::bytes_of(|out| counter.put(out));
        assert_eq!(Reader::whole(&bytes, Counter::take), Ok(counter));
        let mut swapped = bytes.clone();
        swapped.copy_within(4..24, 24);
        swapped[4..24].copy_from_slice(&bytes[24..44]);
        let bad = WireError::BadField { what: "counter" };
        assert_eq!(Reader::whole(&swapped, Counter::take), Err(bad));
    }

    #[test]
    fn thirty_of_the_largest_counters_fit_in_a_chunk_and_a_larger_one_is_refused() {
        let replicas = |from: usize, count| (from..from + count).map(|n| replica(n as u32));
        let parts = replicas(0, REPLICAS_MAX).map(|replica| (replica, u64::MAX));
        let mut retired = Lives::default();
        retired.extend(replicas(REPLICAS_MAX, LIVES_MAX).map(Life::of_one));
        let mut counter = Counter::from_parts(parts, retired);
        let bytes = Writer::bytes_of(|out| counter.put(out));
        assert!(counter.fits() && 30 * bytes.len() < crate::chunk::BODY_MAX, "{}", bytes.len());
        assert!(Reader::whole(&bytes, Counter::take).is_ok());
        counter.add(replica(u32::MAX), 1);
        let bytes = Writer::bytes_of(|out| counter.put(out));
        assert!(!counter.fits() && Reader::whole(&bytes, Counter::take).is_err());
    }
}
