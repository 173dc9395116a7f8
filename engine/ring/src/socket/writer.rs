//! The writing half of a connection: small pieces by one gathered copy, large slices by `sendfile`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use bytes::Buf as _;
use io_uring::opcode;
use io_uring::types::Fd;

use super::Socket;
use super::bulk::{BulkTurn, SHORT_TURN_BYTES};
use crate::buffer::Slice;
use crate::gate::TurnGuard;
use crate::op::{CANCEL, Operation};
use crate::transfer::SendPiece;

/// Pieces of one system call: the kernel's UIO_MAXIOV.
const PIECES_MAX: usize = 1024;

/// From so many bytes on a copy has to wait for its turn among all connections of the core.
const BULK_BYTES_MIN: usize = 64 << 10;

/// The right to write. Dropped before `finish`, it shuts the connection down: the stream is cut in two.
struct WriteTurn<'a> {
    socket: &'a Socket,
    finished: bool,
    /// Ends behind what is done at the end of this one.
    _turn: TurnGuard,
}

impl WriteTurn<'_> {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        self.socket.connection.writing.end();
        if !self.finished {
            self.socket.close();
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

    /// What is left to send.
    fn into_rest(mut self) -> Vec<SendPiece> {
        let mut rest = self.pieces.split_off(self.piece);
        if let Some(first) = rest.first_mut() {
            match first {
                SendPiece::Bytes(bytes) => bytes.advance(self.position),
                SendPiece::Slice(slice) => *slice = slice.slice(self.position..slice.len()),
            }
        }
        rest
    }

    /// How many bytes are left.
    fn left(&self) -> usize {
        let left: usize = self.pieces[self.piece..].iter().map(|piece| piece.len()).sum();
        left - self.position
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

    /// Describes what is left to the kernel, at most `bytes_max` of it, and how many bytes that is.
    fn prepare(&mut self, bytes_max: usize) -> (*const libc::msghdr, usize) {
        let mut room = bytes_max;
        self.vectors.clear();
        let mut position = self.position;
        for piece in self.pieces[self.piece..].iter().take(PIECES_MAX) {
            let rest = &piece[position..];
            position = 0;
            let length = rest.len().min(room);
            self.vectors.push(libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: length });
            room -= length;
            if room == 0 {
                break;
            }
        }
        // SAFETY: a msghdr of zeros is valid: no name, no vectors, no control data.
        let header = self.header.get_or_insert_with(|| Box::new(unsafe { std::mem::zeroed() }));
        header.msg_iov = self.vectors.as_mut_ptr();
        header.msg_iovlen = self.vectors.len();
        (&raw const **header, bytes_max - room)
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
        if pieces.iter().any(|piece| matches!(piece, SendPiece::Slice(_))) {
            self.connection.begin_writing();
        }
        let by_file = |piece: &SendPiece| match piece {
            SendPiece::Slice(slice) => slice.len() >= sendfile_bytes_min && slice.file_range().is_some(),
            SendPiece::Bytes(_) => false,
        };
        if !pieces.iter().any(by_file) {
            let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
            if bytes < BULK_BYTES_MIN {
                self.connection.ring.bulk().note_small();
            }
            return self.send_all(pieces, 0, &mut VecDeque::new()).await;
        }
        let mut copied = Vec::new();
        let mut rest = VecDeque::from(pieces);
        while let Some(piece) = rest.pop_front() {
            match piece {
                SendPiece::Slice(slice) if by_file(&SendPiece::Slice(slice.clone())) => {
                    if !copied.is_empty() {
                        // Until it has been its turn, what follows may be exchanged as well.
                        rest.push_front(slice.into());
                        // More follows at once: a header does not leave in a packet of its own.
                        self.send_all(std::mem::take(&mut copied), libc::MSG_MORE, &mut rest).await?;
                        continue;
                    }
                    // On the heap: every task that sends has room for this future, and an idle connection has two.
                    Box::pin(self.send_by_file(slice, &mut rest)).await?;
                }
                piece => copied.push(piece),
            }
        }
        self.send_all(copied, 0, &mut rest).await
    }

    async fn write_turn(&self) -> WriteTurn<'_> {
        WriteTurn { socket: self, finished: false, _turn: self.connection.turn.take().await }
    }

    /// Sends the pieces by copy. If the peer is slow, slices among them and in `rest`, which is sent after them, are
    /// exchanged for copies on the way.
    async fn send_all(
        &self,
        pieces: Vec<SendPiece>,
        more: libc::c_int,
        rest: &mut VecDeque<SendPiece>,
    ) -> io::Result<()> {
        let connection = &self.connection;
        let mut gathered = Gathered::new(connection.descriptor.clone(), pieces);
        while !gathered.is_sent() {
            if connection.closed.get() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            if connection.writing.is_overdue() {
                let pieces = connection.exchange(gathered.into_rest()).await;
                *rest = connection.exchange(std::mem::take(rest).into()).await.into();
                gathered = Gathered::new(connection.descriptor.clone(), pieces);
                continue;
            }
            let mut bytes_max = usize::MAX;
            if gathered.left() >= BULK_BYTES_MIN {
                bytes_max = self.send_part(&mut gathered, more).await?;
                if bytes_max == 0 {
                    continue;
                }
            }
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | more;
            let entry = match &gathered.pieces[gathered.piece..] {
                [piece] => {
                    let rest = &piece[gathered.position..];
                    let length = rest.len().min(bytes_max) as u32;
                    opcode::Send::new(Fd(self.raw()), rest.as_ptr(), length).flags(flags).build()
                }
                _ => {
                    let (header, _) = gathered.prepare(bytes_max);
                    opcode::SendMsg::new(Fd(self.raw()), header).flags(flags as u32).build()
                }
            };
            // SAFETY: the pieces' memory does not move (`Buffer`), the vectors and the header are on the heap;
            // the operation owns them all and a share of the descriptor.
            let sending = unsafe { Operation::start(&self.connection.ring, entry, gathered, CANCEL) };
            connection.writing.waits_for(Some(sending.key()));
            let (completion, returned) = sending.await;
            connection.writing.waits_for(None);
            gathered = returned;
            match completion.to_result() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.connection.pins.add_written(sent);
                    gathered.advance(sent);
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    self.writable().await?;
                }
                // Called off; without a byte sent, there is no count of them.
                Err(error)
                    if error.raw_os_error() == Some(libc::ECANCELED) && connection.writing.is_overdue() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a part of many bytes by copy, when it is time to. How many of it the socket had no room for: the ring
    /// sends those as the peer takes them.
    async fn send_part(&self, gathered: &mut Gathered, more: libc::c_int) -> io::Result<usize> {
        let turn = BulkTurn::wait(&self.connection.ring).await;
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | more;
        let (header, bytes) = gathered.prepare(self.connection.ring.bulk().copy_bytes());
        // Not by the ring: how long it takes has to be known.
        // SAFETY: the header and what it leads to live in `gathered`, which lives over the call.
        let result = turn.part(|| to_result(unsafe { libc::sendmsg(self.raw(), header, flags) })).await;
        match result {
            Ok(sent) => {
                self.connection.pins.add_written(sent);
                gathered.advance(sent);
                Ok(bytes - sent)
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => Ok(bytes),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is room for more, or until the writer is called off.
    async fn writable(&self) -> io::Result<()> {
        let polling = self.start_poll(libc::POLLOUT)?;
        self.connection.writing.waits_for(Some(polling.key()));
        let (completion, _) = polling.await;
        self.connection.writing.waits_for(None);
        match completion.to_result() {
            Err(error)
                if error.raw_os_error() == Some(libc::ECANCELED) && self.connection.writing.is_overdue() =>
            {
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Sends a slice by `sendfile`; if the peer is slow, what is left of it by copy, as [`Self::send_all`] does.
    async fn send_by_file(&self, slice: Slice, rest: &mut VecDeque<SendPiece>) -> io::Result<()> {
        let mut sent = 0;
        while sent < slice.len() {
            if self.connection.closed.get() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let turn = BulkTurn::wait(&self.connection.ring).await;
            let by_file = slice.chunk().zip(slice.file_range());
            let Some((chunk, (descriptor, start))) =
                by_file.filter(|_| !self.connection.writing.is_overdue())
            else {
                // The peer is slow, or too much is pinned since we looked.
                drop(turn);
                let left = slice.slice(sent..slice.len());
                drop(slice);
                return self.send_all(vec![left.into()], 0, rest).await;
            };
            // Before the call: the pages may be on their way when it returns.
            let pin = chunk.pin();
            let mut offset = (start + sent as u64) as libc::off64_t;
            let length = (slice.len() - sent).min(SHORT_TURN_BYTES);
            let (from, to) = (descriptor.as_raw_fd(), self.raw());
            // SAFETY: both descriptors are open, and `offset` lives over the call. The socket is in
            // non-blocking mode and the pages are in memory (the slice lives), so the call does not wait.
            let mut sendfile = || unsafe { libc::sendfile64(to, from, &raw mut offset, length) };
            let result = turn.part(|| to_result(sendfile())).await;
            drop(turn);
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.connection.pins.add_written(written);
                    if !self.connection.pins.extend_last(chunk) {
                        self.connection.hold(pin);
                    }
                    sent += written;
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What a system call said: a count, or -1 and the reason in errno.
fn to_result(returned: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
