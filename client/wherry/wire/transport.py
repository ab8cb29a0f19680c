"""gRPC over a unix socket: blocking, one call at a time on one connection, on ``h2``.

Owns: moving bytes, flow control, deadlines, and when a connection may serve another call. Does not own:
how the socket is made (``dial``), HTTP/2's settings (``http2``), what a status means (``status``), which
connection a call gets and repeating it (``connection``), what is in the messages.

There is no thread and no loop: bytes move only while a call is being made. A connection belongs to
the process that made it; in a forked child its socket is closed, which does not touch the parent's.
A stream of exchanges stays open between two of them, while other calls are made.
A call that breaks off leaves the connection closed, since nobody can say what is still under way on it. So
does one that any exception leaves (Ctrl-C, a signal handler's), at whatever line: headers that were counted
and not sent would make the next call's mean another call's.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

import h2.events
import h2.exceptions

from wherry.errors import CommError, ProtocolError, WaitTimeoutError
from wherry.wire.dial import dial
from wherry.wire.http2 import Http2, request_headers
from wherry.wire.status import ConnectionLost, Messages, error_of, prefix, timed_out

_READ_BYTES = 256 << 10
_FLUSH_BYTES = 256 << 10
_LAST_STREAM = 1 << 30
_CANCEL = 8  # RFC 9113 section 7
_NOT_PROCESSED = 7  # REFUSED_STREAM
_SAID = (h2.events.DataReceived, h2.events.StreamEnded, h2.events.StreamReset)


class _Stream:
    """One call's side of the connection."""

    def __init__(self, method: str, number: int, timeout_s: float | None) -> None:
        self.method = method.rpartition("/")[2]
        self.number = number
        self.messages = Messages()
        self.headers: dict[str, str] = {}
        self.sent = False  # our half is closed
        self.ended = False  # theirs is, or they reset it
        self.give_time(timeout_s)

    def give_time(self, timeout_s: float | None) -> None:
        """Let what follows take so long, from now on."""
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Seconds that are left; raises when none are."""
        if self._end_s is None:
            return None
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise timed_out(self.method)
        return left_s


class Transport:
    """A connection to a daemon of the same user."""

    def __init__(self, path: str | os.PathLike[str], connect_timeout_s: float = 5.0) -> None:
        """Connect.

        Args:
            path: of the socket.
            connect_timeout_s: for the connection itself, not for calls.

        Raises:
            NobodyListens: there is no socket, or nobody at it.
            ConnectionLost: it can't be reached just now.
            CommError: it may not be used, or another user listens there.
        """
        self._pid = os.getpid()
        self._socket = dial(os.fspath(path), connect_timeout_s)
        self._poll = select.poll()
        try:
            self._poll.register(self._socket, select.POLLIN)
        except ValueError as error:
            raise ConnectionLost("This process was forked while it connected.") from error
        self._calling = False  # a call is under way, or was broken off at nobody knows which line
        self._leaving = False  # no further call
        self._deaf = False  # they take no further byte; what they said before can still be read
        self._exchanges: _Stream | None = None  # open, and waiting for its next message
        self._buffer = bytearray(_READ_BYTES)  # a large one for each read would be mapped each time
        self._h2 = Http2()

    def unary_reply(self, method: str, messages: Iterable[bytes], timeout_s: float | None) -> bytes:
        """Send any number of messages and return the one answer.

        Args:
            method: ``/package.Service/Name``.
            messages: serialized; asked for one by one while they are sent.
            timeout_s: for the whole call; None waits for ever.

        Raises:
            ConnectionLost: whether the daemon acted is not known.
            WaitTimeoutError: the time is over.
            WherryError: what the daemon says.
        """
        received = list(self.replies(method, messages, timeout_s))
        if len(received) != 1:
            raise ProtocolError(f"{method}: the daemon sent {len(received)} answers, not one.")
        return received[0]

    def replies(
        self, method: str, messages: Iterable[bytes], timeout_s: float | None
    ) -> Generator[bytes]:
        """Send messages and hand out the answers as they come; errors as ``unary_reply``.

        Closing the iterator before its end cancels the call.
        """
        with self._calling_alone():
            stream = self._begin(method, timeout_s)
            try:
                self._send(stream, messages)
                yield from stream.messages.complete()  # what came while it was sent
                while not stream.ended:
                    self._receive(stream)
                    yield from stream.messages.complete()
                self._end(stream)
            except GeneratorExit:
                self._cancel(stream)
                raise
        error = error_of(stream.method, stream.headers)
        if error:
            raise error

    def exchange(self, method: str, message: bytes, timeout_s: float | None) -> bytes:
        """Send one message on a stream that outlives this, and return its answer.

        A stream is begun where none is open; all exchanges of one connection are of the same method. The
        daemon knows nothing of the time: when it is over, the connection is closed.

        Args and errors as ``unary_reply``.
        """
        with self._calling_alone():
            stream = self._exchanges or self._begin(method, None)
            self._exchanges = stream
            stream.give_time(timeout_s)
            self._send_bytes(stream, prefix(len(message)) + message)
            self._flush(stream)
            answers = [*stream.messages.complete()]  # it may have come while a large one was sent
            while not stream.ended and not answers:
                self._receive(stream)
                answers += stream.messages.complete()
            if stream.ended:
                self._exchanges = None
                self._end(stream)
            elif len(answers) == 1 and not stream.messages:
                self._calling = False
        if len(answers) == 1:
            return answers[0]
        if answers or not stream.ended:
            raise ProtocolError(f"{method}: the daemon sent more than one answer.")
        raise error_of(stream.method, stream.headers) or ConnectionLost(
            f"The daemon ended {stream.method} without an answer."
        )

    @property
    def is_open(self) -> bool:
        """Tell whether another call may be made, as far as is known."""
        lasts = not self._calling and not self._leaving and not self._deaf
        return lasts and self._socket.fileno() >= 0 and self._pid == os.getpid()

    def usable(self) -> bool:
        """Tell whether another call may be made, after taking in what came since the last one."""
        try:
            while self.is_open and self._poll.poll(0):
                self._take(None, self._read(1.0))
        except (CommError, WaitTimeoutError):
            self.close()
        return self.is_open

    def close(self) -> None:
        """Close the connection; a call under way ends. In a forked child, the parent's stays."""
        if self._pid == os.getpid():
            try:
                self._socket.shutdown(socket.SHUT_RDWR)  # children may hold the descriptor too
            except OSError:
                pass
        self._socket.close()

    @contextmanager
    def _calling_alone(self) -> Iterator[None]:
        """Close the connection where a call is left without having said that it may be used further."""
        if self._pid != os.getpid() or self._socket.fileno() < 0:
            raise ConnectionLost("This connection was closed, or made before a fork.")
        self._calling = True
        try:
            yield
        except h2.exceptions.H2Error as refusal:
            raise ConnectionLost(f"The connection can't be used further: {refusal!r}.") from refusal
        finally:
            if self._calling:
                self.close()

    def _begin(self, method: str, timeout_s: float | None) -> _Stream:
        stream = _Stream(method, self._h2.get_next_available_stream_id(), timeout_s)
        self._leaving |= stream.number >= _LAST_STREAM
        self._h2.send_headers(stream.number, request_headers(method, timeout_s))
        return stream

    def _send(self, stream: _Stream, messages: Iterable[bytes]) -> None:
        waiting = bytearray()
        for message in messages:
            waiting += prefix(len(message))
            waiting += message
            if len(waiting) >= _FLUSH_BYTES:
                self._send_bytes(stream, waiting)
                waiting.clear()
            if stream.ended or self._deaf:
                return
        self._send_bytes(stream, waiting, is_last=True)
        if not stream.ended and not self._deaf:
            if not waiting:
                self._h2.end_stream(stream.number)
            stream.sent = True
            self._flush(stream)

    def _send_bytes(
        self, stream: _Stream, data: bytes | bytearray, *, is_last: bool = False
    ) -> None:
        """Send as the daemon's windows allow; stop where it has ended the call already."""
        at = 0
        while at < len(data) and not stream.ended and not self._deaf:
            room = self._h2.local_flow_control_window(stream.number)
            if room <= 0:
                self._flush(stream)
                self._receive(stream)
                continue
            end = min(at + room, at + self._h2.max_outbound_frame_size, len(data))
            ends = is_last and end == len(data)
            self._h2.send_data(stream.number, bytes(memoryview(data)[at:end]), end_stream=ends)
            at = end
        if len(data) >= _FLUSH_BYTES:
            self._flush(stream)
            while self._poll.poll(0) and not stream.ended:
                self._receive(stream)

    def _receive(self, stream: _Stream) -> None:
        self._take(stream, self._read(stream.left_s(), stream.method))
        self._flush(stream)

    def _read(self, timeout_s: float | None, method: str = "") -> bytes:
        try:
            self._socket.settimeout(timeout_s)
            length = self._socket.recv_into(self._buffer)
        except TimeoutError as error:
            raise timed_out(method) from error
        except OSError as error:
            raise ConnectionLost(f"The connection to the daemon broke: {error}.") from error
        if not length:
            raise ConnectionLost(
                "The daemon closed the connection.", hint="`wherry daemon logs` may show why."
            )
        return bytes(memoryview(self._buffer)[:length])

    def _flush(self, stream: _Stream | None) -> None:
        data = self._h2.data_to_send()
        if not data or self._deaf:
            return
        try:
            if stream:
                self._socket.settimeout(stream.left_s())
            self._socket.sendall(data)
        except TimeoutError as error:
            raise timed_out(stream.method if stream else "") from error
        except OSError:
            self._deaf = True

    def _take(self, stream: _Stream | None, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.H2Error as error:
            raise ProtocolError(f"The daemon does not speak HTTP/2 well: {error!r}.") from error
        for event in events:
            if isinstance(event, h2.events.ConnectionTerminated):
                self._leaving = True
                if stream and stream.number > (event.last_stream_id or 0):
                    raise ConnectionLost("The daemon is leaving and did not take the call.")
            elif stream and getattr(event, "stream_id", None) == stream.number:
                self._take_event(stream, event)
            elif self._exchanges and isinstance(event, _SAID):
                # Nobody asked: the daemon ends what waits for its next message.
                self._leaving |= event.stream_id == self._exchanges.number

    def _take_event(self, stream: _Stream, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                stream.messages.feed(event.data or b"")
                length = event.flow_controlled_length
                if length:
                    self._h2.acknowledge_received_data(length, stream.number)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                for name, value in event.headers or ():
                    stream.headers[_text(name)] = _text(value)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                if "grpc-status" not in stream.headers:
                    raise _reset(stream, event.error_code)
                stream.ended = True

    def _end(self, stream: _Stream) -> None:
        """Leave nothing open: the daemon may have answered before it had heard everything."""
        if stream.messages:
            raise ProtocolError(f"{stream.method}: an answer was cut off in a message.")
        if not stream.sent:
            self._cancel(stream)
        self._calling = False

    def _cancel(self, stream: _Stream) -> None:
        """Take back what is left of a call; in a child that was forked during it, close."""
        if self._pid != os.getpid() or self._socket.fileno() < 0:
            return
        try:
            self._h2.reset_stream(stream.number, _CANCEL)
        except h2.exceptions.StreamClosedError:  # they have reset it
            pass
        stream.ended = True
        try:
            self._socket.settimeout(0)  # where there is no room for it, the connection is given up
        except OSError:  # closed by a fork just now
            return
        self._flush(None)
        self._calling = False


def _reset(stream: _Stream, code: int | None) -> CommError:
    if code == _NOT_PROCESSED:
        return ConnectionLost(f"The daemon did not take the call {stream.method}.")
    return CommError(f"The daemon broke off the call {stream.method} (HTTP/2 error {code}).")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
