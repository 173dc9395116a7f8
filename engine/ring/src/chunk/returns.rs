//! A list of chunks that other threads give back and the owner takes whole. No lock.

use std::sync::atomic::{AtomicU32, Ordering};

/// The end of the list.
const NOTHING: u32 = u32::MAX;

/// Chunks by number, each in the list at most once.
///
/// Pushed by any thread, taken all at once by the owner: no entry is ever removed alone, so the list has no
/// ABA problem.
#[derive(Debug)]
pub(super) struct Returns {
    head: AtomicU32,
    /// Behind each chunk of the list, the next one.
    next: Box<[AtomicU32]>,
}

impl Returns {
    pub(super) fn new(chunks: usize) -> Self {
        Self { head: AtomicU32::new(NOTHING), next: (0..chunks).map(|_| AtomicU32::new(NOTHING)).collect() }
    }

    /// What this thread did with the chunk before happens before what the owner does with it.
    pub(super) fn push(&self, chunk: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[chunk as usize].store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, chunk, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// All chunks of the list. By the owner only.
    pub(super) fn take(&self, mut each: impl FnMut(u32)) {
        if self.head.load(Ordering::Relaxed) == NOTHING {
            return;
        }
        let mut chunk = self.head.swap(NOTHING, Ordering::Acquire);
        while chunk != NOTHING {
            // Read before the chunk is given away: it may be pushed again at once.
            let next = self.next[chunk as usize].load(Ordering::Relaxed);
            each(chunk);
            chunk = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_give_back_is_taken_once() {
        let returns = Returns::new(1000);
        let mut seen = vec![0; 1000];
        std::thread::scope(|scope| {
            for part in 0..4 {
                let returns = &returns;
                scope.spawn(move || (part * 250..(part + 1) * 250).for_each(|chunk| returns.push(chunk)));
            }
            let mut count = 0;
            while count < 1000 {
                returns.take(|chunk| {
                    seen[chunk as usize] += 1;
                    count += 1;
                });
                std::hint::spin_loop();
            }
        });
        assert!(seen.iter().all(|times| *times == 1));
    }
}
