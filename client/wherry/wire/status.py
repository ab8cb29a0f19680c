"""How a gRPC call is framed and how it ends, apart from any connection.

Owns: message prefixes, the time-out header, and what a status means as a ``wherry.errors`` class
(gRPC's "PROTOCOL-HTTP2" page, and ``wherry-error`` of ``wherry.proto``). Does not own: bytes on a
socket (``transport``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from wherry import errors

MAX_MESSAGE_BYTES = 256 << 20
"""No message of ours comes near; what is longer is not a message."""

_PREFIX = struct.Struct("!BI")
_MAX_TIMEOUT_DIGITS = 8
_CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}


class ConnectionLost(errors.CommError):
    """The connection ended before the call did: whether the daemon acted is not known."""


def prefix(size_bytes: int) -> bytes:
    """What stands before an uncompressed message."""
    return _PREFIX.pack(0, size_bytes)


class Messages:
    """Cuts the bytes of a stream into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what came in."""
        self._bytes += data

    def complete(self) -> Iterator[bytes]:
        """Hand out the messages that have come in whole.

        Raises:
            ProtocolError: a message is compressed, which was not offered, or over 256 MiB.
        """
        while len(self._bytes) >= _PREFIX.size:
            compressed, size_bytes = _PREFIX.unpack_from(self._bytes)
            if compressed or size_bytes > MAX_MESSAGE_BYTES:
                raise errors.ProtocolError(
                    f"The daemon sent a message of {size_bytes:,} bytes (flags {compressed})."
                )
            end = _PREFIX.size + size_bytes
            if len(self._bytes) < end:
                return
            message = bytes(memoryview(self._bytes)[_PREFIX.size : end])
            del self._bytes[:end]
            yield message

    def __bool__(self) -> bool:
        """Tell whether a message has begun and not ended."""
        return bool(self._bytes)


def timeout_text(seconds: float) -> str:
    """Write a time-out as ``grpc-timeout`` wants it: eight digits at most and a unit."""
    for unit, per_second in (("u", 1_000_000), ("m", 1_000), ("S", 1)):
        amount = max(int(seconds * per_second), 1)
        if len(str(amount)) <= _MAX_TIMEOUT_DIGITS:
            return f"{amount}{unit}"
    return f"{'9' * _MAX_TIMEOUT_DIGITS}S"


def error_of(method: str, headers: Mapping[str, str]) -> errors.WherryError | None:
    """Make the error that a call's last headers tell; None where it went well.

    Args:
        method: the call's name, for the message.
        headers: the response's headers and trailers, in lower case.
    """
    http, code = headers.get(":status", ""), headers.get("grpc-status", "")
    if http != "200" and not code:
        return errors.ProtocolError(f"{method}: the daemon answered with HTTP status {http}.")
    if not code.isdecimal():
        return errors.ProtocolError(f"{method}: the daemon's answer ended without a status.")
    if code == "0":
        return None
    message = _decoded(headers.get("grpc-message", ""))
    if "wherry-error" in headers:
        return errors.from_wire(headers["wherry-error"], message)
    return _by_code(method, int(code), message)


def timed_out(method: str) -> errors.WaitTimeoutError:
    """Make the error for a call whose time is over."""
    return errors.WaitTimeoutError(f"The daemon did not answer {method} in time.")


def _by_code(method: str, code: int, message: str) -> errors.WherryError:
    name = _CODES.get(code, f"status {code}")
    text = f"{method}: {message or name}"
    match name:
        case "UNAVAILABLE" | "CANCELLED":  # nobody but a server that ends cancels our calls
            return ConnectionLost(text)
        case "DEADLINE_EXCEEDED":
            return timed_out(method)
        case "UNIMPLEMENTED":
            return errors.DaemonTooOld(
                f"The daemon does not know the call {method}.",
                hint="Upgrade it: pip install --upgrade 'wherry[daemon]', then wherry daemon stop.",
            )
        case "INVALID_ARGUMENT" | "OUT_OF_RANGE":
            return errors.UsageError(text)
        case "NOT_FOUND":
            return errors.NotFoundError(text)
    return errors.CommError(f"{text} ({name})", hint="`wherry daemon logs` may show more.")


def _decoded(text: str) -> str:
    """Undo the percent-encoding of ``grpc-message``; what is malformed stays as it is."""
    first, *rest = text.encode().split(b"%")
    return b"".join([first, *map(_unescaped, rest)]).decode(errors="replace")


def _unescaped(part: bytes) -> bytes:
    try:
        return bytes.fromhex(part[:2].decode("ascii")) + part[2:]
    except ValueError:
        return b"%" + part
