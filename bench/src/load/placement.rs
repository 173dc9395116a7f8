//! Which partitions live on the core of the target that serves a connection.
//!
//! Nobody says so, but a target with a thread for each core shows it: while one connection produces to one
//! partition, and nothing else goes on, one thread is busy if both live on its core, and two are if not.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::BenchError;
use crate::measure::process;
use crate::protocol::admin::Admin;
use crate::protocol::first_acks::{OneRecord, connect};

/// Requests by which a pair is looked at: some milliseconds.
const REQUESTS: usize = 40;
/// A thread with less than this share of the busiest one's time has nothing to do with a request.
const BYSTANDER_SHARE: f64 = 0.125;

/// A connection to a leader, and one of its partitions that lives on the connection's core of the target, or on
/// another one if that `is_wrong`. The partitions are tried in turn from `first` on, so that all get their part.
pub fn place(
    admin: &Admin,
    (leader, partitions): (SocketAddr, &[i32]),
    (topic, pid): (&str, u32),
    first: usize,
    is_wrong: bool,
) -> Result<(TcpStream, i32), BenchError> {
    let mut stream = connect(leader)?;
    for nth in 0..partitions.len() {
        let partition = partitions[(first + nth) % partitions.len()];
        let mut request = OneRecord::new(admin, topic, &[partition])?;
        // The first one may wake what has slept for long.
        request.send(&mut stream)?;
        let before = process::thread_times(pid);
        for _ in 0..REQUESTS {
            request.send(&mut stream)?;
        }
        let busy = process::thread_times(pid)
            .into_iter()
            .map(|(thread, now)| now.saturating_sub(before.get(&thread).copied().unwrap_or_default()));
        if is_on_another_core(busy.collect()) == is_wrong {
            // Whoever goes on with the connection has deadlines of its own.
            stream
                .set_read_timeout(None)
                .map_err(|source| BenchError::io("take a deadline from a connection", source))?;
            return Ok((stream, partition));
        }
    }
    let where_ = if is_wrong { "another core than" } else { "the core of" };
    Err(BenchError::Refused(format!("--wrong-core: no partition lives on {where_} connection {first}")))
}

/// Whether a second thread had its part of the work.
fn is_on_another_core(mut busy: Vec<Duration>) -> bool {
    busy.sort_unstable_by(|one, other| other.cmp(one));
    match busy[..] {
        [busiest, second, ..] => second.as_secs_f64() > busiest.as_secs_f64() * BYSTANDER_SHARE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_only_looks_at_its_clock_is_no_second_one() {
        let busy = |micros: &[u64]| micros.iter().copied().map(Duration::from_micros).collect();
        assert!(!is_on_another_core(busy(&[3, 600, 0])));
        assert!(is_on_another_core(busy(&[250, 600, 0])));
        assert!(!is_on_another_core(busy(&[600])));
    }
}
