//! The cores that threads of this process may run on.

use std::collections::BTreeSet;
use std::fmt;

use rustix::io;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A set of cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores(BTreeSet<u16>);

impl Cores {
    /// Those that the kernel lets the calling thread run on; cores above 1,023 are not seen.
    ///
    /// # Errors
    ///
    /// What `sched_getaffinity` says.
    pub fn allowed() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        let all = 0..u16::try_from(CpuSet::MAX_CPU).unwrap_or(u16::MAX);
        Ok(all.filter(|core| set.is_set(usize::from(*core))).collect())
    }

    /// Whether the core is among them.
    pub fn contains(&self, core: u16) -> bool {
        self.0.contains(&core)
    }
}

impl FromIterator<u16> for Cores {
    fn from_iter<I: IntoIterator<Item = u16>>(cores: I) -> Self {
        Self(cores.into_iter().collect())
    }
}

impl fmt::Display for Cores {
    /// As in `0-3,8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cores = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cores.next() {
            let mut last = first;
            while let Some(next) = cores.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// Keeps the calling thread on one core.
///
/// # Errors
///
/// What `sched_setaffinity` says: `EINVAL` when the thread may not run there.
pub(crate) fn pin_to(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Errno::INVAL);
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_print_as_ranges() {
        let print = |cores: &[u16]| cores.iter().copied().collect::<Cores>().to_string();
        assert_eq!(print(&[]), "");
        assert_eq!(print(&[3]), "3");
        assert_eq!(print(&[8, 0, 1, 2, 3]), "0-3,8");
        assert_eq!(print(&[0, 2, 4, 5]), "0,2,4-5");
    }

    #[test]
    fn a_thread_can_be_pinned_to_each_core_it_may_use_and_to_no_other() {
        let allowed = Cores::allowed().expect("affinity");
        for core in 0..1025_u16 {
            std::thread::scope(|scope| {
                let pinned = scope.spawn(|| pin_to(core.into()).map(|()| Cores::allowed())).join();
                match pinned.expect("no panic") {
                    Ok(now) => assert_eq!(now, Ok([core].into_iter().collect())),
                    Err(_) => assert!(!allowed.contains(core)),
                }
            });
        }
    }
}
