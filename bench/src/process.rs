//! What a process has cost so far, from /proc.

use std::fs;

use crate::load::BenchError;

/// The unit of CPU times in /proc/PID/stat. Linux shows user space 100 a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds that a process has used since its start, in user and in system mode, with all of its
/// threads, those that ended and the kernel's io workers included. Resolution: 10 ms.
pub fn cpu_seconds(pid: u32) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let stat =
        fs::read_to_string(&path).map_err(|source| BenchError::io("read the broker's CPU time", source))?;
    parse(&stat).ok_or_else(|| BenchError::Broker(format!("{path} is not as proc(5) describes it")))
}

/// The fields utime (14) and stime (15) of proc(5). The second field, the command, may contain anything, so
/// counting starts behind its closing bracket.
fn parse(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_and_spaces_is_passed_over() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(parse(stat), Some(3.0));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_process_has_a_cpu_time() {
        assert!(cpu_seconds(std::process::id()).expect("/proc is there") >= 0.0);
    }
}
