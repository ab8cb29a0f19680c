"""The socket to a daemon: connecting, and who is at the other end.

Owns: what the errors of ``connect`` mean, and the check that the peer is this user
(docs/promises.md, promise 9), that no forked child keeps one. Does not own: where the socket is
(``places``), what is said on it (``transport``).

A child closes the sockets that it inherits before any other line of its runs, wherever it was forked, in a
signal handler in the middle of a call say: what it read or wrote there would be missing on the parent's side.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
import weakref

from wherry.errors import CommError
from wherry.wire.status import ConnectionLost

#: The last one: in a child that was forked just now.
_LATER = (errno.EAGAIN, errno.ECONNRESET, errno.EINTR, errno.EBADF)


class NobodyListens(ConnectionLost):
    """There is no socket, or it is one that a daemon left behind."""


class _Socket(socket.socket):
    """One that is known from before it is open."""

    def __init__(self) -> None:
        _sockets.add(self)
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)


_sockets: weakref.WeakSet[_Socket] = weakref.WeakSet()


def _close_inherited() -> None:
    for inherited in _sockets:
        with contextlib.suppress(OSError):
            socket.SocketType.close(inherited)  # C's own, which needs nothing that is not set yet


os.register_at_fork(after_in_child=_close_inherited)


def dial(path: str, timeout_s: float) -> socket.socket:
    """Connect to the daemon at ``path``.

    Raises:
        NobodyListens: there is no socket, or nobody at it.
        ConnectionLost: it can't be reached just now.
        CommError: it may not be used, or another user listens there.
    """
    connected = _Socket()
    try:
        connected.settimeout(timeout_s)
        connected.connect(path)
        _check_peer(connected, path)
    except OSError as error:
        connected.close()
        raise _connect_error(path, error) from error
    except BaseException:
        connected.close()
        raise
    return connected


def _connect_error(path: str, error: OSError) -> CommError:
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return NobodyListens(f"No daemon listens at {path}.")
    if error.errno in _LATER or isinstance(error, TimeoutError):
        return ConnectionLost(f"The daemon at {path} takes no connection just now.")
    return CommError(f"The socket {path} can't be used: {error.strerror or error}.")


def _check_peer(connected: socket.socket, path: str) -> None:
    uid = _peer_uid(connected)
    if uid != os.geteuid():
        raise CommError(
            f"User {uid} listens at {path}, and this is user {os.geteuid()}.",
            hint="Remove that socket if it is not yours to use, or set another WHERRY_HOME.",
        )


def _peer_uid(connected: socket.socket) -> int:
    if sys.platform == "darwin":
        # struct xucred {u_int cr_version; uid_t cr_uid; …} of LOCAL_PEERCRED at SOL_LOCAL
        found = connected.getsockopt(0, 1, 76)
        return int(struct.unpack_from("=II", found)[1])
    # struct ucred {pid_t pid; uid_t uid; gid_t gid} (unix(7))
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    return int(struct.unpack("iII", found)[1])
