//! Accepting connections: one multishot accept, armed as long as somebody takes what it brings.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::opcode;
use io_uring::types::Fd;

use crate::address::{RawAddress, local_address, peer_address};
use crate::op::{CANCEL_AND_CLOSE, OperationStream};
use crate::reactor::Ring;

/// The queue of connections that the kernel completes by itself; it takes at most `net.core.somaxconn`.
const LISTEN_BACKLOG: libc::c_int = 4096;

/// A listening TCP socket. Dropping it closes the socket and what it accepted without being asked for.
pub struct Listener {
    ring: Ring,
    descriptor: Rc<OwnedFd>,
    accepting: RefCell<Option<OperationStream<Rc<OwnedFd>>>>,
}

impl Listener {
    /// Binds and listens. Port 0 takes a free one. `[::]` takes IPv4 as well.
    pub fn bind(ring: &Ring, address: SocketAddr) -> io::Result<Self> {
        let descriptor = bound(address)?;
        // SAFETY: listen takes no pointers.
        if unsafe { libc::listen(descriptor.as_raw_fd(), LISTEN_BACKLOG) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { ring: ring.clone(), descriptor: Rc::new(descriptor), accepting: RefCell::new(None) })
    }

    /// Whether [`Listener::bind`] would have the address now; no peer notices.
    pub fn check(address: SocketAddr) -> io::Result<()> {
        bound(address).map(drop)
    }

    /// Where it listens.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        local_address(self.descriptor.as_raw_fd())
    }

    /// The next connection and where it comes from. The descriptor may be handed to another core. EMFILE and
    /// ENFILE are the caller's to wait out: until then connections queue in the kernel. One task at a time.
    pub async fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        loop {
            let accepted = poll_fn(|context| self.poll_accept(context)).await;
            match accepted {
                Ok(descriptor) => match peer_address(descriptor.as_raw_fd()) {
                    Ok(peer) => return Ok((descriptor, peer)),
                    // It is gone already.
                    Err(_) => continue,
                },
                Err(error) => match error.raw_os_error() {
                    // Errors of that connection, not of the listener (accept(2)).
                    Some(
                        libc::ECONNABORTED
                        | libc::EINTR
                        | libc::EAGAIN
                        | libc::EPROTO
                        | libc::ECANCELED
                        | libc::ENETDOWN
                        | libc::EHOSTUNREACH
                        | libc::ENETUNREACH,
                    ) => continue,
                    _ => return Err(error),
                },
            }
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let mut accepting = self.accepting.borrow_mut();
        loop {
            let stream = accepting.get_or_insert_with(|| self.start());
            match stream.poll_next(context) {
                Poll::Ready(Some(completion)) => {
                    return Poll::Ready(completion.to_result().map(|descriptor| {
                        // SAFETY: the kernel made this descriptor for us and nobody else was told of it.
                        unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }
                    }));
                }
                Poll::Ready(None) => *accepting = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn start(&self) -> OperationStream<Rc<OwnedFd>> {
        let entry = opcode::AcceptMulti::new(Fd(self.descriptor.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build();
        // SAFETY: the entry points to nothing but the descriptor, which the stream keeps open.
        unsafe { OperationStream::start(&self.ring, entry, self.descriptor.clone(), CANCEL_AND_CLOSE) }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({})", self.descriptor.as_raw_fd())
    }
}

/// A socket at an address.
fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let descriptor = new_socket(family)?;
    set_option(descriptor.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if address.is_ipv6() {
        let only = libc::c_int::from(!address.ip().is_unspecified());
        set_option(descriptor.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only)?;
    }
    let raw = RawAddress::from(address);
    // SAFETY: the address lives over the call and is as long as it says.
    if unsafe { libc::bind(descriptor.as_raw_fd(), raw.as_ptr(), raw.length()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(descriptor)
}

/// A TCP socket that never blocks the thread.
pub(crate) fn new_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes no pointers.
    let descriptor = unsafe { libc::socket(family, kind, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sets an integer option of a socket.
pub(crate) fn set_option<T: Copy>(
    descriptor: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives over the call and is as long as `length` says.
    let result = unsafe { libc::setsockopt(descriptor, level, option, (&raw const value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
