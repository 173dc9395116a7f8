//! The writing half of a connection: small pieces by one gathered copy, large slices by `sendfile`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use io_uring::opcode;
use io_uring::types::Fd;

use super::Socket;
use crate::buffer::Slice;
use crate::op::{CANCEL, Operation};
use crate::transfer::SendPiece;

/// Pieces of one system call: the kernel's UIO_MAXIOV.
const PIECES_MAX: usize = 1024;

/// Bytes that one connection sends by `sendfile` before others have their turn.
const SENDFILE_TURN_BYTES: usize = 256 << 10;

/// Lets one writer in at a time, in the order they came.
#[derive(Default)]
pub(super) struct Turnstile {
    busy: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// The right to write. Dropped before `finish`, it shuts the connection down: the stream is cut in two.
struct WriteTurn<'a> {
    socket: &'a Socket,
    finished: bool,
}

impl WriteTurn<'_> {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        let turnstile = &self.socket.connection.turnstile;
        turnstile.busy.set(false);
        if !self.finished {
            self.socket.close();
        }
        // Everyone looks again: the first of them may have been dropped.
        let waiting = std::mem::take(&mut *turnstile.waiting.borrow_mut());
        for waker in waiting {
            waker.wake();
        }
    }
}

/// What the kernel reads during a gathered send.
struct Gathered {
    _descriptor: Rc<OwnedFd>,
    pieces: Vec<SendPiece>,
    vectors: Vec<libc::iovec>,
    /// Made when more than one piece is left.
    header: Option<Box<libc::msghdr>>,
    /// The first piece that is not sent whole, and how much of it is.
    piece: usize,
    position: usize,
}

impl Gathered {
    fn new(descriptor: Rc<OwnedFd>, pieces: Vec<SendPiece>) -> Self {
        let vectors = Vec::new();
        let mut gathered =
            Self { _descriptor: descriptor, pieces, vectors, header: None, piece: 0, position: 0 };
        gathered.advance(0);
        gathered
    }

    fn is_sent(&self) -> bool {
        self.piece == self.pieces.len()
    }

    /// Moves on by `sent` bytes, and past empty pieces.
    fn advance(&mut self, sent: usize) {
        self.position += sent;
        while let Some(piece) = self.pieces.get(self.piece).filter(|piece| self.position >= piece.len()) {
            self.position -= piece.len();
            self.piece += 1;
        }
    }

    /// Describes what is left to the kernel.
    fn prepare(&mut self) -> *const libc::msghdr {
        self.vectors.clear();
        let mut position = self.position;
        for piece in self.pieces[self.piece..].iter().take(PIECES_MAX) {
            let rest = &piece[position..];
            position = 0;
            self.vectors.push(libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() });
        }
        // SAFETY: a msghdr of zeros is valid: no name, no vectors, no control data.
        let header = self.header.get_or_insert_with(|| Box::new(unsafe { std::mem::zeroed() }));
        header.msg_iov = self.vectors.as_mut_ptr();
        header.msg_iovlen = self.vectors.len();
        &raw const **header
    }
}

impl Socket {
    /// Sends all pieces in order, by copy.
    pub async fn send(&self, pieces: Vec<SendPiece>) -> io::Result<()> {
        self.transmit(pieces, usize::MAX).await
    }

    /// Sends a slice, by `sendfile` if [`Slice::file_range`] allows it, else by copy.
    pub async fn sendfile(&self, slice: Slice) -> io::Result<()> {
        self.transmit(vec![slice.into()], 0).await
    }

    /// Sends all pieces in order: slices of at least `sendfile_bytes_min` bytes by `sendfile` where that is
    /// possible, everything between them by gathered copies. Nothing of another call comes between. If the
    /// future is dropped before its end, the connection is closed.
    pub async fn transmit(&self, pieces: Vec<SendPiece>, sendfile_bytes_min: usize) -> io::Result<()> {
        let turn = self.write_turn().await;
        let result = self.transmit_all(pieces, sendfile_bytes_min).await;
        if result.is_ok() {
            turn.finish();
        }
        result
    }

