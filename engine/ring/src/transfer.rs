//! Memory that an operation may own while the kernel reads or writes it.

use std::ops::Deref;

use bytes::Bytes;

use crate::buffer::{AlignedBuffer, Slice};

/// Memory that the kernel fills.
///
/// # Safety
/// `pointer` leads to `capacity` bytes of heap memory, which stays where it is when the value is moved and
/// until the value is dropped; nobody else reads or writes it meanwhile.
pub unsafe trait BufferMut: 'static {
    /// Where the memory begins.
    fn pointer(&mut self) -> *mut u8;
    /// How many bytes may be written there.
    fn capacity(&self) -> usize;
    /// How many of them are initialised, from the start.
    fn initialised(&self) -> usize;
    /// Tells the buffer that its first `length` bytes are initialised.
    ///
    /// # Safety
    /// They are, and `length` is at most the capacity.
    unsafe fn set_initialised(&mut self, length: usize);
}

// SAFETY: a vector's memory is on the heap and its own. Its length grows to what was initialised.
unsafe impl BufferMut for Vec<u8> {
    fn pointer(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        Vec::capacity(self)
    }
    fn initialised(&self) -> usize {
        self.len()
    }
    unsafe fn set_initialised(&mut self, length: usize) {
        if length > self.len() {
            // SAFETY: the caller's promise.
            unsafe { self.set_len(length) };
        }
    }
}

// SAFETY: the buffer's memory is on the heap and its own, and all of it is initialised.
unsafe impl BufferMut for AlignedBuffer {
    fn pointer(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.len()
    }
    fn initialised(&self) -> usize {
        self.len()
    }
    unsafe fn set_initialised(&mut self, _length: usize) {}
}

/// Memory that the kernel reads.
///
/// # Safety
/// `bytes` leads to memory that stays where it is when the value is moved and until it is dropped, and that
/// nobody writes meanwhile.
pub unsafe trait Buffer: 'static {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

// SAFETY: published bytes never change while a slice of them lives, and the slice keeps them alive.
unsafe impl Buffer for Slice {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: heap memory of its own.
unsafe impl Buffer for AlignedBuffer {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: heap memory of its own.
unsafe impl Buffer for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: shared immutable memory behind a pointer.
unsafe impl Buffer for Bytes {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// One piece of a gathered send.
#[derive(Debug, Clone)]
pub enum SendPiece {
    /// Headers and whatever else was built for the occasion.
    Bytes(Bytes),
    /// A range of the cache.
    Slice(Slice),
}

impl Deref for SendPiece {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Slice(slice) => slice,
        }
    }
}

// SAFETY: as for its two kinds.
unsafe impl Buffer for SendPiece {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl From<Bytes> for SendPiece {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for SendPiece {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Slice> for SendPiece {
    fn from(slice: Slice) -> Self {
        Self::Slice(slice)
    }
}
