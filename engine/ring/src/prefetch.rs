//! A hint to the processor of what is looked at soon.

use crate::copy::CACHE_LINE_BYTES;

/// Has the processor fetch what `value` is made of (not what it points to), all of it at a time, while whatever
/// comes next is done. Of use where the value is most likely in no cache, and something else is to be done before it is
/// looked at.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for at in (0..size_of_val(value)).step_by(CACHE_LINE_BYTES) {
        prefetch_line(start.wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint reads nothing and cannot fault, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// Elsewhere the compiler knows no such hint yet.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_at: *const u8) {}
