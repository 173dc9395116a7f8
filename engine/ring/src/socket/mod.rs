//! A TCP connection: single-shot receives into their final place, and one writer at a time.
//!
//! **Invariants.** The descriptor stays open while any operation on it is under way (each owns a share of it):
//! closing cancels nothing in the kernel, so close is shut down, cancel, free at the completion. `send` and
//! `sendfile` never overlap. A write that is dropped half-way shuts the connection down, since the stream's
//! framing is lost.

mod bulk;
mod patience;
mod pins;
mod writer;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring::opcode;
use io_uring::types::Fd;

use crate::address::{RawAddress, local_address, peer_address};
use crate::gate::Turn;
use crate::listener::{new_socket, set_option};
use crate::op::{CANCEL, Operation};
use crate::reactor::Ring;
use crate::transfer::BufferMut;
pub(crate) use bulk::Bulk;
pub(crate) use patience::Writers;
use patience::Writing;
pub(crate) use pins::PinnedConnections;
use pins::Pins;

/// `IORING_RECVSEND_POLL_FIRST`: wait for readiness before the first try.
const POLL_FIRST: u16 = 1 << 0;

/// A TCP connection of one core; clones share it.
#[derive(Clone)]
pub struct Socket {
    connection: Rc<Connection>,
}

struct Connection {
    ring: Ring,
    descriptor: Rc<OwnedFd>,
    /// The last receive left nothing behind: the next one had better wait first.
    drained: Cell<bool>,
    /// That of the writer whose answer is being sent.
    turn: Turn,
    pins: Pins,
    writing: Writing,
    closed: Cell<bool>,
}

impl Connection {
    fn unsent(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ (TIOCOUTQ by its other name) writes one int.
        let result = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if result < 0 { 0 } else { usize::try_from(bytes).unwrap_or(0) }
    }

    /// How many bytes the peer has acknowledged so far (TCP_INFO, from Linux 4.1 on). 0 if the socket is gone.
    fn acknowledged(&self) -> u64 {
        /// Where `tcpi_bytes_acked` lies in the kernel's `struct tcp_info`; the C library's ends before it.
        const BYTES_ACKED_AT: usize = 120;
        let mut info = [0_u8; BYTES_ACKED_AT + 8];
        let mut length = info.len() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `info`, and `length` itself.
        let result = unsafe {
            libc::getsockopt(
                self.descriptor.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result < 0 || (length as usize) < info.len() {
            return 0;
        }
        u64::from_ne_bytes(info[BYTES_ACKED_AT..].try_into().expect("eight bytes"))
    }

    /// Closes it, and has the kernel forget what it has not sent (SO_LINGER of 0) instead of keeping that memory
    /// for a peer that does not read.
    fn abort(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // It may be disconnected already.
        let _ = set_option(self.descriptor.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, linger);
        self.close();
    }

    fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        // It may be disconnected already.
        let _ = self.shutdown(libc::SHUT_RDWR);
        self.ring.driver().borrow_mut().cancel_descriptor(&self.descriptor);
    }

    fn shutdown(&self, how: libc::c_int) -> io::Result<()> {
        // SAFETY: shutdown takes no pointers.
        let result = unsafe { libc::shutdown(self.descriptor.as_raw_fd(), how) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Socket {
    /// Takes over an accepted connection, on any core.
    pub fn from_fd(ring: &Ring, descriptor: OwnedFd) -> Self {
        // A blocking descriptor would let sendfile block the thread.
        // SAFETY: fcntl with these commands takes no pointers.
        unsafe {
            let flags = libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFL);
            if flags & libc::O_NONBLOCK == 0 {
                libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
            }
        }
        let connection = Connection {
            ring: ring.clone(),
            descriptor: Rc::new(descriptor),
            drained: Cell::new(true),
            turn: Turn::default(),
            pins: Pins::default(),
            writing: Writing::default(),
            closed: Cell::new(false),
        };
        Self { connection: Rc::new(connection) }
    }

    /// Connects to a listener.
    pub async fn connect(ring: &Ring, address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let descriptor = Rc::new(new_socket(family)?);
        let raw = Box::new(RawAddress::from(address));
        let entry = opcode::Connect::new(Fd(descriptor.as_raw_fd()), raw.as_ptr(), raw.length()).build();
        // SAFETY: the address is in a box and the descriptor is shared; the operation owns both.
        let connecting = unsafe { Operation::start(ring, entry, (descriptor, raw), CANCEL) };
        let (completion, (descriptor, _)) = connecting.await;
        completion.to_result()?;
        let descriptor = Rc::into_inner(descriptor).expect("only the operation shared it, and it is over");
        Ok(Self::from_fd(ring, descriptor))
    }

    /// The address of the other end.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        peer_address(self.raw())
    }

    /// The address of this end.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        local_address(self.raw())
    }

    /// Whether small segments leave at once (TCP_NODELAY).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        set_option(self.raw(), libc::IPPROTO_TCP, libc::TCP_NODELAY, libc::c_int::from(nodelay))
    }

    /// Whether the kernel probes a silent peer (SO_KEEPALIVE).
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        set_option(self.raw(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, libc::c_int::from(keepalive))
    }

    /// The sizes of the kernel's buffers (SO_RCVBUF, SO_SNDBUF); `None` leaves one to the kernel's tuning.
    pub fn set_buffer_sizes(&self, receive: Option<usize>, send: Option<usize>) -> io::Result<()> {
        for (option, size) in [(libc::SO_RCVBUF, receive), (libc::SO_SNDBUF, send)] {
            if let Some(size) = size {
                let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
                set_option(self.raw(), libc::SOL_SOCKET, option, size)?;
            }
        }
        Ok(())
    }

