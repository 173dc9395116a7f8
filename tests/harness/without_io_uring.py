"""Runs a command for which the kernel refuses io_uring, as the default seccomp profile of containers does.

    without_io_uring.py ERROR COMMAND [ARG]...

ERROR is what io_uring_setup answers: EPERM (seccomp profiles, kernel.io_uring_disabled), ENOSYS (sandboxes, kernels
without it), EINVAL (kernels that do not know the flags).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

IO_URING_SETUP = 425  # the same number on every architecture
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def forbid(error: int) -> None:
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in (
            (LOAD, 0, 0, 0),  # the number of the system call
            (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
            (RETURN, 0, 0, ERRNO | error),
            (RETURN, 0, 0, ALLOW),
        )
    )
    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    forbid(getattr(errno, sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