    async fn transmit_all(&self, pieces: Vec<SendPiece>, sendfile_bytes_min: usize) -> io::Result<()> {
        self.connection.release_pins();
        let by_file = |piece: &SendPiece| match piece {
            SendPiece::Slice(slice) => slice.len() >= sendfile_bytes_min && slice.file_range().is_some(),
            SendPiece::Bytes(_) => false,
        };
        if !pieces.iter().any(by_file) {
            return self.send_all(pieces, 0).await;
        }
        let mut copied = Vec::new();
        for piece in pieces {
            match piece {
                SendPiece::Slice(slice) if by_file(&SendPiece::Slice(slice.clone())) => {
                    // More follows at once: a header does not leave in a packet of its own.
                    self.send_all(std::mem::take(&mut copied), libc::MSG_MORE).await?;
                    self.send_by_file(slice).await?;
                }
                piece => copied.push(piece),
            }
        }
        self.send_all(copied, 0).await
    }

    async fn write_turn(&self) -> WriteTurn<'_> {
        let turnstile = &self.connection.turnstile;
        poll_fn(|context| {
            if !turnstile.busy.replace(true) {
                return Poll::Ready(());
            }
            turnstile.waiting.borrow_mut().push_back(context.waker().clone());
            Poll::Pending
        })
        .await;
        WriteTurn { socket: self, finished: false }
    }

    async fn send_all(&self, pieces: Vec<SendPiece>, more: libc::c_int) -> io::Result<()> {
        let mut gathered = Gathered::new(self.connection.descriptor.clone(), pieces);
        while !gathered.is_sent() {
            if self.connection.closed.get() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | more;
            let entry = match &gathered.pieces[gathered.piece..] {
                [piece] => {
                    let rest = &piece[gathered.position..];
                    let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                    opcode::Send::new(Fd(self.raw()), rest.as_ptr(), length).flags(flags).build()
                }
                _ => {
                    let header = gathered.prepare();
                    opcode::SendMsg::new(Fd(self.raw()), header).flags(flags as u32).build()
                }
            };
            // SAFETY: the pieces' memory does not move (`Buffer`), the vectors and the header are on the heap;
            // the operation owns them all and a share of the descriptor.
            let sending = unsafe { Operation::start(&self.connection.ring, entry, gathered, CANCEL) };
            let (completion, returned) = sending.await;
            gathered = returned;
            match completion.to_result() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.connection.pins.add_written(sent);
                    gathered.advance(sent);
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    self.poll(libc::POLLOUT).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn send_by_file(&self, slice: Slice) -> io::Result<()> {
        let (Some(chunk), Some((descriptor, start))) = (slice.chunk(), slice.file_range()) else {
            // Too many ghosts since we looked: by copy then.
            return self.send_all(vec![slice.clone().into()], 0).await;
        };
        let mut sent = 0;
        let mut sent_in_turn = 0;
        while sent < slice.len() {
            if self.connection.closed.get() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            // Before the call: the pages may be on their way when it returns.
            let pin = chunk.pin();
            let mut offset = (start + sent as u64) as libc::off64_t;
            let length = (slice.len() - sent).min(SENDFILE_TURN_BYTES - sent_in_turn);
            // SAFETY: both descriptors are open, and `offset` lives over the call. The socket is in
            // non-blocking mode and the pages are in memory (the slice lives), so the call does not wait.
            let result =
                unsafe { libc::sendfile64(self.raw(), descriptor.as_raw_fd(), &raw mut offset, length) };
            if result > 0 {
                let written = result as usize;
                self.connection.pins.add_written(written);
                if !self.connection.pins.extend_last(chunk) {
                    self.connection.hold(pin);
                }
                sent += written;
                sent_in_turn += written;
                if sent_in_turn >= SENDFILE_TURN_BYTES && sent < slice.len() {
                    sent_in_turn = 0;
                    self.connection.ring.yield_now().await;
                }
                continue;
            }
            if result == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => {
                    sent_in_turn = 0;
                    self.poll(libc::POLLOUT).await?;
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }
}
