//! What the machine has: a configuration that asks for more is refused.

use std::{fs, io};

use crate::driver::Cores;

/// The machine that a configuration is for.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The cores that workers may be pinned to.
    pub cores: Cores,
    /// Its memory in bytes; `None` when it does not say.
    pub memory: Option<u64>,
    /// Memory that is free or can be made so, in bytes; `None` when it does not say.
    pub available: Option<u64>,
}

impl Machine {
    /// This one, as this process may use it.
    ///
    /// # Errors
    ///
    /// When the system does not say which cores the process may run on.
    pub fn this() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let (memory, available) = (bytes(&text, "MemTotal:"), bytes(&text, "MemAvailable:"));
        Ok(Self { cores: Cores::allowed()?, memory, available })
    }
}

/// A figure of `/proc/meminfo`, which counts in KiB (proc_meminfo(5)).
fn bytes(text: &str, label: &str) -> Option<u64> {
    let figure = text.lines().find_map(|line| line.strip_prefix(label))?;
    figure.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_meminfo_are_read_in_bytes() {
        let text = "MemTotal:        8052340 kB\nMemFree:  1 kB\nMemAvailable:    4000 kB\n";
        assert_eq!(bytes(text, "MemTotal:"), Some(8_052_340 * 1024));
        assert_eq!(bytes(text, "MemAvailable:"), Some(4_096_000));
        assert_eq!(bytes("MemTotal: lots\n", "MemTotal:"), None);
    }
}