    /// Receives up to `range.len()` bytes into `buffer[range]`, as soon as there are any; 0 is the end of the
    /// stream. A vector grows to what was received, within its capacity.
    ///
    /// # Panics
    /// If the range starts behind what is initialised, or ends behind the capacity.
    pub async fn recv<B: BufferMut>(&self, buffer: B, range: Range<usize>) -> (io::Result<usize>, B) {
        self.receive(buffer, range, 0).await
    }

    /// Receives exactly `range.len()` bytes; `UnexpectedEof` if the stream ends before.
    ///
    /// # Panics
    /// As [`Socket::recv`].
    pub async fn recv_exact<B: BufferMut>(&self, mut buffer: B, range: Range<usize>) -> (io::Result<()>, B) {
        let mut at = range.start;
        while at < range.end {
            let (result, returned) = self.receive(buffer, at..range.end, libc::MSG_WAITALL).await;
            buffer = returned;
            match result {
                Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), buffer),
                Ok(received) => at += received,
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    async fn receive<B: BufferMut>(
        &self,
        mut buffer: B,
        range: Range<usize>,
        flags: libc::c_int,
    ) -> (io::Result<usize>, B) {
        assert!(
            range.start <= buffer.initialised() && range.start <= range.end && range.end <= buffer.capacity(),
            "{range:?} of {} bytes, {} of them initialised",
            buffer.capacity(),
            buffer.initialised()
        );
        loop {
            if self.connection.closed.get() {
                return (Err(io::ErrorKind::NotConnected.into()), buffer);
            }
            // SAFETY: the range is within the buffer's capacity.
            let pointer = unsafe { buffer.pointer().add(range.start) };
            let length = u32::try_from(range.len()).unwrap_or(u32::MAX);
            let entry = opcode::Recv::new(Fd(self.raw()), pointer, length)
                .flags(flags)
                .ioprio(if self.connection.drained.get() { POLL_FIRST } else { 0 })
                .build();
            let resources = (self.connection.descriptor.clone(), buffer);
            // SAFETY: the operation owns the buffer, whose memory does not move (`BufferMut`), and a share of
            // the descriptor.
            let receiving = unsafe { Operation::start(&self.connection.ring, entry, resources, CANCEL) };
            let (completion, (_, returned)) = receiving.await;
            buffer = returned;
            self.connection.drained.set(!io_uring::cqueue::sock_nonempty(completion.flags));
            match completion.to_result() {
                Ok(received) => {
                    let end = range.start + received;
                    if end > buffer.initialised() {
                        // SAFETY: the kernel wrote `received` bytes from `range.start`, which is not behind
                        // what was initialised before.
                        unsafe { buffer.set_initialised(end) };
                    }
                    return (Ok(received), buffer);
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    if let Err(error) = self.poll(libc::POLLIN).await {
                        return (Err(error), buffer);
                    }
                }
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    /// Completes when there is something to receive, the end of the stream included. Costs no buffer.
    pub async fn readable(&self) -> io::Result<()> {
        self.poll(libc::POLLIN | libc::POLLRDHUP).await.map(drop)
    }

    /// Completes when the other end has closed or reset the connection, whatever is left to receive.
    pub async fn hung_up(&self) -> io::Result<()> {
        self.poll(libc::POLLRDHUP).await.map(drop)
    }

    /// A one-shot poll for `events`; what came.
    async fn poll(&self, events: libc::c_short) -> io::Result<u32> {
        let (completion, _) = self.start_poll(events)?.await;
        completion.to_result().map(|events| events as u32)
    }

    fn start_poll(&self, events: libc::c_short) -> io::Result<Operation<Rc<OwnedFd>>> {
        if self.connection.closed.get() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let entry = opcode::PollAdd::new(Fd(self.raw()), events as u16 as u32).build();
        let descriptor = self.connection.descriptor.clone();
        // SAFETY: the entry points to nothing but the descriptor, of which the operation owns a share.
        Ok(unsafe { Operation::start(&self.connection.ring, entry, descriptor, CANCEL) })
    }

    /// How many bytes were sent and not yet acknowledged by the peer (SIOCOUTQ). 0 if the socket is gone.
    pub fn unsent(&self) -> usize {
        self.connection.unsent()
    }

    /// How many bytes wait to be received (SIOCINQ). 0 if the socket is gone.
    pub fn unread(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCINQ (FIONREAD by its other name) writes one int.
        let result = unsafe { libc::ioctl(self.raw(), libc::FIONREAD, &raw mut bytes) };
        if result < 0 { 0 } else { usize::try_from(bytes).unwrap_or(0) }
    }

    /// How many bytes were written to the connection, whatever became of them.
    pub fn written(&self) -> u64 {
        self.connection.pins.written()
    }

    /// Ends the sending direction: the peer reads the end of the stream after what was sent.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.connection.shutdown(libc::SHUT_WR)
    }

    /// Ends both directions. Operations under way complete; the descriptor is closed when the last of them
    /// and the last clone of this socket are gone.
    pub fn close(&self) {
        self.connection.close();
    }

    fn raw(&self) -> RawFd {
        self.connection.descriptor.as_raw_fd()
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket({})", self.raw())
    }
}

#[cfg(test)]
mod sendfile_tests;
#[cfg(test)]
mod stress_tests;
#[cfg(test)]
mod tests;
