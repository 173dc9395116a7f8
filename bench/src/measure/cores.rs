//! Pinning of threads to cores.

use crate::error::BenchError;

/// The set that the system is told has room for so many.
const CORES_MAX: usize = 1024;

/// Keeps the calling thread, and what it starts, on these cores.
pub fn pin(cores: &[usize]) -> Result<(), BenchError> {
    if let Some(core) = cores.iter().find(|core| **core >= CORES_MAX) {
        return Err(BenchError::Refused(format!("there is no core {core} here")));
    }
    affinity::set_thread_affinity(cores)
        .map_err(|error| BenchError::Refused(format!("cores {cores:?} are not ours to use: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<usize> {
        affinity::get_thread_affinity().expect("a thread has cores")
    }

    #[test]
    fn a_thread_stays_where_it_is_pinned() {
        let first = allowed()[0];
        std::thread::spawn(move || {
            pin(&[first]).expect("it may run there");
            assert_eq!(allowed(), [first]);
        })
        .join()
        .expect("no panic");
        assert!(pin(&[1 << 20]).is_err());
    }
}
