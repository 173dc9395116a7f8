"""A file system of one file, served to the kernel over /dev/fuse: what lies beneath a loop device in the tests.

The kernel's protocol (linux/fuse.h, version 7.31) is spoken here directly, as far as one file of a fixed size needs it,
so that nothing has to be installed. The file is opened for direct I/O: every write and every flush of the loop device
arrives as it was made, in order, and completes when it is answered.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path
from typing import Protocol

FILE_NAME = b"device"
ROOT, FILE = 1, 2
# What one request may carry; the buffer that requests are read into holds its header as well.
WRITE_BYTES_MAX = 1 << 20
REQUEST_BYTES_MAX = WRITE_BYTES_MAX + 4096

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, DESTROY, BATCH_FORGET = 20, 25, 26, 27, 28, 29, 38, 42

IN_HEADER = struct.Struct("=IIQQIIIHH")
OUT_HEADER = struct.Struct("=IiQ")
INIT_IN = struct.Struct("=IIII")
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
ENTRY_OUT = struct.Struct("=QQQQII")
ATTRIBUTES_OUT = struct.Struct("=QII")
OPEN_OUT = struct.Struct("=QII")
# Of a read and of a write alike: handle, offset, size, and what does not matter here.
TRANSFER_IN = struct.Struct("=QQIIQII")
WRITE_OUT = struct.Struct("=II")
STATFS_OUT = struct.Struct("=QQQQQIIIIIIIIII")

ASYNC_READ, BIG_WRITES, MAX_PAGES = 1 << 0, 1 << 5, 1 << 22
DIRECT_IO = 1 << 0
FOREVER_S = 1 << 30
BLOCK_BYTES = 4096


class Content(Protocol):
    """What the file holds. An OSError reaches whoever asked."""

    size: int

    def read(self, position: int, length: int) -> bytes: ...

    def write(self, position: int, data: bytes) -> None: ...

    def flush(self) -> None: ...


def mount(folder: Path) -> int:
    """Mounts an empty FUSE file system; the descriptor over which it is served. Closed, it ends."""
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={descriptor},rootmode={stat.S_IFDIR:o},user_id={os.getuid()},group_id={os.getgid()}"
    if libc.mount(b"flumen-tests", bytes(folder), b"fuse", 0, options.encode()) != 0:
        number = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(number, f"mounting a FUSE file system: {os.strerror(number)}")
    return descriptor


class Server:
    """Answers the kernel's requests, one after the other."""

    def __init__(self, descriptor: int, content: Content) -> None:
        self.descriptor = descriptor
        self.content = content
        self.operations = {
            LOOKUP: self.lookup, GETATTR: self.attributes_of, SETATTR: self.attributes_of, OPEN: self.open,
            OPENDIR: self.open_folder, READDIR: self.nothing, READ: self.read, WRITE: self.write, FSYNC: self.fsync,
            STATFS: self.statistics, FLUSH: self.nothing, RELEASE: self.nothing, RELEASEDIR: self.nothing,
            INIT: self.initialise, DESTROY: self.nothing,
        }

    def serve_one(self) -> bool:
        """Waits for a request and answers it; false when the file system was unmounted."""
        try:
            request = os.read(self.descriptor, REQUEST_BYTES_MAX)
        except InterruptedError:
            return True
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        _, opcode, unique, node, *_ = IN_HEADER.unpack_from(request)
        if opcode in (FORGET, BATCH_FORGET):
            return True
        operation = self.operations.get(opcode)
        try:
            if operation is None:
                raise OSError(errno.ENOSYS, "not served")
            self.reply(unique, 0, operation(node, memoryview(request)[IN_HEADER.size :]))
        except OSError as error:
            self.reply(unique, -(error.errno or errno.EIO), b"")
        return True

    def reply(self, unique: int, error: int, body: bytes) -> None:
        try:
            os.write(self.descriptor, OUT_HEADER.pack(OUT_HEADER.size + len(body), error, unique) + body)
        except FileNotFoundError:
            # Whoever asked was killed meanwhile.
            pass

    def initialise(self, _node: int, request: memoryview) -> bytes:
        major, minor, readahead, offered = INIT_IN.unpack_from(request)
        assert (major, minor) >= (7, 31), f"the kernel speaks FUSE {major}.{minor}, these tests 7.31"
        wanted = offered & (ASYNC_READ | BIG_WRITES | MAX_PAGES)
        pages = WRITE_BYTES_MAX // BLOCK_BYTES
        return INIT_OUT.pack(7, 31, readahead, wanted, 64, 48, WRITE_BYTES_MAX, 1, pages, 0, 0)

    def attributes(self, node: int) -> bytes:
        if node == ROOT:
            size, mode, links = 0, stat.S_IFDIR | 0o755, 2
        else:
            size, mode, links = self.content.size, stat.S_IFREG | 0o600, 1
        blocks = (size + 511) // 512
        return ATTRIBUTES.pack(node, size, blocks, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, BLOCK_BYTES, 0)

    def attributes_of(self, node: int, _request: memoryview) -> bytes:
        return ATTRIBUTES_OUT.pack(FOREVER_S, 0, 0) + self.attributes(node)

    def lookup(self, _node: int, request: memoryview) -> bytes:
        if bytes(request).rstrip(b"\0") != FILE_NAME:
            raise FileNotFoundError(errno.ENOENT, "there is only one file")
        return ENTRY_OUT.pack(FILE, 0, FOREVER_S, FOREVER_S, 0, 0) + self.attributes(FILE)

    def open(self, _node: int, _request: memoryview) -> bytes:
        return OPEN_OUT.pack(0, DIRECT_IO, 0)

    def open_folder(self, _node: int, _request: memoryview) -> bytes:
        return OPEN_OUT.pack(0, 0, 0)

    def nothing(self, _node: int, _request: memoryview) -> bytes:
        return b""

    def read(self, _node: int, request: memoryview) -> bytes:
        _, position, length, *_ = TRANSFER_IN.unpack_from(request)
        return self.content.read(position, length)

    def write(self, _node: int, request: memoryview) -> bytes:
        _, position, length, *_ = TRANSFER_IN.unpack_from(request)
        data = bytes(request[TRANSFER_IN.size : TRANSFER_IN.size + length])
        self.content.write(position, data)
        return WRITE_OUT.pack(length, 0)

    def fsync(self, _node: int, _request: memoryview) -> bytes:
        self.content.flush()
        return b""

    def statistics(self, _node: int, _request: memoryview) -> bytes:
        blocks = self.content.size // BLOCK_BYTES
        return STATFS_OUT.pack(blocks, 0, 0, 1, 0, BLOCK_BYTES, 255, BLOCK_BYTES, 0, 0, 0, 0, 0, 0, 0)
