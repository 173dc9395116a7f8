//! Copying bytes that are not looked at again soon.

/// What comes into a processor's caches together, and is written past them together, in bytes.
pub(crate) const CACHE_LINE_BYTES: usize = 64;

/// Fewer bytes than this are not worth the way past the caches.
pub(crate) const PAST_CACHES_BYTES_MIN: usize = 2048;

/// Copies `from` to `to` past the processor's caches, where it can: memory that is in none of them is not fetched to be
/// written over, and what is in them stays there. Whoever reads it next fetches it from memory.
///
/// # Panics
/// If their lengths differ.
pub(crate) fn copy_past_caches(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "as many bytes as there is room for");
    // Whole lines only: part of one is cheaper in the caches.
    let head = to.as_ptr().align_offset(CACHE_LINE_BYTES).min(to.len());
    let whole = (to.len() - head) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
    to[..head].copy_from_slice(&from[..head]);
    lines::copy(&mut to[head..head + whole], &from[head..head + whole]);
    to[head + whole..].copy_from_slice(&from[head + whole..]);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod lines {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    use super::CACHE_LINE_BYTES;

    /// Copies whole lines; `to` begins with one.
    pub(super) fn copy(to: &mut [u8], from: &[u8]) {
        let (to, _) = to.as_chunks_mut::<CACHE_LINE_BYTES>();
        let (from, _) = from.as_chunks::<CACHE_LINE_BYTES>();
        for (to, from) in to.iter_mut().zip(from) {
            let (to, from) = (to.as_mut_ptr().cast::<__m128i>(), from.as_ptr().cast::<__m128i>());
            assert!(to.is_aligned(), "a line begins on its boundary");
            // SAFETY: both lead to a whole line, of which these are the four quarters, borrowed for this; what is
            // written is aligned, what is read need not be; and every x86-64 has these instructions.
            unsafe {
                let quarters = [0, 1, 2, 3].map(|quarter| _mm_loadu_si128(from.add(quarter)));
                for (quarter, bytes) in quarters.into_iter().enumerate() {
                    _mm_stream_si128(to.add(quarter), bytes);
                }
            }
        }
        // SAFETY: as above. Such stores are in no order with others: whoever is told of these bytes next has to see them.
        unsafe { _mm_sfence() }
    }
}

/// Elsewhere there is no such way that the compiler knows.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod lines {
    pub(super) fn copy(to: &mut [u8], from: &[u8]) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_what_was_sent_and_nothing_beside_it() {
        let sent: Vec<u8> = (0..1000_u32).map(|number| number as u8 | 1).collect();
        for to_shift in 0..65 {
            for length in [0, 1, 63, 64, 65, 200, 900] {
                let from = &sent[to_shift % 17..][..length];
                let mut to = vec![0; 1200];
                copy_past_caches(&mut to[to_shift..to_shift + length], from);
                assert_eq!(&to[to_shift..to_shift + length], from);
                assert!(to[..to_shift].iter().chain(&to[to_shift + length..]).all(|byte| *byte == 0));
            }
        }
    }
}
