//! The CPU time that a process has taken.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `USER_HZ`: the unit of times in /proc on every architecture that Weir runs on (proc(5)).
const TICKS_A_SECOND: u64 = 100;

/// CPU time of all threads of a process, ended ones too, since it started, in steps of 10 ms.
///
/// # Errors
/// When it has ended.
pub fn of_process(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    read(&stat).with_context(|| format!("reading {stat}"))
}

/// User and system time of a line of `stat`.
fn read(stat: &str) -> Option<Duration> {
    // The name in parentheses may contain anything; fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1_000 / TICKS_A_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{LIMIT, until};

    #[test]
    fn a_line_of_stat_is_understood_whatever_the_name() {
        let line = "7 (a) b (c) R 1 7 7 0 -1 4194304 1 2 3 4 150 25 9 9 20 0 1 0 5 6 7";
        assert_eq!(read(line), Some(Duration::from_millis(1_750)));
    }

    #[test]
    fn work_shows_in_the_time_of_the_process() {
        let before = of_process(std::process::id()).unwrap();
        let mut sum = 0_u64;
        until("CPU time to pass", LIMIT, || {
            sum = (0..3_000_000_u64).fold(sum, |sum, n| sum.rotate_left(3) ^ n);
            let now = of_process(std::process::id()).unwrap();
            (now >= before + Duration::from_millis(20)).then_some(())
        })
        .unwrap();
    }
}
